package file

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

func removing(c *Config) { c.DeleteAfterDelivery = true }

// commit delivers all and makes it durable.
func (l *life) commit(p sourcetest.Positions) {
	l.deliver()
	p.Commit(l.source)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestAFileIsDeletedOnlyWhenItsDeliveryIsDurable(t *testing.T) {
	l := newLife(t, removing)
	positions := sourcetest.Positions{}
	l.write("a.log", "one\n")
	l.write("empty.log", "")
	stays := func(why string) {
		t.Helper()
		for range 3 {
			l.pass(graceTime)
		}
		if !exists(l.path("a.log")) {
			t.Fatalf("it was deleted though %s", why)
		}
	}
	stays("nothing is delivered")
	l.deliver()
	stays("nothing is durable")
	l.source.Checkpoint(nil) // the commit may have failed
	stays("no commit is known of")
	l.source.Committed()
	l.pass(0)
	l.pass(graceTime / 2)
	l.write("a.log", "two\n")
	l.pass(graceTime / 2)
	stays("it has grown")
	l.commit(positions)
	l.pass(0)
	if !exists(l.path("a.log")) {
		t.Fatal("it was deleted without a grace")
	}
	l.pass(graceTime)
	if exists(l.path("a.log")) || !exists(l.path("empty.log")) {
		t.Errorf("exist: a.log %v, empty.log %v", exists(l.path("a.log")), exists(l.path("empty.log")))
	}
	l.expect("one", "two")
	l.pass(0)
	l.expectStates("empty.log open")
	positions.Commit(l.source)
	if len(positions) > 0 { // the first Checkpoint, with that of empty.log, went nowhere
		t.Errorf("%d positions are left", len(positions))
	}
}

func TestAFileThatSomebodyMayWriteToIsNotDeleted(t *testing.T) {
	l := newLife(t, removing)
	w, err := os.OpenFile(l.path("a.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	mustDo(t, err)
	defer w.Close()
	write := func(text string) { _, err := w.WriteString(text); mustDo(t, err) }
	write("one\n")
	l.pass(0)
	l.commit(sourcetest.Positions{})
	for range 5 {
		l.pass(graceTime)
	}
	write("two\n")
	l.pass(0)
	l.expect("one", "two")
	mustDo(t, w.Close())
	l.commit(sourcetest.Positions{})
	for range 3 {
		l.pass(graceTime)
	}
	if exists(l.path("a.log")) {
		t.Error("it is not deleted, though nobody has it open any more")
	}
}

// TestAnotherFileOfTheNameIsNotDeleted puts one there between the look and the deletion.
func TestAnotherFileOfTheNameIsNotDeleted(t *testing.T) {
	logged := &countingHandler{Handler: slog.DiscardHandler}
	l := newLife(t, func(c *Config) { c.DeleteAfterDelivery, c.Logger = true, slog.New(logged) })
	l.write("a.log", "one\n")
	l.pass(0)
	l.commit(sourcetest.Positions{})
	l.write("other", "new\n")
	mustDo(t, os.Link(l.path("a.log"), l.path("kept")))
	l.pass(0)
	mustDo(t, os.Rename(l.path("other"), l.path("a.log")))
	f := l.discoverer.names[l.path("a.log")]
	var err error
	f.seen, err = lookAt(f.fd)
	mustDo(t, err)
	l.discoverer.remove(f, l.clock)
	if logged.count(slog.LevelError) != 1 || !exists(l.path("a.log")) {
		t.Errorf("%d errors logged; the other file exists: %v", logged.count(slog.LevelError), exists(l.path("a.log")))
	}
	l.pass(time.Second)
	l.expect("one", "new")
}

// TestDeletionFollowsLinksIntoRootsOnly deletes what was read, not the link.
func TestDeletionFollowsLinksIntoRootsOnly(t *testing.T) {
	inside, outside := t.TempDir(), t.TempDir()
	l := newLife(t, func(c *Config) {
		c.DeleteAfterDelivery, c.FollowSymlinks, c.SymlinkRoots = true, true, []string{inside}
	})
	for _, dir := range []string{inside, outside} {
		appendTo(t, filepath.Join(dir, "target"), filepath.Base(dir)+"\n")
	}
	mustDo(t, os.Symlink(filepath.Join(inside, "target"), l.path("in.log")))
	mustDo(t, os.Symlink(filepath.Join(outside, "target"), l.path("out.log")))
	l.pass(0)
	l.commit(sourcetest.Positions{})
	for range 4 {
		l.pass(graceTime)
	}
	l.expect(filepath.Base(inside))
	if exists(filepath.Join(inside, "target")) || !exists(filepath.Join(outside, "target")) || !exists(l.path("in.log")) {
		t.Error("the wrong one was deleted, or none")
	}
}

func TestFilesThatTakeTurnsAreDeletedToo(t *testing.T) {
	l := newLife(t, func(c *Config) { c.DeleteAfterDelivery, c.MaxOpenFiles = true, 2 })
	positions := sourcetest.Positions{}
	for n := range 10 {
		l.write(fmt.Sprintf("%d.log", n), "x\n")
	}
	for range 20 {
		l.pass(graceTime / 3)
		l.commit(positions)
	}
	if left, err := os.ReadDir(l.dir); err != nil || len(left) > 0 {
		t.Errorf("%d files are left of 10: %s", len(left), l.states())
	}
	if n := len(l.lane.Values()); n != 10 {
		t.Errorf("%d lines", n)
	}
}

// TestACrashBeforeTheCommitFindsTheFile kills the agent between delivery and commit.
func TestACrashBeforeTheCommitFindsTheFile(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.DeleteAfterDelivery = true
	fastClock(&r.config)
	r.write("a.log", "one\n")
	r.start()
	r.expect("one")
	r.lane.Deliver(1)
	r.write("b.log", "b\n")
	r.lane.Wait(2)
	r.polled()
	r.crash()
	r.start()
	r.lane.Wait(2)
	if got := r.lane.Values(); got[0] != "one" {
		t.Errorf("read again: %q", got)
	}
	sourcetest.Eventually(t, func() bool {
		r.commit()
		return !exists(r.path("a.log")) && !exists(r.path("b.log"))
	}, "the files are deleted")
}

// fastClock lets a grace pass in ten milliseconds.
func fastClock(c *Config) {
	began := time.Now()
	c.Now = func() time.Time { return began.Add(1000 * time.Since(began)) }
	c.PollInterval = time.Millisecond
}

// TestWritersThatComeBackLoseNothing has programs that open their file by its name for
// each line, while it is deleted again and again.
func TestWritersThatComeBackLoseNothing(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.DeleteAfterDelivery = true
	fastClock(&r.config)
	r.start()
	const writers, lines = 3, 300
	var programs sync.WaitGroup
	for w := range writers {
		programs.Go(func() {
			for n := range lines {
				r.write(fmt.Sprintf("%d.log", w), fmt.Sprintf("%d-%d\n", w, n))
				if n%10 == 0 {
					wait(15 * time.Millisecond)
				}
			}
		})
	}
	deleted := 0
	sourcetest.Eventually(t, func() bool {
		r.commit()
		for w := range writers {
			if !exists(r.path(fmt.Sprintf("%d.log", w))) {
				deleted++
			}
		}
		return len(r.lane.Values()) >= writers*lines
	}, "all lines")
	programs.Wait()
	got := r.lane.Values()
	slices.Sort(got)
	if len(slices.Compact(got)) != writers*lines || deleted == 0 {
		t.Errorf("%d different lines of %d, %d times without a file", len(slices.Compact(got)), writers*lines, deleted)
	}
}

// wait is a program's pause.
func wait(d time.Duration) { <-time.After(d) }

func TestALeaseIsHeldUntilItIsGiven(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	appendTo(t, path, "x")
	f, err := os.Open(path)
	mustDo(t, err)
	defer f.Close()
	w, give := leaseOf(int(f.Fd()))
	if w != writersNone {
		t.Skipf("writers %d: no leases here", w)
	}
	if _, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0); err != unix.EWOULDBLOCK { //nolint:errorlint // a number
		t.Errorf("opened for writing meanwhile: %v", err)
	}
	give()
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	mustDo(t, err)
	mustDo(t, unix.Close(fd))
}
