package file

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// life drives the steps of a source with a clock of its own.
type life struct {
	*steps
	clock time.Time
}

func newLife(t *testing.T, change func(*Config)) *life {
	return &life{steps: newStepsWith(t, change), clock: time.Now()}
}

func (l *life) path(name string) string { return filepath.Join(l.dir, name) }

func (l *life) write(name, content string) { appendTo(l.t, l.path(name), content) }

// pass lets time go by, with the polls and reads that it takes for all consequences.
func (l *life) pass(d time.Duration) {
	l.clock = l.clock.Add(d)
	for range 4 {
		l.discoverer.poll(l.clock)
		l.readAll()
	}
}

func (l *life) deliver() { l.lane.Deliver(1 << 30) }

func (l *life) expect(values ...string) {
	l.t.Helper()
	if got := l.lane.Values(); !slices.Equal(got, values) {
		l.t.Fatalf("read %q, expected %q", got, values)
	}
}

// states returns "name state" of all files, in order.
func (l *life) states() string {
	var all []string
	for _, f := range l.source.Status() {
		all = append(all, filepath.Base(f.Path)+" "+f.State)
	}
	return strings.Join(all, ", ")
}

func (l *life) expectStates(want string) {
	l.t.Helper()
	if got := l.states(); got != want {
		l.t.Fatalf("files are %q, expected %q", got, want)
	}
}

// closed makes a.log with one delivered line a file at rest.
func (l *life) closed() {
	l.t.Helper()
	l.write("a.log", "one\n")
	l.pass(0)
	l.deliver()
	l.pass(time.Hour)
	l.expectStates("a.log at rest")
}

func closing(c *Config) { c.CloseIdle = 5 * time.Minute }

func TestAnIdleFileIsClosedOnlyWhenAllIsDelivered(t *testing.T) {
	l := newLife(t, closing)
	l.write("a.log", "one\ntwo\n")
	l.pass(0)
	l.lane.Deliver(1)
	l.pass(time.Hour)
	l.expectStates("a.log open")
	l.deliver()
	l.pass(time.Second)
	l.expectStates("a.log at rest")
	if s := l.source.Status()[0]; s.Delivered != 8 || s.Lag != 0 {
		t.Errorf("%+v", s)
	}
	l.write("a.log", "three\n")
	l.pass(time.Second)
	l.expectStates("a.log open")
	l.expect("one", "two", "three")
}

func TestALineWithoutAnEndKeepsAnIdleFileOpen(t *testing.T) {
	l := newLife(t, closing)
	l.write("a.log", "one\npart")
	l.pass(0)
	l.deliver()
	l.pass(time.Hour)
	l.expectStates("a.log open")
	l.write("a.log", " of it\n")
	l.pass(0)
	l.expect("one", "part of it")
}

// TestWhatHappensToAFileAtRest changes a file that is closed in every way.
func TestWhatHappensToAFileAtRest(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(l *life)
		want []string // beside the first line
		lost int
	}{
		"appended":                {func(l *life) { l.write("a.log", "two\n") }, []string{"two"}, 0},
		"touched":                 {func(l *life) { mustDo(l.t, os.Chtimes(l.path("a.log"), time.Now(), time.Now())) }, nil, 0},
		"renamed inside the glob": {func(l *life) { mustDo(l.t, os.Rename(l.path("a.log"), l.path("b.log"))) }, nil, 0},
		"renamed inside the glob, and written": {func(l *life) {
			mustDo(l.t, os.Rename(l.path("a.log"), l.path("b.log")))
			l.write("b.log", "two\n")
		}, []string{"two"}, 0},
		"written, renamed outside the glob": {func(l *life) {
			l.write("a.log", "two\n")
			mustDo(l.t, os.Rename(l.path("a.log"), l.path("a.log.1")))
		}, []string{"two"}, 0},
		"renamed outside the glob, and written much later": {func(l *life) {
			mustDo(l.t, os.Rename(l.path("a.log"), l.path("a.log.1")))
			l.pass(10 * time.Minute)
			l.write("a.log.1", "two\n")
			l.pass(2 * sweepInterval)
		}, []string{"two"}, 0},
		"rotated, and a new one made": {func(l *life) {
			l.write("a.log", "two\n")
			mustDo(l.t, os.Rename(l.path("a.log"), l.path("a.log.1")))
			l.write("a.log", "new\n")
		}, []string{"new", "two"}, 0},
		"replaced": {func(l *life) {
			l.write("other", "new\n")
			mustDo(l.t, os.Rename(l.path("other"), l.path("a.log")))
		}, []string{"new"}, 0},
		"removed and made anew": {func(l *life) {
			mustDo(l.t, os.Remove(l.path("a.log")))
			l.write("a.log", "new\n")
		}, []string{"new"}, 0},
		"truncated": {func(l *life) { mustDo(l.t, os.Truncate(l.path("a.log"), 0)); l.write("a.log", "2\n") }, []string{"2"}, 0},
		"rewritten to the same size": {func(l *life) {
			mustDo(l.t, os.WriteFile(l.path("a.log"), []byte("two\n"), 0o600))
		}, []string{"two"}, 0},
		"removed": {func(l *life) { mustDo(l.t, os.Remove(l.path("a.log"))) }, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t, closing)
			l.closed()
			c.do(l)
			l.pass(time.Second)
			l.pass(time.Second)
			got := l.lane.Values()[1:]
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("read %q after the first line, expected %q", got, c.want)
			}
			l.deliver()
			l.pass(2 * sweepInterval)
			for _, f := range l.source.Status() {
				if f.Lag > 0 {
					t.Errorf("%+v lags", f)
				}
			}
		})
	}
}

// TestAFileAtRestIsForgottenWithItsInode lets nothing pile up for files that are gone.
func TestAFileAtRestIsForgottenWithItsInode(t *testing.T) {
	l := newLife(t, closing)
	positions := sourcetest.Positions{}
	l.closed()
	positions.Commit(l.source)
	mustDo(t, os.Remove(l.path("a.log")))
	l.pass(time.Second)
	positions.Commit(l.source)
	l.expectStates("")
	if len(positions) != 1 || len(l.discoverer.orphans)+len(l.discoverer.beds) > 0 { // that the source was started
		t.Errorf("left are positions %q, orphans %v", positions, l.discoverer.orphans)
	}
}

func TestAnEventOpensAFileAtRest(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.CloseIdle, r.config.PollInterval = time.Millisecond, 100*time.Millisecond
	r.write("a.log", "one\n")
	r.start()
	for n := range 5 {
		r.lane.Wait(n + 1)
		r.lane.Deliver(1 << 30)
		sourcetest.Eventually(t, func() bool { return countState(r.source, FileAtRest) == 1 }, "a file at rest")
		r.write("a.log", fmt.Sprintf("%d\n", n))
	}
	r.expect("one", "0", "1", "2", "3", "4")
}

func TestIgnoreOlder(t *testing.T) {
	const most = time.Hour
	old, young := time.Now().Add(-2*most), time.Now().Add(-most/2)
	for name, c := range map[string]struct {
		modified time.Time
		want     string
	}{
		"old":           {old, "a.log ignored"},
		"young":         {young, "a.log open"},
		"of the future": {time.Now().AddDate(14, 0, 0), "a.log open"},
		"of 1970":       {time.Unix(0, 0), "a.log ignored"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t, func(c *Config) { c.IgnoreOlder = most })
			l.write("a.log", "one\n")
			mustDo(t, os.Chtimes(l.path("a.log"), c.modified, c.modified))
			l.pass(0)
			l.expectStates(c.want)
			l.write("a.log", "two\n")
			l.pass(time.Second)
			l.expect("one", "two")
			l.expectStates("a.log open")
		})
	}
}

// TestIgnoredFilesKeepTheirPosition restarts over files that are old by then.
func TestIgnoredFilesKeepTheirPosition(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.IgnoreOlder = time.Hour
	old := time.Now().Add(-2 * time.Hour)
	r.write("a.log", "a1\n")
	r.write("b.log", "b1\nb2\n")
	r.start()
	r.lane.Wait(3)
	r.commit()
	r.write("b.log", "b3\n") // not delivered
	r.lane.Wait(4)
	r.crash()
	for _, name := range []string{"a.log", "b.log"} {
		r.must(os.Chtimes(r.path(name), old, old))
	}
	r.start()
	r.expect("b3")
	sourcetest.Eventually(t, func() bool { return countState(r.source, FileIgnored) == 1 }, "a.log is ignored")
	r.must(os.Chtimes(r.path("a.log"), time.Now(), time.Now()))
	sourcetest.Eventually(t, func() bool { return countState(r.source, FileOpen) == 2 }, "a.log is opened")
	r.write("a.log", "a2\n")
	r.expect("b3", "a2")
}

func TestAStepOfTheClockMakesNoFileOld(t *testing.T) {
	began := time.Now()
	written := began.Add(time.Minute).UnixNano()
	now := began.Add(2 * time.Minute)
	if isOlder(written, now, began, time.Hour) {
		t.Error("a file of a minute ago is old")
	}
	if !isOlder(began.Add(-2*time.Hour).UnixNano(), now, began, time.Hour) {
		t.Error("a file of two hours ago is not old")
	}
	for name, stepped := range map[string]time.Time{"forward": began.AddDate(1, 0, 0), "back": began.AddDate(-1, 0, 0)} {
		if isOlderAt(written, stepped, began, 2*time.Minute, time.Hour) {
			t.Errorf("a step %s makes it old", name)
		}
	}
}

func withLog(log *slog.Logger, most int) func(*Config) {
	return func(c *Config) { c.MaxOpenFiles, c.Logger = most, log }
}

func TestMoreFilesThanDescriptorsTakeTurns(t *testing.T) {
	const files, most = 50, 3
	r := newRig(t, "*.log")
	r.config.MaxOpenFiles = most
	for n := range files {
		r.write(fmt.Sprintf("%02d.log", n), fmt.Sprintf("%d first\n", n))
	}
	r.start()
	deliverAll := func(count int) {
		sourcetest.Eventually(t, func() bool {
			r.lane.Deliver(1 << 30)
			if n := countState(r.source, FileOpen); n > most {
				t.Errorf("%d files are open", n)
			}
			return len(r.lane.Values()) >= count
		}, "%d lines", count)
	}
	deliverAll(files)
	for n := range files {
		r.write(fmt.Sprintf("%02d.log", n), fmt.Sprintf("%d second\n", n))
	}
	deliverAll(2 * files)
	got := r.lane.Values()
	slices.Sort(got)
	if len(slices.Compact(got)) != 2*files {
		t.Errorf("%d values: %q", len(got), got)
	}
}

// TestBigFilesDoNotStarveSmallOnes has two files that never end for two descriptors.
func TestBigFilesDoNotStarveSmallOnes(t *testing.T) {
	l := newLife(t, func(c *Config) { c.MaxOpenFiles = 2 })
	grow := func() {
		for _, name := range []string{"big1.log", "big2.log"} {
			l.write(name, strings.Repeat("x\n", 100))
		}
	}
	grow()
	l.write("small1.log", "small\n")
	l.write("small2.log", "small\n")
	for range 10 {
		grow()
		l.clock = l.clock.Add(turnTime)
		l.discoverer.poll(l.clock)
		l.discoverer.turns(l.clock)
		grow() // there is always more
		l.readAll()
		l.deliver()
	}
	if got := l.lane.Values(); len(slices.DeleteFunc(slices.Clone(got), func(v string) bool { return v != "small" })) != 2 {
		t.Errorf("the small files were not read, %d other lines were: %s", len(got), l.states())
	}
	for range 5 {
		l.pass(turnTime)
		l.deliver()
	}
	if n := len(l.lane.Values()); n != 2+2*21*100 {
		t.Errorf("%d lines", n)
	}
}

// TestHeldFilesWithoutANameExhaustTheLimit keeps reading them, and says what waits.
func TestHeldFilesWithoutANameExhaustTheLimit(t *testing.T) {
	logged := &countingHandler{Handler: slog.DiscardHandler}
	l := newLife(t, withLog(slog.New(logged), 2))
	for _, name := range []string{"a.log", "b.log"} {
		l.write(name, "one\n")
	}
	l.pass(0)
	for _, name := range []string{"a.log", "b.log"} {
		mustDo(t, os.Remove(l.path(name)))
		l.write("new "+name, "new\n")
	}
	l.pass(time.Minute)
	l.expect("one", "one")
	if l.source.Problem() == "" || logged.count(slog.LevelError) != 1 {
		t.Errorf("problem %q, %d errors logged: %s", l.source.Problem(), logged.count(slog.LevelError), l.states())
	}
	if n := countState(l.source, FileWaits); n != 2 {
		t.Errorf("%d files wait", n)
	}
	l.deliver()
	l.pass(time.Minute)
	l.expect("one", "one", "new", "new")
	if problem := l.source.Problem(); problem != "" {
		t.Errorf("the problem is still %q", problem)
	}
}

// TestAWaitingFileThatIsRotatedAway is still read, and one that is gone is counted.
func TestAWaitingFileThatIsRotatedAway(t *testing.T) {
	l := newLife(t, func(c *Config) { c.MaxOpenFiles = 1 })
	for _, name := range []string{"a.log", "b.log", "c.log"} {
		l.write(name, name+"\n")
	}
	l.pass(0)
	l.expect("a.log")
	mustDo(t, os.Rename(l.path("b.log"), l.path("b.log.1")))
	mustDo(t, os.Remove(l.path("c.log")))
	l.pass(time.Second)
	l.deliver()
	l.pass(time.Minute)
	l.deliver()
	l.pass(time.Minute)
	l.expect("a.log", "b.log")
	r := &rig{T: t, source: l.source}
	if n := r.lost(lostUnopened); n != len("c.log\n") {
		t.Errorf("%d bytes are counted as lost", n)
	}
}

func TestOnceReadsMoreFilesThanDescriptors(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.MaxOpenFiles, r.config.Once = 2, true
	var want []string
	for n := range 20 {
		want = append(want, fmt.Sprintf("%02d", n))
		r.write(want[n]+".log", want[n])
	}
	r.start()
	sourcetest.Eventually(t, func() bool { r.lane.Deliver(1 << 30); return len(r.lane.Values()) == 20 }, "all files")
	if err := r.running.Wait(); err != nil {
		t.Error(err)
	}
	got := r.lane.Values()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("read %q", got)
	}
}
