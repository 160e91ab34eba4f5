package file

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// TestAgainstWritersAtFullSpeed runs the whole source against programs that write
// without a pause while their files are rotated in every way, with crashes between,
// after which the last positions that were committed count. Each line is numbered
// and sealed: all arrive whole and in order, but for those that stood in no copy when
// their file was truncated.
func TestAgainstWritersAtFullSpeed(t *testing.T) {
	r := newRig(t, "*.log")
	book := &ledger{arrived: make(map[string]int), last: make(map[record.Stream]int)}
	programs := []*program{
		{name: "away", rotate: (*program).renameAway},
		{name: "beside", rotate: (*program).renameBeside},
		{name: "copied", rotate: (*program).copyTruncate},
	}
	const runs = 3
	var saving sync.Mutex
	save := func() {
		saving.Lock()
		defer saving.Unlock()
		r.positions.Commit(r.source)
	}
	for run := range runs {
		book.restart()
		r.startOn(&courier{book: book}, &courier{book: book})
		stop := make(chan struct{})
		var background sync.WaitGroup
		background.Go(func() { // as the agent does, more often
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
					save()
				}
			}
		})
		var writers sync.WaitGroup
		for _, p := range programs {
			writers.Go(func() { p.run(r, save) })
		}
		writers.Wait()
		if run == runs-1 {
			book.await(t, programs)
		}
		close(stop)
		background.Wait()
		save() // what was never committed can't be found under another name
		r.crash()
	}
	book.check(t, programs)
}

// program writes lines to one file, which is rotated meanwhile.
type program struct {
	name    string
	rotate  func(*program, *rig) // by another process, as it were
	writing sync.Mutex           // held for a write, and by what must know all writes
	file    *os.File
	written int
	turns   int
	begins  int          // the first line of the file
	excused map[int]bool // lines that no file held after a rotation
	content *content     // the agent's view of the file at the last rotation
}

const (
	linesPerRun = 6000
	filler      = 100
)

func (p *program) line(n int) string {
	text := fmt.Sprintf("%s %d %s", p.name, n, strings.Repeat("x", n%filler))
	return fmt.Sprintf("%s %08x", text, crc32.ChecksumIEEE([]byte(text)))
}

// run writes the lines of one run, and has the file rotated again and again.
// What was never committed of a content can't be found in its copy after a crash.
func (p *program) run(r *rig, save func()) {
	if p.file == nil {
		p.open(r)
		p.excused = make(map[int]bool)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range linesPerRun {
			p.writing.Lock()
			p.written++
			_, err := p.file.WriteString(p.line(p.written) + "\n")
			p.writing.Unlock()
			if err != nil {
				r.Error(err)
			}
		}
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			if p.isFollowed(r) { // else its file may be gone before anybody knows of it
				save()
				p.rotate(p, r)
			}
		}
	}
}

// isFollowed reports that the agent reads what the file holds since the last rotation.
func (p *program) isFollowed(r *rig) bool {
	info, err := os.Stat(r.path(p.name + ".log"))
	if err != nil {
		return false
	}
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	for f := range r.source.files {
		if f.identity.inode == inodeOf(info) {
			f.mu.Lock()
			seen := f.cursor > 0 && f.content != p.content
			if seen {
				p.content = f.content
			}
			f.mu.Unlock()
			return seen
		}
	}
	return false
}

func (p *program) open(r *rig) {
	if p.file != nil {
		p.file.Close()
	}
	var err error
	p.file, err = os.OpenFile(r.path(p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.Error(err)
	}
}

// renameAway is what logrotate does: the program writes on in the renamed file
// until it opens the new one.
func (p *program) renameAway(r *rig) { p.renamed(r, "old-%s-%d") }

func (p *program) renameBeside(r *rig) { p.renamed(r, "%s-%d.log") }

func (p *program) renamed(r *rig, format string) {
	p.turns++
	if err := os.Rename(r.path(p.name+".log"), r.path(fmt.Sprintf(format, p.name, p.turns))); err != nil {
		r.Error(err)
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	p.open(r)
}

// copyTruncate takes away what was written after the copy was made.
func (p *program) copyTruncate(r *rig) {
	p.turns++
	from, err := os.Open(r.path(p.name + ".log"))
	if err != nil {
		r.Error(err)
		return
	}
	defer from.Close()
	content, err := io.ReadAll(from)
	if err == nil {
		err = os.WriteFile(r.path(fmt.Sprintf("%s.log.%d", p.name, p.turns)), content, 0o600)
	}
	if err != nil {
		r.Error(err)
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	copied := strings.Count(string(content), "\n")
	for n := p.begins + copied + 1; n <= p.written; n++ {
		p.excused[n] = true
	}
	p.begins = p.written
	if err := p.file.Truncate(0); err != nil {
		r.Error(err)
	}
}

// ledger is what arrived.
type ledger struct {
	mu      sync.Mutex
	arrived map[string]int // times, by line
	last    map[record.Stream]int
	wrong   []string
}

func (l *ledger) restart() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.last)
}

func (l *ledger) enter(stream record.Stream, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arrived[value]++
	fields := strings.Fields(value)
	text := value[:max(0, len(value)-9)]
	if len(fields) < 3 || fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text))) != fields[len(fields)-1] {
		l.wrong = append(l.wrong, "torn: "+value)
		return
	}
	n, err := strconv.Atoi(fields[1])
	if err != nil || n <= l.last[stream] {
		l.wrong = append(l.wrong, fmt.Sprintf("behind line %d: %s", l.last[stream], value))
	}
	l.last[stream] = n
}

// await waits for all lines that have to arrive.
func (l *ledger) await(t *testing.T, programs []*program) {
	for _, p := range programs {
		for n := range p.written {
			if !p.excused[n+1] {
				sourcetest.Eventually(t, func() bool { return l.has(p.line(n + 1)) }, "line %d of %s", n+1, p.name)
			}
		}
	}
}

func (l *ledger) has(line string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.arrived[line] > 0
}

func (l *ledger) check(t *testing.T, programs []*program) {
	for i, wrong := range l.wrong {
		if i == 10 {
			break
		}
		t.Errorf("%.120s", wrong)
	}
	for _, p := range programs {
		p.file.Close()
		t.Logf("%s: %d lines, %d rotations, %d lines were in no copy", p.name, p.written, p.turns, len(p.excused))
	}
}

// courier is a lane that delivers what it gets soon after.
type courier struct {
	book *ledger
	mu   sync.Mutex
	sent []func()
}

func (c *courier) NewBatch(ctx context.Context, size int) (*record.Batch, error) {
	b := &record.Batch{Topics: []string{"test"}}
	b.Value.AddBlock(make([]byte, 0, size))
	return b, ctx.Err()
}

// Submit delivers the batch before.
func (c *courier) Submit(ctx context.Context, b *record.Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range b.Rows() {
		c.book.enter(b.RunOf(i).Stream, string(b.Value.Bytes(i)))
	}
	for _, deliver := range c.sent {
		deliver()
	}
	c.sent = c.sent[:0]
	for i := range b.Rows() {
		stream, end := b.RunOf(i).Stream, b.Ends[i]
		c.sent = append(c.sent, func() { stream.Delivered(end) })
	}
	return ctx.Err()
}

func (c *courier) Discard(*record.Batch) {}
