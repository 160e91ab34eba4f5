package file

import (
	"context"
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

func TestRenamedFilesAreReadToTheirEnd(t *testing.T) {
	r := newRig(t, "a.log")
	r.write("a.log", "one\n")
	r.start()
	r.expect("one")
	r.write("a.log", "two\n")
	r.rename("a.log", "a.log.1")
	r.write("a.log", "three\n")
	r.expect("one", "two", "three")
	r.commit()
	r.tracked("a.log") // the old one is closed, for nobody writes to it
	for key, value := range r.positions {
		if st, err := decodeState(value); strings.Contains(key, "file/") && (err != nil || st.position != st.size) {
			t.Errorf("%s: %+v, %v", key, st, err)
		}
	}
}

func TestGenerationsRotatedWhileNothingIsDelivered(t *testing.T) {
	r := newRig(t, "a.log")
	r.lane = sourcetest.NewLane(t)
	r.lane.Limit(0)
	r.write("a.log", "0\n")
	r.startOn(r.lane)
	var want []string
	for n := range 6 {
		r.opened(n + 1)
		want = append(want, fmt.Sprint(n), fmt.Sprintf("%d late", n))
		r.write("a.log", fmt.Sprintf("%d late\n", n))
		r.rename("a.log", fmt.Sprintf("a.log.%d", n))
		if n == 3 { // one generation is removed before a byte of it was read
			r.must(os.Remove(r.path("a.log.3")))
		}
		r.write("a.log", fmt.Sprintf("%d\n", n+1))
	}
	r.tracked(slicesOf("a.log", 7)...)
	r.lane.Limit(1 << 20)
	r.expect(append(want, "6")...)
	r.commit()
	r.tracked("a.log")
}

func TestSuccessorIsReadAfterItsPredecessor(t *testing.T) {
	r := newRig(t, "a.log")
	r.lane = sourcetest.NewLane(t)
	r.lane.Limit(0)
	const backlog = 20000
	r.write("a.log", strings.Repeat("old\n", backlog))
	r.startOn(r.lane)
	r.opened(1)
	r.rename("a.log", "gone")
	r.write("a.log", strings.Repeat("new\n", backlog))
	r.tracked("a.log", "a.log")
	r.lane.Limit(1 << 20)
	r.lane.Wait(2 * backlog)
	for i, v := range r.lane.Values() {
		if (v == "old") != (i < backlog) {
			t.Fatalf("record %d is %q", i, v)
		}
	}
}

// TestSuccessorFoundByAPoll: the predecessor keeps a name that matches, and no event
// has told of either.
func TestSuccessorFoundByAPoll(t *testing.T) {
	m := newSteps(t)
	path := filepath.Join(m.dir, "a.log")
	const backlog = 20000
	appendTo(t, path, strings.Repeat("old\n", backlog))
	m.discoverer.poll(time.Now())
	mustDo(t, os.Rename(path, filepath.Join(m.dir, "a.1.log")))
	appendTo(t, path, strings.Repeat("new\n", backlog))
	m.discoverer.poll(time.Now())
	m.readAll()
	values := m.lane.Values()
	if len(values) != 2*backlog {
		t.Fatalf("%d records", len(values))
	}
	for i, v := range values {
		if (v == "old") != (i < backlog) {
			t.Fatalf("record %d is %q", i, v)
		}
	}
}

// TestFileRewrittenAgainAndAgain is how some programs keep their state: each time is
// counted, few are logged.
func TestFileRewrittenAgainAndAgain(t *testing.T) {
	logged := &countingHandler{Handler: slog.DiscardHandler}
	m := newStepsLogging(t, slog.New(logged))
	path := filepath.Join(m.dir, "a.log")
	var want []string
	for n := range 9 {
		line := strings.Repeat(fmt.Sprint(n), 20-n)
		mustDo(t, os.WriteFile(path, []byte(line+"\n"), 0o600))
		want = append(want, line)
		m.discoverer.poll(time.Now())
		m.readAll()
	}
	if got := m.lane.Values(); !slices.Equal(got, want) {
		t.Errorf("read %q, expected %q", got, want)
	}
	if n := logged.count(slog.LevelWarn); n != 1 {
		t.Errorf("%d warnings for %d rewrites", n, len(want)-1)
	}
}

// TestHoleOfAWriterThatKeepsItsOffset: a writer without append goes on at its old
// offset after a truncation, and nothing was ever written before that.
func TestHoleOfAWriterThatKeepsItsOffset(t *testing.T) {
	r := newRig(t, "*.log")
	w, err := os.Create(r.path("a.log"))
	r.must(err)
	defer w.Close()
	write := func(line string) {
		_, err := w.WriteString(line + "\n")
		r.must(err)
	}
	first := strings.Repeat("x", 300_000)
	write(first)
	r.start()
	r.expect(first)
	r.must(w.Truncate(0))
	write("one")
	r.expect(first, "one")
	write("two")
	r.expect(first, "one", "two")
	r.commit()
	r.crash()
	write("three")
	r.start()
	r.expect("three")
}

// TestTruncationNoticedByTheRead: what is read after it is new content, before the
// discoverer has looked.
func TestTruncationNoticedByTheRead(t *testing.T) {
	m := newSteps(t)
	path := filepath.Join(m.dir, "a.log")
	appendTo(t, path, "never read\n")
	m.discoverer.poll(time.Now())
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	appendTo(t, path, "anew\n")
	m.readAll()
	m.discoverer.poll(time.Now())
	m.readAll()
	if got := m.lane.Values(); !slices.Equal(got, []string{"anew"}) {
		t.Errorf("read %q", got)
	}
}

// TestPositionOfReplacedContentIsNotSaved rewrites a file before anybody looked: the
// new bytes must not vouch for the old position.
func TestPositionOfReplacedContentIsNotSaved(t *testing.T) {
	m := newSteps(t)
	path := filepath.Join(m.dir, "a.log")
	appendTo(t, path, "one\ntwo\n")
	m.discoverer.poll(time.Now())
	m.readAll()
	if err := os.WriteFile(path, []byte("eins\nzwei\ndrei\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.lane.Deliver(2)
	for _, c := range m.source.Checkpoint(nil) {
		if st, err := decodeState(c.Value); c.Key != "p/0/started" && (err != nil || st.position != 0) {
			t.Errorf("position %+v was saved, %v", st, err)
		}
	}
}

// TestFileThatGrowsWhileItIsReleased: the tailer looks once more before it closes.
func TestFileThatGrowsWhileItIsReleased(t *testing.T) {
	m := newSteps(t)
	path := filepath.Join(m.dir, "a.log")
	appendTo(t, path, "one\n")
	m.discoverer.poll(time.Now())
	m.readAll()
	m.lane.Deliver(1)
	gone := filepath.Join(m.dir, "gone")
	if err := os.Rename(path, gone); err != nil {
		t.Fatal(err)
	}
	m.discoverer.poll(time.Now()) // releases the file
	appendTo(t, gone, "two\n")
	m.readAll()
	m.discoverer.poll(time.Now())
	m.readAll()
	if got := m.lane.Values(); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("read %q", got)
	}
}

// TestFileThatIsRewrittenWhileItIsReleased keeps the size, before the tailer's last
// look or before one more poll.
func TestFileThatIsRewrittenWhileItIsReleased(t *testing.T) {
	for name, polled := range map[string]bool{"seen by a poll": true, "seen by the tailer": false} {
		t.Run(name, func(t *testing.T) {
			m := newSteps(t)
			path, gone := filepath.Join(m.dir, "a.log"), filepath.Join(m.dir, "gone")
			appendTo(t, path, "one\n")
			m.look()
			m.lane.Deliver(1)
			mustDo(t, os.Rename(path, gone))
			m.discoverer.poll(time.Now()) // releases the file
			mustDo(t, os.WriteFile(gone, []byte("two\n"), 0o600))
			later := time.Now().Add(time.Second)
			mustDo(t, os.Chtimes(gone, later, later))
			if polled {
				m.discoverer.poll(time.Now())
			}
			m.readAll()
			m.look()
			if got := m.lane.Values(); !slices.Equal(got, []string{"one", "two"}) {
				t.Errorf("read %q", got)
			}
		})
	}
}

// TestFileThatIsReplacedByMoreWhileItIsReleased: nothing of it was lost.
func TestFileThatIsReplacedByMoreWhileItIsReleased(t *testing.T) {
	m := newSteps(t)
	path, gone := filepath.Join(m.dir, "a.log"), filepath.Join(m.dir, "gone")
	appendTo(t, path, "one\n")
	m.look()
	m.lane.Deliver(1)
	mustDo(t, os.Rename(path, gone))
	m.discoverer.poll(time.Now()) // releases the file
	mustDo(t, os.WriteFile(gone, []byte("two\nthree\n"), 0o600))
	m.readAll()
	m.look()
	if got := m.lane.Values(); !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("read %q", got)
	}
	if got := lostBytes(t, m.source, lostTruncated); got != 0 {
		t.Errorf("%d bytes are counted", got)
	}
}

// steps is a source whose goroutines are replaced by calls.
type steps struct {
	t          *testing.T
	dir        string
	source     *Source
	discoverer *discoverer
	tailer     *tailer
	lane       *sourcetest.Lane
}

func newSteps(t *testing.T) *steps { return newStepsLogging(t, slog.New(slog.DiscardHandler)) }

func newStepsLogging(t *testing.T, log *slog.Logger) *steps {
	return newStepsWith(t, func(c *Config) { c.Logger = log })
}

func newStepsWith(t *testing.T, change func(*Config)) *steps {
	return newStepsIn(t, t.TempDir(), change)
}

func newStepsIn(t *testing.T, dir string, change func(*Config)) *steps {
	config := configOf(filepath.Join(dir, "*.log"))
	change(&config)
	m := &steps{t: t, dir: dir, source: newSource(t, config), lane: sourcetest.NewLane(t)}
	m.discoverer = newDiscoverer(m.source, 1)
	m.tailer = newTailer(m.source, m.lane, m.discoverer.inboxes[0], m.discoverer.room)
	t.Cleanup(func() { m.source.Close() })
	return m
}

func (m *steps) readAll() {
	for m.tailer.take(); m.tailer.ready.len() > 0; m.tailer.take() {
		m.readOnce()
	}
}

// readOnce makes one batch, and lets the discoverer know what was replaced.
func (m *steps) readOnce() {
	m.tailer.take()
	if err := m.tailer.turn(context.Background()); err != nil {
		m.t.Fatal(err)
	}
	m.discoverer.recut(time.Now())
}

func slicesOf(s string, n int) []string { return strings.Fields(strings.Repeat(s+" ", n)) }

func TestRenameInsideTheGlobIsTheSameFile(t *testing.T) {
	r := newRig(t, "a.log*")
	r.write("a.log", "one\n")
	r.start()
	r.expect("one")
	r.rename("a.log", "a.log.1")
	r.write("a.log", "two\n")
	r.expect("one", "two")
	r.write("a.log.1", "late\n")
	r.expect("one", "two", "late")
	r.tracked("a.log", "a.log.1")
}

func TestNamesExchanged(t *testing.T) {
	r := newRig(t, "*.log")
	r.write("a.log", "a1\n")
	r.start()
	r.expect("a1")
	r.write("b.log", "b1\n")
	r.expect("a1", "b1")
	r.rename("a.log", "c")
	r.rename("b.log", "a.log")
	r.rename("c", "b.log")
	r.write("a.log", "b2\n")
	r.write("b.log", "a2\n")
	records := r.lane.Wait(4)
	for i, rec := range records[2:] {
		if first := records[0]; (rec.Stream == first.Stream) != (rec.Value == "a2") {
			t.Errorf("record %d, %q, belongs to the wrong file", i+2, rec.Value)
		}
	}
}

func TestRotatedWhileStopped(t *testing.T) {
	for name, c := range map[string]struct{ pattern, to string }{
		"inside the glob":  {"a.log*", "a.log.1"},
		"outside the glob": {"a.log", "old-a"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.pattern)
			r.write("a.log", "one\n")
			r.start()
			r.expect("one")
			r.commit()
			r.crash()
			r.write("a.log", "two\n")
			r.rename("a.log", c.to)
			r.write("a.log", "three\n")
			r.start()
			r.lane.Wait(2)
			got := map[string]bool{}
			for _, v := range r.lane.Values() {
				got[v] = true
			}
			if len(got) != 2 || !got["two"] || !got["three"] || len(r.lane.Values()) != 2 {
				t.Errorf("read %q", r.lane.Values())
			}
		})
	}
}

func TestFileThatVanishedWhileStoppedIsCounted(t *testing.T) {
	r := newRig(t, "*.log")
	r.write("a.log", "one\n")
	r.start()
	r.expect("one")
	r.commit()
	r.write("a.log", "unread by then\n")
	r.lane.Wait(2)
	r.positions.Commit(r.source) // nothing more is delivered
	r.crash()
	r.must(os.Remove(r.path("a.log")))
	r.start()
	r.polled()
	if got := r.lost(lostVanished); got != len("unread by then\n") {
		t.Errorf("%d bytes counted", got)
	}
	r.positions.Commit(r.source)
	for key, value := range r.positions {
		if st, err := decodeState(value); strings.Contains(key, "file/") && (err != nil || strings.HasSuffix(st.path, "/a.log")) {
			t.Errorf("the position is still there: %s %v", key, err)
		}
	}
}

func TestDeletedFileIsReadToItsEnd(t *testing.T) {
	r := newRig(t, "*.log")
	r.lane = sourcetest.NewLane(t)
	r.lane.Limit(0)
	r.write("a.log", "one\ntwo\nthe end")
	r.startOn(r.lane)
	r.tracked("a.log")
	r.must(os.Remove(r.path("a.log")))
	r.lane.Limit(1 << 20)
	r.expect("one", "two", "the end")
	r.tracked("a.log") // kept: nothing is delivered
	r.lane.Deliver(2)
	r.tracked("a.log")
	r.commit()
	r.tracked()
	r.positions.Commit(r.source)
	if len(r.positions) != 1 || r.positions["p/0/started"] == nil {
		t.Errorf("positions %v", r.positions)
	}
}

func TestPartialLineWaitsForItsEnd(t *testing.T) {
	r := newRig(t, "*.log")
	r.write("a.log", "abc")
	r.start()
	r.polled()
	r.write("a.log", "def")
	r.polled()
	r.write("a.log", "\nnext\n")
	r.expect("polled", "polled", "abcdef", "next")
}

func TestPartialLineAcrossRestart(t *testing.T) {
	r := newRig(t, "a.log")
	r.write("a.log", "one\nab")
	r.start()
	r.expect("one")
	r.commit()
	r.crash()
	r.write("a.log", "cd\n")
	r.start()
	r.expect("abcd")
}

func TestPartialLastLineOfRotatedFileIsReadOnce(t *testing.T) {
	for name, after := range map[string]func(*rig){
		"renamed outside": func(r *rig) { r.rename("a.log", "old") },
		"renamed inside":  func(r *rig) { r.rename("a.log", "b.log") },
		"deleted":         func(r *rig) { r.must(os.Remove(r.path("a.log"))) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "*.log")
			r.write("a.log", "one\nabc")
			r.start()
			r.expect("one")
			after(r)
			r.expect("one", "abc")
			r.commit()
			r.polled()
			r.expect("one", "abc", "polled")
		})
	}
}

func TestRotatedFileWithAWriterIsFollowed(t *testing.T) {
	r := newRig(t, "a.log")
	writer, err := os.OpenFile(r.path("a.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	r.must(err)
	defer writer.Close()
	say := func(s string) {
		_, err := writer.WriteString(s)
		r.must(err)
	}
	say("one\n")
	r.start()
	r.expect("one")
	r.rename("a.log", "old")
	r.write("a.log", "new\n")
	r.expect("one", "new")
	r.commit()
	say("par")
	say("tial\n")
	r.expect("one", "new", "partial") // the writer had not noticed yet
	r.commit()
	r.tracked("a.log", "a.log")
	r.must(os.Remove(r.path("old")))
	say("last\n")
	r.expect("one", "new", "partial", "last")
	r.commit()
	r.must(writer.Close())
	r.tracked("a.log")
}

func TestTruncationIsNoticedAndCounted(t *testing.T) {
	r := newRig(t, "*.log")
	r.lane = sourcetest.NewLane(t)
	r.lane.Limit(1)
	r.write("a.log", "one\n")
	r.startOn(r.lane)
	r.expect("one")
	r.write("a.log", "never read\n") // the lane is blocked
	sourcetest.Eventually(t, func() bool { return r.source.Status()[0].Size == 15 }, "the new size")
	r.must(os.Truncate(r.path("a.log"), 0))
	sourcetest.Eventually(t, func() bool { return r.source.Status()[0].Size < 15 }, "the truncation")
	r.write("a.log", "anew\n")
	r.lane.Deliver(1)
	r.lane.Limit(100)
	r.expect("one", "anew")
	if got := r.lost(lostTruncated); got != len("never read\n") {
		t.Errorf("%d bytes counted", got)
	}
	r.commit()
	r.crash()
	r.write("a.log", "more\n")
	r.start()
	r.expect("more") // the position is that of the new content
}

// A file that is cut and grows past its old size between two looks shows nothing
// but other bytes before the cursor.
func TestRewriteBeyondThePositionIsNoticed(t *testing.T) {
	for _, running := range []bool{true, false} {
		r := newRig(t, "a.log")
		r.write("a.log", "head\nold line\n")
		r.start()
		r.expect("head", "old line")
		r.commit()
		if !running {
			r.crash()
		}
		f, err := os.OpenFile(r.path("a.log"), os.O_WRONLY, 0)
		r.must(err)
		_, err = f.WriteAt([]byte("head\nnew line\nand one more\n"), 0)
		r.must(err)
		r.must(f.Close())
		if !running {
			r.start()
			r.expect("head", "new line", "and one more")
		} else {
			r.expect("head", "old line", "head", "new line", "and one more")
		}
		r.crash()
	}
}

func TestInodeReuse(t *testing.T) {
	const header = "time,level,message\n"
	for _, running := range []bool{true, false} {
		r := newRig(t, "a.log")
		r.write("a.log", header)
		r.start()
		r.expect("time,level,message")
		r.commit()
		if running {
			r.must(os.Remove(r.path("a.log")))
			r.tracked()
			r.positions.Commit(r.source)
		} else {
			r.crash()
			r.must(os.Remove(r.path("a.log")))
		}
		r.write("a.log", header+"first\n") // ext4 gives it the same inode
		if running {
			r.expect("time,level,message", "time,level,message", "first")
		} else {
			r.start()
			r.expect("time,level,message", "first")
		}
		r.crash()
	}
}

func TestManyFilesWithTheSameHead(t *testing.T) {
	r := newRig(t, "*.log")
	banner := strings.Repeat("=", 4096) + "\n"
	for n := range 50 {
		r.write(fmt.Sprintf("%02d.log", n), banner+fmt.Sprintf("line of %d\n", n))
	}
	r.start()
	r.lane.Wait(100)
	r.commit()
	r.crash()
	for n := range 50 {
		r.write(fmt.Sprintf("%02d.log", n), fmt.Sprintf("more of %d\n", n))
	}
	r.start()
	for _, rec := range r.lane.Wait(50) {
		if !strings.HasPrefix(rec.Value, "more of") {
			t.Errorf("read %q again", rec.Value)
		}
	}
}

func TestFileGrowsThroughTheHeadWhileStopped(t *testing.T) {
	r := newRig(t, "a.log")
	r.write("a.log", "short\n")
	r.start()
	r.expect("short")
	r.commit()
	r.crash()
	r.write("a.log", strings.Repeat("x", 2*headSize)+"\n")
	r.start()
	r.expect(strings.Repeat("x", 2*headSize))
}
