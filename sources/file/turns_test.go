package file

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// crowdedLife has one descriptor, held by a file with a backlog of many batches, and a
// file that waits for it.
func crowdedLife(t *testing.T) (l *life, backlog int) {
	l = newLife(t, func(c *Config) { c.MaxOpenFiles = 1 })
	const lines = 40
	line := strings.Repeat("x", 99_999) + "\n"
	l.write("a.log", strings.Repeat(line, lines))
	l.write("b.log", "next\n")
	l.discoverer.poll(l.clock)
	l.readOnce()
	if n := len(l.lane.Values()); n == 0 || n == lines {
		t.Fatalf("%d records in the first batch", n)
	}
	return l, lines
}

// TestFileThatLosesItsNameWhileItYields is read on by the descriptor it has: it gets
// no other.
func TestFileThatLosesItsNameWhileItYields(t *testing.T) {
	for name, lose := range map[string]func(*life) error{
		"deleted": func(l *life) error { return os.Remove(l.path("a.log")) },
		"renamed": func(l *life) error { return os.Rename(l.path("a.log"), l.path("old")) },
	} {
		t.Run(name, func(t *testing.T) {
			l, lines := crowdedLife(t)
			l.clock = l.clock.Add(2 * turnTime)
			l.discoverer.poll(l.clock) // asks it to yield
			mustDo(t, lose(l))
			for range 10 {
				l.pass(time.Second)
				l.deliver()
			}
			if got := l.lane.Values(); len(got) != lines+1 || got[lines] != "next" {
				t.Errorf("%d records, the last is %.10q", len(got), got[len(got)-1])
			}
		})
	}
}

// TestFileThatIsReplacedWhileItYields makes way for the others all the same.
func TestFileThatIsReplacedWhileItYields(t *testing.T) {
	for name, content := range map[string]string{
		"by nothing": "",
		"by more":    strings.Repeat(strings.Repeat("y", 99_999)+"\n", 50),
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := crowdedLife(t)
			l.clock = l.clock.Add(2 * turnTime)
			l.discoverer.poll(l.clock) // asks it to yield
			mustDo(t, os.WriteFile(l.path("a.log"), []byte(content), 0o600))
			for range 10 {
				l.pass(time.Second)
				l.deliver()
			}
			if got := l.lane.Values(); !slices.Contains(got, "next") {
				t.Errorf("%d records, and not the one of the file that waits", len(got))
			}
		})
	}
}

// TestFileDeletedAsItMakesWay: the tailer's last look finds that there is no name to
// open it by.
func TestFileDeletedAsItMakesWay(t *testing.T) {
	l, lines := crowdedLife(t)
	l.clock = l.clock.Add(2 * turnTime)
	l.discoverer.poll(l.clock) // asks it to yield
	l.readAll()
	l.deliver()
	l.discoverer.poll(l.clock) // lets it go
	mustDo(t, os.Remove(l.path("a.log")))
	for range 10 {
		l.pass(time.Second)
		l.deliver()
	}
	if got := len(l.lane.Values()); got != lines+1 {
		t.Errorf("%d records", got)
	}
}

// TestRotatedFileGetsATurn: it was renamed while the agent was stopped and is written
// to late, when as many files as may be open have nothing more to read.
func TestRotatedFileGetsATurn(t *testing.T) {
	for name, files := range map[string]int{"few files": 2, "many files": 6} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "*.log")
			r.write("a.log", "one\n")
			r.start()
			r.expect("one")
			r.commit()
			r.crash()
			r.rename("a.log", "old")
			l := &life{steps: newStepsIn(t, r.dir, func(c *Config) { c.MaxOpenFiles, c.Saved = 2, r.positions.Saved() }), clock: time.Now()}
			for n := range files {
				l.write(fmt.Sprintf("%d.log", n), "others\n")
			}
			l.pass(time.Second)
			l.write("old", "two\n")
			for range 30 {
				l.pass(sweepSoon)
				l.deliver()
			}
			if got := l.lane.Values(); len(got) != files+1 || !slices.Contains(got, "two") {
				t.Errorf("read %q", got)
			}
		})
	}
}

// TestTurnsGoOnForEver: files that were opened and closed before make way as well.
func TestTurnsGoOnForEver(t *testing.T) {
	l := newLife(t, func(c *Config) { c.MaxOpenFiles = 1 })
	var want []string
	for n := range 20 {
		for _, name := range []string{"a", "b", "c"} {
			line := fmt.Sprint(name, n)
			l.write(name+".log", line+"\n")
			want = append(want, line)
		}
		for range 5 {
			l.pass(10 * time.Second)
			l.deliver()
		}
		got := l.lane.Values()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("round %d: read %q", n, got)
		}
	}
}
