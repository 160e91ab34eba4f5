package file

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// TestFilesThatVanishBeforeTheyAreOpened hold up nothing. What was in them is not
// counted: nobody saw how much it was.
func TestFilesThatVanishBeforeTheyAreOpened(t *testing.T) {
	r := newRig(t, "*.log")
	r.start()
	for n := range 500 {
		name := fmt.Sprintf("%d.log", n)
		r.write(name, "perhaps\n")
		r.must(os.Remove(r.path(name)))
	}
	r.write("stays.log", "certainly\n")
	sourcetest.Eventually(t, func() bool { return slices.Contains(r.lane.Values(), "certainly") }, "the file that stays")
	r.commit()
	r.tracked("stays.log")
	r.positions.Commit(r.source)
	if n := len(r.positions); n != 2 {
		t.Errorf("%d positions are kept", n)
	}
}

// TestSwappedWhileItIsOpened puts other things in the place of a file as fast as it
// can. Nothing of them is read, and nothing waits for them.
func TestSwappedWhileItIsOpened(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.FollowSymlinks, r.config.PollInterval = true, time.Millisecond
	r.must(os.Mkdir(r.path("outside"), 0o700))
	r.write("outside/secret", "secret\n")
	r.write("file", "one\n")
	r.must(unix.Mkfifo(r.path("fifo"), 0o600))
	r.must(os.Symlink("/dev/zero", r.path("device")))
	r.must(os.Symlink("/etc/hostname", r.path("link")))
	r.must(os.Mkdir(r.path("dir"), 0o700))
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for {
			for _, name := range []string{"file", "fifo", "device", "link", "dir"} {
				select {
				case <-stop:
					return
				default:
				}
				if os.Rename(r.path(name), r.path("a.log")) == nil {
					_ = os.Rename(r.path("a.log"), r.path(name))
				}
			}
		}
	})
	r.start()
	sourcetest.Eventually(t, func() bool { return slices.Contains(r.lane.Values(), "one") }, "the file")
	for n := range 20 {
		r.write("b.log", fmt.Sprintf("line %d\n", n))
		sourcetest.Eventually(t, func() bool { return slices.Contains(r.lane.Values(), fmt.Sprintf("line %d", n)) }, "line %d", n)
	}
	close(stop)
	swapper.Wait()
	if n := len(r.lane.Values()); n != 21 {
		t.Errorf("read %q", r.lane.Values())
	}
}

// TestCopiedFolderIsReadAgain: a restored folder has other inodes. Nothing is lost,
// and what was delivered comes again.
func TestCopiedFolderIsReadAgain(t *testing.T) {
	r := newRig(t, "logs/*.log")
	r.must(os.Mkdir(r.path("logs"), 0o700))
	r.write("logs/a.log", "one\n")
	r.start()
	r.expect("one")
	r.commit()
	r.crash()
	r.write("logs/a.log", "two\n")
	out, err := exec.Command("cp", "-a", r.path("logs"), r.path("saved")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.must(os.RemoveAll(r.path("logs")))
	r.rename("saved", "logs")
	r.start()
	r.expect("one", "two")
}

// TestEditedFileIsReadAnew: an editor writes a new file in the place of the old, and
// may keep its times.
func TestEditedFileIsReadAnew(t *testing.T) {
	r := newRig(t, "*.log")
	r.write("a.log", "one\ntwo\n")
	r.start()
	r.expect("one", "two")
	info, err := os.Stat(r.path("a.log"))
	r.must(err)
	if out, err := exec.Command("sed", "-i", "s/one/uno/", r.path("a.log")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.must(os.Chtimes(r.path("a.log"), info.ModTime(), info.ModTime()))
	r.expect("one", "two", "uno", "two")
}

// TestManyDeletedFilesAreHeldAndCounted: what is not delivered is kept readable, and
// seen in the metrics.
func TestManyDeletedFilesAreHeldAndCounted(t *testing.T) {
	r := newRig(t, "*.log")
	r.lane = sourcetest.NewLane(t)
	r.lane.Limit(0)
	const files = 200
	for n := range files {
		r.write(fmt.Sprintf("%03d.log", n), "one\n")
	}
	r.startOn(r.lane)
	open := func() int { return int(gauge(t, r.config.Metrics.FilesOpen.WithLabelValues("p", "file"))) }
	sourcetest.Eventually(t, func() bool { return open() == files }, "all files")
	for n := range files {
		r.must(os.Remove(r.path(fmt.Sprintf("%03d.log", n))))
	}
	r.write("last.log", "one\n")
	sourcetest.Eventually(t, func() bool { return open() == files+1 }, "one file more")
	sourcetest.Eventually(t, func() bool {
		return gauge(t, r.config.Metrics.SourceLagBytes.WithLabelValues("p", "file")) == 4*(files+1)
	}, "the lag")
	r.lane.Limit(1 << 20)
	r.lane.Wait(files + 1)
	r.commit()
	r.tracked("last.log")
}
