package file

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
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

// TestReturnedFileIsOpenedByItsName: it was read on under a name that no pattern
// matches, and got its old one back before it made way.
func TestReturnedFileIsOpenedByItsName(t *testing.T) {
	r := newRig(t, "*.log")
	r.write("a.log", "one\n")
	r.start()
	r.expect("one")
	r.commit()
	r.crash()
	r.rename("a.log", "old")
	r.write("old", "two\n")
	l := &life{steps: newStepsIn(t, r.dir, func(c *Config) { c.MaxOpenFiles, c.Saved = 1, r.positions.Saved() }), clock: time.Now()}
	l.pass(time.Second)
	l.expect("two")
	r.rename("old", "a.log")
	l.write("old", "strange\n")
	l.write("b.log", "others\n")
	for range 5 {
		l.pass(2 * time.Second)
		l.deliver()
	}
	l.write("a.log", "three\n")
	for range 5 {
		l.pass(2 * time.Second)
		l.deliver()
	}
	l.expect("two", "others", "three")
}

// TestInodeOfAWaitingFileIsGivenAgain, to one that no pattern matches: that is not read.
func TestInodeOfAWaitingFileIsGivenAgain(t *testing.T) {
	dir := mountExt4(t, "8M")
	l := &life{steps: newStepsIn(t, dir, func(c *Config) { c.MaxOpenFiles = 1 }), clock: time.Now()}
	l.write("a.log", "first\n")
	l.write("b.log", "next\n")
	l.discoverer.poll(l.clock)
	before, err := os.Stat(l.path("b.log"))
	mustDo(t, err)
	born := bornAt(unix.AT_FDCWD, l.path("b.log"))
	mustDo(t, os.Remove(l.path("b.log")))
	for l.write("other", "secret\n"); bornAt(unix.AT_FDCWD, l.path("other")) == born; l.write("other", "secret\n") {
		mustDo(t, os.Remove(l.path("other")))
	}
	after, err := os.Stat(l.path("other"))
	mustDo(t, err)
	if !os.SameFile(before, after) {
		t.Skip("the inode number was not given again")
	}
	for range 5 {
		l.pass(2 * time.Second)
		l.deliver()
	}
	l.expect("first")
	if lost := lostBytes(t, l.source, lostUnopened); lost != len("next\n") {
		t.Errorf("%d bytes are counted as lost", lost)
	}
}

// TestPartOfALineThatIsRewrittenWhileItsFileYields: no position is saved with first
// bytes of which some are those before and some those after.
func TestPartOfALineThatIsRewrittenWhileItsFileYields(t *testing.T) {
	l := newLife(t, func(c *Config) { c.MaxOpenFiles = 1 })
	l.write("a.log", strings.Repeat("a line of some length\n", 20)+"part")
	l.write("b.log", "next\n")
	l.discoverer.poll(l.clock)
	l.readAll()
	l.clock = l.clock.Add(2 * turnTime)
	l.discoverer.poll(l.clock) // asks it to yield
	mustDo(t, os.Truncate(l.path("a.log"), 20*22))
	l.write("a.log", "another line\n")
	l.discoverer.poll(l.clock)
	l.deliver()
	positions := sourcetest.Positions{}
	positions.Commit(l.source)
	content, err := os.ReadFile(l.path("a.log"))
	mustDo(t, err)
	for _, f := range l.discoverer.tracked {
		encoded := positions[f.key]
		if encoded == nil {
			continue
		}
		s, err := decodeState(encoded)
		mustDo(t, err)
		if s.position > 0 && xxhash.Sum64(content[:s.headLength]) != s.headHash {
			t.Errorf("position %d is saved with the hash of %d bytes that the file never held", s.position, s.headLength)
		}
	}
	for range 10 {
		l.pass(2 * time.Second)
		l.deliver()
	}
	if got := l.lane.Values(); !slices.Contains(got, "another line") || !slices.Contains(got, "next") {
		t.Errorf("the last of %d records is %q", len(got), got[len(got)-1])
	}
}
