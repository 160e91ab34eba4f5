package file

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// newLifeOf is newLife over another pattern.
func newLifeOf(t *testing.T, pattern string, change func(*Config)) *life {
	dir := t.TempDir()
	return &life{clock: time.Now(), steps: newStepsIn(t, dir, func(c *Config) {
		c.Include = []string{filepath.Join(dir, pattern)}
		change(c)
	})}
}

// TestADamagedFileIsNotDeleted: not all of it is delivered, and its owner may have more of it.
func TestADamagedFileIsNotDeleted(t *testing.T) {
	packers(t, func(t *testing.T, pack func(string) string) {
		l := newLife(t, func(c *Config) { c.DeleteAfterDelivery, c.Decompress, c.CloseIdle = true, true, time.Minute })
		l.lane.Transforms()
		damaged, _ := damagedBehind(pack, 100)
		cut := pack("of a file that ends in the middle of a member\n")
		l.write("a.log", damaged)
		l.write("b.log", pack("whole\n"))
		l.write("c.log", cut[:len(cut)-5])
		positions := sourcetest.Positions{}
		l.pass(0)
		mustDo(t, os.Rename(l.path("c.log"), l.path("d.log"))) // nobody writes to it: it is read to its end
		for range 20 {
			l.commit(positions)
			l.pass(graceTime)
		}
		if !exists(l.path("a.log")) || exists(l.path("b.log")) || !exists(l.path("d.log")) {
			t.Errorf("the damaged file exists: %v, the whole one: %v, the one that is cut: %v",
				exists(l.path("a.log")), exists(l.path("b.log")), exists(l.path("d.log")))
		}
	})
}

// TestAContentThatCanNotBeginAnewStaysGone, with the copy that was found of it: what waits for
// a file that nobody follows would wait for ever.
func TestAContentThatCanNotBeginAnewStaysGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	appendTo(t, path, "one\n")
	handle, err := os.OpenFile(path, os.O_WRONLY, 0) // it can be looked at, and not read
	mustDo(t, err)
	defer handle.Close()
	f := newFile(handle, identity{}, candidate{path: path}, "", &rules{}, 4)
	f.truncated = true
	if _, err := f.restart(&file{}); err == nil {
		t.Fatal("there was no error")
	}
	if f.after != nil || !f.truncated || f.cursor != 4 {
		t.Errorf("waits: %v, gone: %v, at %d", f.after != nil, f.truncated, f.cursor)
	}
}

// TestCompressionDayByDay: each time the compressed file is seen before anything is in it.
func TestCompressionDayByDay(t *testing.T) {
	l := newLifeOf(t, "a.log*", func(c *Config) { c.Decompress, c.CloseIdle = true, time.Minute })
	l.lane.Transforms()
	var want []string
	for day := range 4 {
		content, values := linesOf(fmt.Sprint("day ", day), 0, 100)
		want = append(want, values...)
		l.write("a.log.1", content)
		l.pass(0)
		l.deliver()
		l.pass(time.Hour)
		l.write("a.log.1.gz", "")
		l.pass(0)
		l.write("a.log.1.gz", gzipOf(t, content))
		l.pass(time.Second)
		mustDo(t, os.Remove(l.path("a.log.1")))
		l.pass(time.Hour)
		mustDo(t, os.Rename(l.path("a.log.1.gz"), l.path(fmt.Sprintf("a.log.%d.gz", 10+day))))
		l.pass(time.Hour)
		if got := l.lane.Values(); !slices.Equal(got, want) {
			t.Fatalf("day %d: %d records came, expected %d", day, len(got), len(want))
		}
		if n := len(l.discoverer.held); n > 0 {
			t.Errorf("day %d: %d files are held back", day, n)
		}
	}
}

// TestAFileThatIsGoneIsNotHeldBack for ever: names with dates never come again.
func TestAFileThatIsGoneIsNotHeldBack(t *testing.T) {
	l := newLifeOf(t, "a.log*", closing)
	content, _ := linesOf("line", 0, 100)
	l.write("a.log", content)
	l.pass(0)
	l.write("a.log-2024", content)
	l.pass(0)
	if len(l.discoverer.held) != 1 {
		t.Fatalf("%d files are held back", len(l.discoverer.held))
	}
	mustDo(t, os.Remove(l.path("a.log-2024")))
	l.pass(0)
	if len(l.discoverer.held) > 0 {
		t.Error("it is still held back")
	}
}

// TestPassingOverMuchLeavesTurnsToOthers of the lane, and ends when the agent is to stop.
func TestPassingOverMuchLeavesTurnsToOthers(t *testing.T) {
	l := newLife(t, func(c *Config) { c.Decompress, c.StartAt = true, End })
	l.lane.Transforms()
	l.write("a.log", gzipOf(t, strings.Repeat("what was there before the agent\n", 5*sliceOf/32)))
	l.discoverer.poll(l.clock)
	l.write("b.log", "fine\n")
	l.discoverer.poll(l.clock)
	for range 3 {
		l.readOnce()
	}
	if n := l.tailer.ready.len(); n != 1 {
		t.Errorf("%d files have more to read", n)
	}
	l.expect("fine")
	l.readAll()
	l.write("a.log", gzipOf(t, "new\n"))
	l.pass(0)
	l.expect("fine", "new")
}

// TestLinesBeforeReservedRoomAreJoined: they don't wait for the next one though the file's size
// says nothing.
func TestLinesBeforeReservedRoomAreJoined(t *testing.T) {
	l := newLife(t, func(c *Config) {
		c.Multiline = &Multiline{Continue: regexp.MustCompile(`^\s`), Timeout: 5 * time.Second, MaxLines: 100}
	})
	l.lane.Transforms()
	l.write("a.log", "one\n two\n"+strings.Repeat("\x00", 8<<20))
	l.pass(0)
	l.expect()
	l.pass(6 * time.Second)
	l.expect("one\n two")
}

// TestIgnoredFilesAreRenamed, as rotation by numbers does each day: that is no change of what
// they hold.
func TestIgnoredFilesAreRenamed(t *testing.T) {
	l := newLifeOf(t, "a.log*", func(c *Config) { c.IgnoreOlder = time.Hour })
	old := l.clock.Add(-2 * time.Hour)
	for _, name := range []string{"a.log.1", "a.log.2"} {
		l.write(name, name+"\n")
		mustDo(t, os.Chtimes(l.path(name), old, old))
	}
	l.pass(0)
	l.expectStates("a.log.1 ignored, a.log.2 ignored")
	mustDo(t, os.Rename(l.path("a.log.2"), l.path("a.log.3")))
	mustDo(t, os.Rename(l.path("a.log.1"), l.path("a.log.2")))
	l.discoverer.lookAround(l.clock) // before the scan that knows
	l.pass(time.Second)
	l.expectStates("a.log.2 ignored, a.log.3 ignored")
	mustDo(t, os.Chmod(l.path("a.log.2"), 0o640))
	l.pass(time.Second)
	l.expect()
	l.write("a.log.3", "more\n")
	mustDo(t, os.Chtimes(l.path("a.log.3"), old, old))
	l.pass(time.Second)
	l.expect("a.log.2", "more")
	l.expectStates("a.log.2 ignored, a.log.3 open")
}

// TestWaitingFilesAreRenamed again and again, while nothing is delivered: what waits does not grow.
func TestWaitingFilesAreRenamed(t *testing.T) {
	l := newLife(t, func(c *Config) { c.MaxOpenFiles = 1 })
	l.write("a.log", "a\n")
	l.write("aa.log", "aa\n") // the first that waits
	l.write("b0.log", "b\n")
	l.pass(0)
	for n := range 1000 {
		mustDo(t, os.Rename(l.path(fmt.Sprintf("b%d.log", n)), l.path(fmt.Sprintf("b%d.log", n+1))))
		l.discoverer.poll(l.clock)
	}
	if n := len(l.discoverer.queue); n > 200 {
		t.Errorf("%d entries wait, for two files", n)
	}
	for range 3 {
		l.deliver()
		l.pass(time.Second)
	}
	l.expect("a", "aa", "b")
}

// TestOnceEndsThoughAWaitingFileIsCut: it has less than at the start.
func TestOnceEndsThoughAWaitingFileIsCut(t *testing.T) {
	l := newLife(t, func(c *Config) { c.Once, c.MaxOpenFiles = true, 1 })
	l.write("a.log", "one\n")
	l.write("b.log", "two, and more\n")
	l.pass(0)
	mustDo(t, os.Truncate(l.path("b.log"), 3))
	for range 3 {
		l.deliver()
		l.discoverer.again(l.clock)
		l.readAll()
	}
	l.expect("one", "two")
	if files, settled := l.tailer.inbox.expected(); !settled || files != l.tailer.finished {
		t.Errorf("it does not end: %d of %d files are finished", l.tailer.finished, files)
	}
}

// TestAWaitingFileIsRotatedBeforeItsTurn, and no scan comes between: the one that took its name
// is not read in its place.
func TestAWaitingFileIsRotatedBeforeItsTurn(t *testing.T) {
	l := newLife(t, func(c *Config) { c.MaxOpenFiles = 1 })
	l.write("a.log", "a\n")
	l.write("b.log", "b\n")
	l.pass(0)
	l.expect("a")
	mustDo(t, os.Rename(l.path("b.log"), l.path("b.log.1")))
	l.write("b.log", "new\n")
	l.deliver()
	for range 4 {
		l.discoverer.turns(l.clock)
		l.readAll()
	}
	for range 6 {
		l.pass(time.Second)
		l.deliver()
	}
	got := l.lane.Values()
	slices.Sort(got)
	if !slices.Equal(got, []string{"a", "b", "new"}) {
		t.Errorf("read %q", got)
	}
}

// TestOnceReadsAWaitingFileThatIsRenamed, and not the one that took its name.
func TestOnceReadsAWaitingFileThatIsRenamed(t *testing.T) {
	for name, replaced := range map[string]bool{"renamed": false, "rotated": true} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t, func(c *Config) { c.Once, c.MaxOpenFiles = true, 1 })
			l.write("a.log", "one\n")
			l.write("b.log", "two\nthree")
			l.pass(0)
			l.expect("one")
			mustDo(t, os.Rename(l.path("b.log"), l.path("b.log.1")))
			if replaced {
				l.write("b.log", "new, and none of what the files held at the start\n")
			}
			for range 3 {
				l.deliver()
				l.discoverer.again(l.clock)
				l.readAll()
			}
			l.expect("one", "two", "three")
			if files, settled := l.tailer.inbox.expected(); !settled || files != l.tailer.finished {
				t.Errorf("it does not end: %d of %d files are finished", l.tailer.finished, files)
			}
		})
	}
}

// TestAQuietFileIsCopiedAndCut while it is at rest: what was delivered is not read again from
// the copy, though the patterns match that.
func TestAQuietFileIsCopiedAndCut(t *testing.T) {
	l := newLifeOf(t, "a.log*", closing)
	content, want := linesOf("first", 0, 100)
	l.write("a.log", content)
	l.pass(0)
	l.deliver()
	l.pass(time.Hour)
	l.expectStates("a.log at rest")
	more, values := linesOf("unseen", 0, 10)
	l.write("a.log", more)
	l.write("a.log.1", content+more)
	l.discoverer.poll(l.clock)
	l.readAll()
	mustDo(t, os.Truncate(l.path("a.log"), 0))
	l.write("a.log", "new\n")
	l.pass(time.Second)
	l.pass(time.Hour)
	l.expect(append(append(want, values...), "new")...)
}
