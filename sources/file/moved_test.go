package file

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// TestMovedBelowItsFolderWhileStopped is how rotation with an olddir leaves a file.
func TestMovedBelowItsFolderWhileStopped(t *testing.T) {
	r := newRig(t, "a.log")
	r.write("a.log", "one\ntwo\n")
	r.start()
	r.expect("one", "two")
	r.lane.Deliver(1)
	r.positions.Commit(r.source)
	r.crash()
	r.write("a.log", "three\n")
	r.must(os.MkdirAll(r.path("old/2024"), 0o700))
	r.rename("a.log", "old/2024/a.log.1")
	r.write("a.log", "new\n")
	r.start()
	r.expect("two", "three", "new")
	r.commit()
	r.tracked("a.log")
	if lost := r.lost(lostVanished); lost != 0 {
		t.Errorf("%d bytes are counted as lost", lost)
	}
}

// TestMovedFurtherThanIsSearched is counted, and said.
func TestMovedFurtherThanIsSearched(t *testing.T) {
	r := newRig(t, "logs/a.log")
	r.must(os.Mkdir(r.path("logs"), 0o700))
	r.write("logs/a.log", "one\ntwo\n")
	r.start()
	r.expect("one", "two")
	r.lane.Deliver(1)
	r.positions.Commit(r.source)
	r.crash()
	r.rename("logs/a.log", "elsewhere")
	r.write("logs/a.log", "new\n")
	r.start()
	r.expect("new")
	if lost := r.lost(lostVanished); lost != len("two\n") {
		t.Errorf("%d bytes are counted as lost", lost)
	}
	e := r.source.Explain(r.path("logs/a.log"))
	if !slices.ContainsFunc(e.Decisions, func(d Decision) bool { return d.What == Vanished && d.Lost == 4 }) {
		t.Errorf("decisions: %+v", e.Decisions)
	}
}

// TestSearchBelowIsBounded has more folders than are looked at.
func TestSearchBelowIsBounded(t *testing.T) {
	r := newRig(t)
	for n := range 2 * maxBelowFolders {
		dir := r.path("x") + strings.Repeat("y", n)
		r.must(os.Mkdir(dir, 0o700))
		appendTo(t, dir+"/f", "")
	}
	l := takeCensus(r.dir)
	l.find(r.dir, inode{})
	if n := len(l.below); n != maxBelowFolders {
		t.Errorf("%d files were found below", n)
	}
}

// TestFileThatIsGoneBeforeItIsOpened is created and removed between two looks: an
// event told of it.
func TestFileThatIsGoneBeforeItIsOpened(t *testing.T) {
	m := newSteps(t)
	m.discoverer.poll(time.Now())
	count := func() int { return int(counterOf(t, m.source.config.Metrics.FilesUnopened.WithLabelValues("p"))) }
	m.discoverer.hint(fsnotify.Event{Name: m.dir + "/gone.log", Op: fsnotify.Create}, time.Now())
	m.discoverer.hint(fsnotify.Event{Name: m.dir + "/gone.txt", Op: fsnotify.Create}, time.Now())
	if n := count(); n != 1 {
		t.Errorf("%d files are counted", n)
	}
	appendTo(t, m.dir+"/seen.log", "never read\n")
	m.source.config.MaxOpenFiles = 1
	appendTo(t, m.dir+"/first.log", "one\n")
	m.discoverer.poll(time.Now()) // first.log takes the only descriptor
	mustDo(t, os.Remove(m.dir+"/seen.log"))
	m.discoverer.poll(time.Now())
	if n := count(); n != 2 {
		t.Errorf("%d files are counted", n)
	}
	if lost := lostBytes(t, m.source, lostUnopened); lost != len("never read\n") {
		t.Errorf("%d bytes are counted", lost)
	}
	if e := m.source.Explain(m.dir + "/gone.log"); len(e.Decisions) != 1 || e.Decisions[0].What != Unopened {
		t.Errorf("%+v", e)
	}
}

// TestSameFileThroughTwoSources: each reads it, by positions of its own.
func TestSameFileThroughTwoSources(t *testing.T) {
	r := newRig(t, "*.log")
	r.write("a.log", "one\n")
	r.start()
	r.expect("one")
	other := &rig{T: t, dir: r.dir, config: r.config, positions: r.positions}
	other.config.KeyPrefix = "p/1/"
	other.start()
	other.expect("one")
	r.commit()
	other.commit()
	r.crash()
	other.crash()
	r.write("a.log", "two\n")
	r.start()
	other.start()
	r.expect("two")
	other.expect("two")
}

// TestNamesExchangedAtOnce is renameat2 with RENAME_EXCHANGE: identities follow inodes.
func TestNamesExchangedAtOnce(t *testing.T) {
	r := newRig(t, "*.log")
	r.write("a.log", "a1\n")
	r.start()
	r.expect("a1")
	r.write("b.log", "b1\n")
	r.expect("a1", "b1")
	r.commit()
	r.must(unix.Renameat2(unix.AT_FDCWD, r.path("a.log"), unix.AT_FDCWD, r.path("b.log"), unix.RENAME_EXCHANGE))
	r.write("a.log", "b2\n")
	r.expect("a1", "b1", "b2")
	r.commit()
	r.crash()
	r.must(unix.Renameat2(unix.AT_FDCWD, r.path("a.log"), unix.AT_FDCWD, r.path("b.log"), unix.RENAME_EXCHANGE))
	r.write("a.log", "a2\n")
	r.start()
	r.expect("a2")
}

// TestGenerationsRenamedWhileStopped: predecessors are read before successors.
func TestGenerationsRenamedWhileStopped(t *testing.T) {
	for _, pattern := range []string{"a.log", "a.log*"} {
		r := newRig(t, pattern)
		old, want := linesOf("old", 0, 3000)
		r.write("a.log", old)
		r.blocked()
		r.sizes(len(old))
		r.positions.Commit(r.source)
		r.lane.Limit(1 << 20)
		r.lane.Wait(1)
		r.crash()
		r.rename("a.log", "a.log.1")
		young, more := linesOf("young", 0, 3000)
		r.write("a.log", young)
		r.start()
		r.expect(slices.Concat(want, more)...)
		r.crash()
	}
}

// TestRenamedFileIsReadOnAfterItWasReleased: its writer can't be seen, was quiet for
// long, and writes after all.
func TestRenamedFileIsReadOnAfterItWasReleased(t *testing.T) {
	r := newRig(t, "a.log")
	var clock movedClock
	start := time.Now()
	r.config.Now = func() time.Time { return start.Add(clock.get()).Add(time.Since(start)) }
	r.write("a.log", "one\n")
	r.start()
	r.expect("one")
	r.commit()
	r.rename("a.log", "a.log.1")
	r.write("a.log", "new\n")
	r.expect("one", "new")
	r.commit()
	r.tracked("a.log")
	r.write("a.log.1", "late\n")
	clock.add(2 * sweepInterval)
	r.expect("one", "new", "late")
	sourcetest.Eventually(t, func() bool { return len(r.source.Files()) == 2 }, "both files")
}
