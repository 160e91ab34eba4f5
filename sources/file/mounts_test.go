package file

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// TestBindMountIsOneFile reads a folder by two ways that lead to it.
func TestBindMountIsOneFile(t *testing.T) {
	r := newRig(t, "logs/*.log", "again/*.log")
	r.must(os.Mkdir(r.path("logs"), 0o700))
	r.must(os.Mkdir(r.path("again"), 0o700))
	mountOn(t, r.path("again"), "--bind", r.path("logs"))
	r.write("logs/a.log", "one\n")
	r.start()
	r.expect("one")
	r.write("again/a.log", "two\n")
	r.expect("one", "two")
	r.write("logs/b.log", "three\n")
	r.expect("one", "two", "three")
}

// TestMountThatGoesAndComesBack: nothing is given up for a mount that is missing, with
// the agent running or not.
func TestMountThatGoesAndComesBack(t *testing.T) {
	for name, running := range map[string]bool{"running": true, "stopped": false} {
		t.Run(name, func(t *testing.T) {
			disk := mount(t, "-t", "tmpfs", "tmpfs")
			r := newRig(t, "logs/*.log", "*.log")
			r.must(os.Mkdir(r.path("logs"), 0o700))
			unmount := mountOn(t, r.path("logs"), "--bind", disk)
			r.write("logs/a.log", "one\n")
			r.start()
			r.expect("one")
			r.commit()
			if !running {
				r.crash()
			}
			unmount()
			if !running {
				r.start()
			}
			r.polled()
			r.commit()
			if got := r.lost(lostVanished); got != 0 {
				t.Errorf("%d bytes are counted", got)
			}
			if !running {
				r.crash()
			}
			mountOn(t, r.path("logs"), "--bind", disk)
			r.write("logs/a.log", "two\n")
			if running {
				r.expect("one", "polled", "two")
			} else {
				r.start()
				r.expect("two")
			}
		})
	}
}

// TestNoEventsAtAll writes to the lower layer of an overlay, of which nothing tells.
func TestNoEventsAtAll(t *testing.T) {
	layers := mount(t, "-t", "tmpfs", "tmpfs")
	for _, dir := range []string{"lower", "upper", "work"} {
		mustDo(t, os.Mkdir(filepath.Join(layers, dir), 0o755))
	}
	lower := filepath.Join(layers, "lower")
	appendTo(t, filepath.Join(lower, "a.log"), "one\n")
	merged := mount(t, "-t", "overlay", "-o", strings.Join([]string{
		"lowerdir=" + lower, "upperdir=" + filepath.Join(layers, "upper"), "workdir=" + filepath.Join(layers, "work"),
	}, ","), "overlay")
	r := newRigIn(t, merged, "*.log")
	r.start()
	r.expect("one")
	appendTo(t, filepath.Join(lower, "a.log"), "two\n")
	r.expect("one", "two")
	appendTo(t, filepath.Join(lower, "b.log"), "three\n")
	r.expect("one", "two", "three")
}

// TestFullSourceDisk: the writer gets an error, the reader reads what there is.
func TestFullSourceDisk(t *testing.T) {
	r := newRigIn(t, mount(t, "-t", "tmpfs", "-o", "size=64k", "tmpfs"), "*.log")
	r.write("a.log", "one\n")
	f, err := os.OpenFile(r.path("a.log"), os.O_APPEND|os.O_WRONLY, 0)
	r.must(err)
	defer f.Close()
	line := strings.Repeat("x", 999) + "\n"
	want := []string{"one"}
	for {
		n, err := f.WriteString(line)
		if n == len(line) {
			want = append(want, line[:len(line)-1])
		}
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		r.must(err)
	}
	r.start()
	r.lane.Wait(len(want))
	r.expect(want...)
	r.commit()
	r.must(f.Truncate(0))
	r.write("a.log", "more\n")
	r.expect(append(want, "more")...)
}

// TestInodeNumberGivenAgain removes a file and makes another with the same name and
// the same first line, which ext4 gives the same number.
func TestInodeNumberGivenAgain(t *testing.T) {
	eachFileSystem(t, func(t *testing.T, dir string) {
		const header = "time,level,message\n"
		r := newRigIn(t, dir, "*.log")
		reused := false
		for range 5 {
			r.write("a.log", header)
			before := r.inode("a.log")
			r.start()
			r.expect("time,level,message")
			r.commit()
			r.crash()
			r.must(os.Remove(r.path("a.log")))
			r.write("a.log", header+"first\n")
			reused = reused || r.inode("a.log") == before
			r.start()
			r.expect("time,level,message", "first")
			r.commit()
			r.crash()
			r.must(os.Remove(r.path("a.log")))
		}
		if strings.HasSuffix(t.Name(), "ext4") && !reused {
			t.Error("no number was given again: nothing was tested")
		}
	})
}

func (r *rig) inode(name string) inode {
	r.Helper()
	info, err := os.Lstat(r.path(name))
	r.must(err)
	return inodeOf(info)
}

// TestEventQueueOverflow makes more events than the kernel keeps while the agent is
// held up. There is no poll after the first but the one for the lost events.
func TestEventQueueOverflow(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.PollInterval = time.Hour
	gate := make(chan struct{}, 1)
	gate <- struct{}{}
	r.config.Now = func() time.Time {
		gate <- <-gate // waits while the gate is empty
		return time.Now()
	}
	const files, rounds = 200, 250
	for n := range files {
		r.write(fileOf(n), "one\n")
	}
	r.start()
	r.lane.Wait(files)
	<-gate
	var open []*os.File
	for n := range files {
		f, err := os.OpenFile(r.path(fileOf(n)), os.O_APPEND|os.O_WRONLY, 0)
		r.must(err)
		open = append(open, f)
	}
	for range rounds {
		for _, f := range open {
			_, err := f.WriteString("more\n")
			r.must(err)
		}
	}
	for _, f := range open {
		r.must(f.Close())
	}
	r.write("new.log", "new\n")
	gate <- struct{}{}
	sourcetest.Eventually(t, func() bool { return len(r.lane.Values()) == files+files*rounds+1 }, "all records")
}

func fileOf(n int) string { return strings.Repeat("0", n%3) + time.Duration(n).String() + ".log" }
