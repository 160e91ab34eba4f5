package file

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// TestModel does to real files what programs and logrotate do, in any order with
// what the agent does, crashes included, and accounts for every line.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "model")
		if err != nil {
			rt.Fatal(err)
		}
		m := &model{T: rt, t: t, dir: dir, clock: time.Now(), writable: make(map[string]*body), positions: sourcetest.Positions{}, lines: make(map[string]*line)}
		m.begin()
		defer func() { m.source.Close(); os.RemoveAll(dir) }()
		rt.Repeat(map[string]func(*rapid.T){
			"write":        m.write,
			"write again":  m.write,
			"write a part": m.writePart,
			"rename away":  func(*rapid.T) { m.rotate("old-%d") },
			"rename":       func(*rapid.T) { m.rotate("r%d.log") },
			"truncate":     func(*rapid.T) { m.truncate() },
			"delete":       func(*rapid.T) { m.remove() },
			"poll": func(*rapid.T) {
				m.poll(rapid.SampledFrom([]time.Duration{time.Second, 4 * time.Second, time.Minute}).Draw(rt, "pause"))
			},
			"read":       func(*rapid.T) { m.read() },
			"read again": func(*rapid.T) { m.read() },
			"deliver":    func(*rapid.T) { m.deliver(rapid.IntRange(1, 10).Draw(rt, "records")) },
			"commit":     func(*rapid.T) { m.commit() },
			"crash":      func(*rapid.T) { m.crash() },
		})
		m.quiesce()
		m.account()
	})
}

// line is one line that was written, or the part of one that nothing will end.
type line struct {
	text      string
	number    int
	must      bool // it must arrive
	most      int  // times that it may arrive
	read      bool // in this run
	acked     bool // in this run
	delivered bool
	durable   bool // its delivery is committed
}

// body is the content of one file since its last truncation.
type body struct {
	name  string // "" when deleted
	gone  bool   // no restart can find it
	part  string // written of a line that is not ended
	lines []*line
}

type model struct {
	*rapid.T
	t         *testing.T
	dir       string
	clock     time.Time
	positions sourcetest.Positions

	writable map[string]*body // by name
	retired  []*body          // rotated or deleted
	lines    map[string]*line
	count    int

	source     *Source
	discoverer *discoverer
	tailer     *tailer
	lane       *sourcetest.Lane
	taken      int // records of the lane that were looked at
}

// begin is a start of the agent, without its goroutines.
func (m *model) begin() {
	config := configOf(filepath.Join(m.dir, "*.log"))
	config.Saved = m.positions.Saved()
	config.Now = func() time.Time { return m.clock }
	m.source = newSource(m.t, config)
	m.discoverer = newDiscoverer(m.source, 1)
	m.lane = sourcetest.NewLane(m.t)
	m.tailer = &tailer{source: m.source, lane: m.lane, inbox: m.discoverer.inboxes[0]}
	m.taken = 0
}

func (m *model) must(err error) {
	if err != nil {
		m.Fatal(err)
	}
}

func (m *model) newLine() *line {
	m.count++
	text := fmt.Sprintf("%05d%s", m.count, strings.Repeat("x", rapid.IntRange(0, 80).Draw(m.T, "length")))
	l := &line{text: text, number: m.count, must: true, most: 1}
	return l
}

func (m *model) pick() (string, *body) {
	names := make([]string, 0, len(m.writable))
	for name := range m.writable {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) == 0 {
		m.Skip("no file")
	}
	name := rapid.SampledFrom(names).Draw(m.T, "file")
	return name, m.writable[name]
}

func (m *model) writableBody() *body {
	name := rapid.SampledFrom([]string{"a.log", "b.log"}).Draw(m.T, "file")
	if m.writable[name] == nil {
		m.writable[name] = &body{name: name}
	}
	return m.writable[name]
}

func (m *model) write(*rapid.T) {
	b := m.writableBody()
	var content strings.Builder
	for range rapid.IntRange(1, 4).Draw(m.T, "lines") {
		l := m.newLine()
		if b.part != "" {
			content.WriteString(l.text)
			l.text = b.part + l.text
			b.part = ""
		} else {
			content.WriteString(l.text)
		}
		content.WriteByte('\n')
		m.lines[l.text] = l
		b.lines = append(b.lines, l)
	}
	appendTo(m.t, filepath.Join(m.dir, b.name), content.String())
}

func (m *model) writePart(*rapid.T) {
	b := m.writableBody()
	part := m.newLine().text
	if b.part != "" {
		part = "+more"
	}
	b.part += part
	appendTo(m.t, filepath.Join(m.dir, b.name), part)
}

// endPart accounts for a part that nothing will end: it may arrive, once per run.
func (m *model) endPart(b *body) {
	if b.part != "" {
		m.count++
		l := &line{text: b.part, number: m.count, most: 1}
		m.lines[l.text] = l
		b.lines = append(b.lines, l)
		b.part = ""
	}
}

func (m *model) rotate(format string) {
	name, b := m.pick()
	m.count++
	to := fmt.Sprintf(format, m.count)
	if m.isFollowed(b) || !strings.HasPrefix(to, "old") {
		m.must(os.Rename(filepath.Join(m.dir, name), filepath.Join(m.dir, to)))
	} else {
		saved := m.isSaved(b)
		m.must(os.Rename(filepath.Join(m.dir, name), filepath.Join(m.dir, to)))
		if !saved {
			m.loseUndelivered(b) // it was never seen
		}
	}
	b.name = to
	m.endPart(b)
	delete(m.writable, name)
	m.retired = append(m.retired, b)
}

func (m *model) remove() {
	name, b := m.pick()
	if !m.isFollowed(b) {
		m.loseUndelivered(b)
	}
	m.must(os.Remove(filepath.Join(m.dir, name)))
	b.name, b.gone = "", true
	m.endPart(b)
	delete(m.writable, name)
	m.retired = append(m.retired, b)
}

func (m *model) truncate() {
	name, b := m.pick()
	for _, l := range b.lines {
		if !l.read && !l.delivered {
			l.must = false
		}
	}
	m.must(os.Truncate(filepath.Join(m.dir, name), 0))
	b.gone, b.part = true, ""
	m.retired = append(m.retired, b)
	m.writable[name] = &body{name: name}
}

func (m *model) loseUndelivered(b *body) {
	for _, l := range b.lines {
		if !l.delivered {
			l.must = false
		}
	}
}

func (m *model) key(b *body) (identity, bool) {
	f, err := os.Open(filepath.Join(m.dir, b.name))
	if b.name == "" || err != nil {
		return identity{}, false
	}
	defer f.Close()
	l, err := lookAt(int(f.Fd()))
	m.must(err)
	return identify(int(f.Fd()), l.inode), true
}

func (m *model) isFollowed(b *body) bool {
	id, ok := m.key(b)
	f := m.discoverer.tracked[id.inode]
	return ok && f != nil && f.identity == id
}

func (m *model) isSaved(b *body) bool {
	id, ok := m.key(b)
	return ok && m.positions[m.source.key(id)] != nil
}

func (m *model) poll(after time.Duration) {
	m.clock = m.clock.Add(after)
	m.discoverer.poll(m.clock)
}

// read lets the tailer make one batch.
func (m *model) read() {
	m.tailer.take()
	if m.tailer.ready.len() > 0 {
		m.must(m.tailer.turn(context.Background()))
	}
	records := m.lane.Records()
	for _, r := range records[m.taken:] {
		l := m.lines[r.Value]
		if l == nil {
			m.Fatalf("a line arrived that nobody wrote: %q", r.Value)
		}
		if l.most--; l.most < 0 {
			m.Fatalf("line %q arrived too often", l.text)
		}
		l.read = true
	}
	m.taken = len(records)
}

func (m *model) deliver(n int) {
	records := m.lane.Records()
	done := len(records) - m.lane.Undelivered()
	m.lane.Deliver(n)
	for _, r := range records[done:min(done+n, len(records))] {
		m.lines[r.Value].delivered, m.lines[r.Value].acked = true, true
	}
}

func (m *model) commit() {
	m.positions.Commit(m.source)
	for _, l := range m.lines {
		l.durable = l.durable || l.acked
	}
}

// crash loses what was read and not delivered; what the durable positions don't
// cover may arrive again.
func (m *model) crash() {
	m.source.Close()
	for _, b := range m.retired {
		if b.gone || strings.HasPrefix(b.name, "old") && !m.isSaved(b) {
			m.loseUndelivered(b)
		}
	}
	for _, l := range m.lines {
		if l.read && !l.durable {
			l.most++
		}
		l.read, l.acked = false, false
	}
	m.begin()
}

func (m *model) quiesce() {
	for range 4 {
		m.poll(time.Minute)
		for m.tailer.take(); m.tailer.ready.len() > 0; m.tailer.take() {
			m.read()
		}
		m.deliver(1 << 30)
	}
	m.commit()
	for range 2 {
		m.poll(time.Minute)
		m.read()
	}
	m.commit()
}

func (m *model) account() {
	all := mapValues(m.lines)
	slices.SortFunc(all, func(a, b *line) int { return a.number - b.number })
	for _, l := range all {
		if l.must && !l.delivered {
			m.Fatalf("line %q is missing", l.text)
		}
	}
	last := make(map[any]int)
	for _, r := range m.lane.Records() {
		l := m.lines[r.Value]
		if l.number <= last[r.Stream] {
			m.Errorf("line %q of %v came after number %d", l.text, r.Stream.Origin(), last[r.Stream])
		}
		last[r.Stream] = l.number
	}
	for _, s := range m.source.Status() {
		if s.Lag > 0 && !slices.ContainsFunc(m.parts(), func(part string) bool { return int64(len(part)) == s.Lag }) {
			m.Errorf("%+v lags after all was read", s)
		}
	}
	held := 0
	for _, b := range append(m.retired, mapValues(m.writable)...) {
		if b.name != "" {
			held++
		}
	}
	if open := len(m.source.Status()); open > held {
		m.Errorf("%d files are open, %d exist", open, held)
	}
}

// parts are the beginnings of lines that may still be ended.
func (m *model) parts() []string {
	var parts []string
	for _, b := range m.writable {
		parts = append(parts, b.part)
	}
	for _, b := range m.retired {
		for _, l := range b.lines {
			parts = append(parts, l.text) // renamed inside the glob before a crash: not known to be rotated
		}
	}
	return parts
}

func mapValues[V any](m map[string]V) []V {
	var all []V
	for _, b := range m {
		all = append(all, b)
	}
	return all
}
