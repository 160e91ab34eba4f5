package file

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// TestModel does to real files what programs and logrotate do, in any order with
// what the agent does, crashes included, and accounts for every byte.
//
// The model knows what each file held, from one truncation to the next, and how far
// each of these contents was read and delivered. So it can tell of each record
// whether its bytes stand where it says, and of each byte whether it had to come:
//
//   - A stream gives the bytes of one content, all of them in their order, from its
//     beginning, or from the position that is durable: nothing is torn, left out or
//     read twice in one run.
//   - What a crash makes the agent read again is what was not durable, nothing more.
//   - All that was written arrives, but for bytes that were truncated away or lost
//     their last name before they were read, or before a crash could remember them.
//   - What is counted as lost was lost, and all is counted that a poll had seen.
func TestModel(t *testing.T) {
	var actions atomic.Int64
	eachFileSystem(t, func(t *testing.T, dir string) {
		rapid.Check(t, func(rt *rapid.T) { runModel(t, rt, dir, &actions) })
	})
	t.Logf("%d actions", actions.Load())
}

// TestModelSeeds runs what once found a bug.
func TestModelSeeds(t *testing.T) {
	for name, value := range map[string]string{"rapid.checks": "10", "rapid.steps": "40"} {
		setFlag(t, name, value)
	}
	dir := t.TempDir()
	openToAll(t, dir)
	for _, seed := range []uint64{
		3378652654559536702,  // a link with the inode number of a removed file kept another from being read
		10742186896078731765, // a line without its end, rewritten without one behind it
		13891165929871006737, // a link that moved on while the agent was stopped
		9682840756383616592,  // a file that lost its name while it yielded
		6696587556263344684,  // one that was truncated while it yielded
		12513897361567570908, // a file without a name that matches got no descriptor
	} {
		setFlag(t, "rapid.seed", strconv.FormatUint(seed, 10))
		rapid.Check(t, func(rt *rapid.T) { runModel(t, rt, dir, new(atomic.Int64)) })
	}
}

// setFlag changes a flag of rapid until the test ends.
func setFlag(t *testing.T, name, value string) {
	t.Helper()
	before := flag.Lookup(name).Value.String()
	mustDo(t, flag.Set(name, value))
	t.Cleanup(func() { mustDo(t, flag.Set(name, before)) })
}

// maxModelLine is max_line in the model: some lines are longer.
const maxModelLine = 6000

// model is the folder, the agent, and what must come of both.
type model struct {
	*rapid.T
	t       *testing.T
	dir     string
	clock   time.Time
	actions *atomic.Int64
	// attentive: the agent polls before and after everything that takes bytes away,
	// so that all it loses is counted.
	attentive bool
	waited    bool // a file was gone before its turn came
	copies    bool // copies are true ones: what is cut may be read from them, and how much is lost is not known here
	closeIdle time.Duration
	mostOpen  int

	names map[string]*thing // what the folder holds
	link  string            // the name that current.log leads to; "" before there is one
	all   []*thing
	count int

	run       int // of the agent
	positions sourcetest.Positions
	source    *Source
	discovers *discoverer
	tailer    *tailer
	readings  map[record.Stream]*reading
	order     []*reading // the same, as they began

	counted map[string]*bounds // bytes lost, by reason
	got     map[string]int     // as the agent counted them
}

// bounds hold what the agent may count as lost: what it must have seen, and what
// really was lost.
type bounds struct{ least, most int }

func runModel(t *testing.T, rt *rapid.T, root string, actions *atomic.Int64) {
	runtime.LockOSThread() // one thread changes its rights
	defer runtime.UnlockOSThread()
	dir, err := os.MkdirTemp(root, "model")
	mustDo(t, err)
	mustDo(t, os.Chmod(dir, 0o755))
	m := &model{
		T: rt, t: t, dir: dir, clock: time.Now(), actions: actions,
		names: make(map[string]*thing), positions: sourcetest.Positions{},
		counted: map[string]*bounds{lostTruncated: {}, lostVanished: {}}, got: make(map[string]int),
	}
	m.attentive = rapid.Bool().Draw(rt, "attentive")
	m.closeIdle = rapid.SampledFrom([]time.Duration{0, 30 * time.Second}).Draw(rt, "close_idle")
	m.mostOpen = rapid.SampledFrom([]int{0, 2, 4}).Draw(rt, "max_open_files")
	m.copies = rapid.Bool().Draw(rt, "true copies")
	m.begin()
	defer m.end()
	rt.Repeat(m.steps())
	m.quiesce()
	m.account()
}

// steps names what may happen. What happens often in life is there more than once.
func (m *model) steps() map[string]func(*rapid.T) {
	steps := map[string]func(){
		"write": m.write, "write 2": m.write, "write 3": m.write,
		"write part": m.writePart, "write late": m.writeLate,
		"open a writer": m.openWriter, "close a writer": m.closeWriter,
		"rename away": func() { m.rename("old-%d") }, "rename": func() { m.rename("r%d.log") },
		"rename and create": m.rotate,
		"exchange names":    m.exchange, "replace by rename": m.replace,
		"hard link": m.hardLink, "move the link": m.moveLink,
		"copy": m.copy, "copytruncate": m.copyTruncate,
		"truncate": m.truncate, "rewrite": m.rewrite, "rewrite to the same size": m.rewriteSame,
		"delete": m.remove, "delete and create": m.recreate,
		"forbid reading": func() { m.chmod(0) }, "allow reading": func() { m.chmod(0o644) },
		"poll": m.pollOnce, "poll 2": m.pollOnce, "poll 3": m.pollOnce, "event": m.event, "turns": m.turns,
		"read": m.read, "read 2": m.read, "read 3": m.read,
		"deliver": m.deliver, "deliver 2": m.deliver,
		"commit": m.commit, "commit 2": m.commit,
		"crash": m.crash,
	}
	labelled := map[string]func(*rapid.T){"": func(*rapid.T) { m.settle() }}
	for name, step := range steps {
		labelled[name] = func(*rapid.T) {
			step()
			m.actions.Add(1)
		}
	}
	return labelled
}

// begin is a start of the agent, without its goroutines.
func (m *model) begin() {
	config := configOf(filepath.Join(m.dir, "*.log"))
	config.Saved = m.positions.Saved()
	config.MaxLine = maxModelLine
	config.FollowSymlinks = true
	config.CloseIdle, config.MaxOpenFiles = m.closeIdle, m.mostOpen
	config.Now = func() time.Time { return m.clock }
	m.run++
	m.source = newSource(m.t, config)
	m.discovers = newDiscoverer(m.source, 1)
	m.tailer = newTailer(m.source, m, m.discovers.inboxes[0], m.discovers.room)
	m.readings, m.order = make(map[record.Stream]*reading), nil
	for _, th := range m.all {
		th.begin(m.positions[m.source.key(th.id)] != nil)
	}
}

func (m *model) end() {
	m.source.Close()
	for _, th := range m.all {
		th.closeWriter()
	}
	os.RemoveAll(m.dir)
}

func (m *model) must(err error) {
	if err != nil {
		m.Fatal(err)
	}
}

// agent does something with the rights of a user who may be kept from reading.
func (m *model) agent(step func()) {
	if os.Geteuid() == 0 {
		m.must(unix.Setfsuid(65534))
		defer func() { m.must(unix.Setfsuid(0)) }()
	}
	step()
}

func (m *model) pollOnce() {
	m.poll(rapid.SampledFrom([]time.Duration{0, time.Second, 4 * time.Second, time.Minute}).Draw(m.T, "pause"))
}

func (m *model) poll(after time.Duration) {
	m.clock = m.clock.Add(after)
	m.agent(func() { m.discovers.poll(m.clock) })
	m.looked()
	m.restarted()
}

// turns opens what waits for descriptors that have become free.
func (m *model) turns() {
	m.agent(func() { m.discovers.turns(m.clock) })
	m.looked()
}

// read lets the tailer make one batch.
func (m *model) read() {
	m.tailer.take()
	if m.tailer.ready.len() > 0 {
		m.agent(func() { m.must(m.tailer.turn(context.Background())) })
	}
	m.agent(func() { m.discovers.recut(m.clock) })
	m.looked()
	m.restarted()
}

// deliver resolves the next records of one stream. Streams resolve in any order.
func (m *model) deliver() {
	var open []*reading
	for _, r := range m.order {
		if len(r.ends) > 0 {
			open = append(open, r)
		}
	}
	if len(open) == 0 {
		m.Skip("nothing to deliver")
	}
	r := rapid.SampledFrom(open).Draw(m.T, "stream")
	m.delivered(r, rapid.IntRange(1, len(r.ends)).Draw(m.T, "records"))
}

// crash ends the agent at once: what it held in memory is gone.
func (m *model) crash() {
	m.forget()
	m.source.Close()
	m.begin()
}

// quiesce gives the agent time to end all it has begun.
func (m *model) quiesce() {
	for _, th := range m.all {
		th.closeWriter()
		for name, other := range m.names {
			if other == th {
				m.must(os.Chmod(m.path(name), 0o644))
			}
		}
	}
	for n := 0; n < 5 || len(m.discovers.queue) > 0; n++ {
		if n > 500 {
			m.Fatalf("%d files wait for ever to be opened", len(m.discovers.queue))
		}
		m.poll(time.Minute)
		for m.tailer.take(); m.tailer.ready.len() > 0; m.tailer.take() {
			m.read()
		}
		for _, r := range m.order {
			m.delivered(r, len(r.ends))
		}
		m.settle()
	}
	m.commit()
	m.poll(time.Minute)
	m.read()
	m.settle()
}

// NewBatch implements record.Lane.
func (m *model) NewBatch(_ context.Context, size int) (*record.Batch, error) {
	b := &record.Batch{Topics: []string{"test"}}
	b.Value.AddBlock(make([]byte, 0, size))
	return b, nil
}

// Submit implements record.Lane.
func (m *model) Submit(_ context.Context, b *record.Batch) error {
	for i := range b.Rows() {
		m.arrived(b.RunOf(i).Stream, b.Value.Bytes(i), int(b.Offsets[i]), int(b.Ends[i]))
	}
	return nil
}

// Discard implements record.Lane.
func (m *model) Discard(*record.Batch) {}
