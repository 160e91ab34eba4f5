package file

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// linesOf returns n different lines, which together are longer than a head.
func linesOf(name string, from, n int) (content string, lines []string) {
	for i := range n {
		lines = append(lines, fmt.Sprintf("%s line %06d of a content that nothing else has", name, from+i))
	}
	return strings.Join(lines, "\n") + "\n", lines
}

// copyTo is what logrotate's copytruncate does first.
func (r *rig) copyTo(from, to string) {
	r.Helper()
	content, err := os.ReadFile(r.path(from))
	r.must(err)
	r.must(os.WriteFile(r.path(to), content, 0o600))
}

func (r *rig) copytruncate(from, to string) {
	r.Helper()
	r.copyTo(from, to)
	r.must(os.Truncate(r.path(from), 0))
}

// blocked starts with a lane that takes a batch when the test says so.
func (r *rig) blocked() {
	r.Helper()
	r.lane = sourcetest.NewLane(r)
	r.lane.Limit(0)
	r.startOn(r.lane)
}

// sizes waits until files of these sizes are followed, and none is about to begin anew.
func (r *rig) sizes(want ...int) {
	r.Helper()
	slices.Sort(want)
	list := func() []int {
		var got []int
		for _, f := range r.source.Files() {
			if f.State != FileWaits && f.State != StateCut {
				got = append(got, int(f.Size))
			}
		}
		slices.Sort(got)
		return got
	}
	sourcetest.Eventually(r, func() bool { return slices.Equal(list(), want) }, "sizes %v, there are %v", want, list())
}

// TestTailIsReadFromTheCopy: what a followed file held when it was cut is read from
// its copy, once, in order, before what the file holds then.
func TestTailIsReadFromTheCopy(t *testing.T) {
	for name, c := range map[string]struct{ pattern, copy string }{
		"outside the glob":                {"a.log", "a.log.1"},
		"outside the glob, another name":  {"a.log", "old"},
		"inside the glob":                 {"a*", "a.log.1"},
		"inside the glob, before by name": {"a*", "a-1.log"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.pattern)
			first, want := linesOf("first", 0, 100)
			r.write("a.log", first)
			r.start()
			r.expect(want...)
			r.lane.Limit(0) // from here on nothing is read
			r.lane.Deliver(40)
			unread, more := linesOf("unread", 0, 5000)
			r.write("a.log", unread)
			r.sizes(len(first) + len(unread))
			r.copytruncate("a.log", c.copy)
			anew, last := linesOf("anew", 0, 20)
			r.write("a.log", anew)
			r.sizes(len(first)+len(unread), len(anew))
			r.lane.Limit(1 << 20)
			r.expect(slices.Concat(want, more, last)...)
			if lost := r.lost(lostTruncated); lost != 0 {
				t.Errorf("%d bytes are counted as lost", lost)
			}
			r.commit()
			r.polled2("a.log")
		})
	}
}

// polled2 waits until the source has read one more line of the file.
func (r *rig) polled2(name string) {
	r.Helper()
	before := len(r.lane.Records())
	r.write(name, "one more\n")
	r.lane.Wait(before + 1)
	if got := r.lane.Values()[before:]; !slices.Equal(got, []string{"one more"}) {
		r.Fatalf("then read %q", got)
	}
}

// TestLinesThatNobodySawAreReadFromTheCopy: written between the last look and the
// copy, so that the source never knew of them.
func TestLinesThatNobodySawAreReadFromTheCopy(t *testing.T) {
	m := newSteps(t)
	path := m.dir + "/a.log"
	first, want := linesOf("first", 0, 100)
	appendTo(t, path, first)
	m.discoverer.poll(time.Now())
	m.readAll()
	unseen, more := linesOf("unseen", 0, 30)
	appendTo(t, path, unseen)
	mustDo(t, os.WriteFile(m.dir+"/copy", []byte(first+unseen), 0o600))
	mustDo(t, os.Truncate(path, 0))
	appendTo(t, path, "anew\n")
	m.discoverer.poll(time.Now())
	m.readAll()
	if got := m.lane.Values(); !slices.Equal(got, slices.Concat(want, more, []string{"anew"})) {
		t.Errorf("read %d records, the last are %q", len(got), got[max(0, len(got)-3):])
	}
}

// TestGenerationsOfCopies: the broker is away while a file is copied and cut again
// and again.
func TestGenerationsOfCopies(t *testing.T) {
	for _, pattern := range []string{"a.log", "a*"} {
		r := newRig(t, pattern)
		content, want := linesOf("0", 0, 60)
		r.write("a.log", content)
		r.blocked()
		sizes := []int{}
		for n := 1; n <= 4; n++ {
			r.sizes(append(sizes, len(content))...)
			for g := n; g > 1; g-- {
				r.rename(fmt.Sprintf("a.log.%d", g-1), fmt.Sprintf("a.log.%d", g))
			}
			r.copytruncate("a.log", "a.log.1")
			sizes = append(sizes, len(content))
			var lines []string
			content, lines = linesOf(fmt.Sprint(n), 0, 60+n)
			r.write("a.log", content)
			want = append(want, lines...)
		}
		r.sizes(append(sizes, len(content))...)
		r.lane.Limit(1 << 20)
		r.expect(want...)
		if lost := r.lost(lostTruncated); lost != 0 {
			t.Errorf("%d bytes are counted as lost", lost)
		}
	}
}

// TestRecordsOnTheirWayWhenTheFileIsCut: a crash before they are delivered reads them
// from the copy.
func TestRecordsOnTheirWayWhenTheFileIsCut(t *testing.T) {
	for _, pattern := range []string{"a.log", "a*"} {
		r := newRig(t, pattern)
		content, want := linesOf("first", 0, 100)
		r.write("a.log", content)
		r.start()
		r.expect(want...)
		r.lane.Deliver(30)
		r.positions.Commit(r.source)
		r.copytruncate("a.log", "a.log.1")
		r.write("a.log", "anew\n")
		r.expect(append(want, "anew")...)
		r.lane.Deliver(20)
		r.positions.Commit(r.source) // 50 of the old content, nothing of the new
		r.crash()
		r.start()
		got := r.lane.Wait(51)
		var values []string
		for _, v := range got {
			values = append(values, v.Value)
		}
		slices.Sort(values)
		if !slices.Equal(values, slices.Concat([]string{"anew"}, want[50:])) {
			t.Errorf("after the crash %d records: %q", len(values), values)
		}
		r.crash()
	}
}

func TestTailIsReadFromTheCopyAfterARestart(t *testing.T) {
	for name, c := range map[string]struct{ pattern, copy, then string }{
		"outside the glob":                    {"a.log", "a.log.1", ""},
		"inside the glob":                     {"a*", "a.log.1", ""},
		"inside the glob, before by its name": {"a*", "a-1.log", ""},
		"the file grew beyond the position":   {"a.log", "a.log.1", strings.Repeat("longer than before\n", 5000)},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.pattern)
			content, want := linesOf("first", 0, 100)
			r.write("a.log", content)
			r.start()
			r.expect(want...)
			r.lane.Deliver(70)
			r.positions.Commit(r.source)
			r.crash()
			unseen, more := linesOf("unseen", 0, 100)
			r.write("a.log", unseen)
			r.copytruncate("a.log", c.copy)
			r.write("a.log", "anew\n"+c.then)
			r.start()
			then := strings.Split(strings.TrimSuffix("anew\n"+c.then, "\n"), "\n")
			r.expect(slices.Concat(want[70:], more, then)...)
			if lost := r.lost(lostTruncated) + r.lost(lostVanished); lost != 0 {
				t.Errorf("%d bytes are counted as lost", lost)
			}
		})
	}
}

// TestTwoGenerationsOfCopiesWhileStopped: the content that was followed is in the
// older copy, the younger one was never seen and is read because it matches.
func TestTwoGenerationsOfCopiesWhileStopped(t *testing.T) {
	r := newRig(t, "a*")
	content, want := linesOf("first", 0, 100)
	r.write("a.log", content)
	r.start()
	r.expect(want...)
	r.lane.Deliver(70)
	r.positions.Commit(r.source)
	r.crash()
	r.copytruncate("a.log", "a.log.1")
	second, between := linesOf("second", 0, 50)
	r.write("a.log", second)
	r.rename("a.log.1", "a.log.2")
	r.copytruncate("a.log", "a.log.1")
	r.write("a.log", "anew\n")
	r.start()
	got := r.lane.Wait(30 + 50 + 1)
	if values := r.lane.Values(); !slices.Equal(values[:31], append(slices.Clone(want[70:]), "anew")) || !slices.Equal(values[31:], between) || len(got) != 81 {
		t.Errorf("read %q", values)
	}
}

// TestRepeatedLinesAreNeverSkipped: nothing tells a copy of them from another file,
// so that it is read whole.
func TestRepeatedLinesAreNeverSkipped(t *testing.T) {
	const line = "tick tock, and nothing else ever\n"
	r := newRig(t, "a*")
	r.write("a.log", strings.Repeat(line, 100))
	r.start()
	r.lane.Wait(100)
	r.commit()
	r.copytruncate("a.log", "a.log.1")
	r.write("a.log", line)
	r.lane.Wait(201)
	r.polled2("a.log")
}

// TestLostBytesAreCountedExactly where no copy is to be found.
func TestLostBytesAreCountedExactly(t *testing.T) {
	for name, replace := range map[string]func(r *rig){
		"cut": func(r *rig) { r.must(os.Truncate(r.path("a.log"), 0)) },
		"rewritten to the same size": func(r *rig) {
			r.overwrite("a.log", func(b []byte) []byte { return []byte(strings.Repeat("y", len(b)-1) + "\n") })
		},
		"rewritten longer": func(r *rig) {
			r.overwrite("a.log", func(b []byte) []byte { return []byte(strings.Repeat("z", 2*len(b)) + "\n") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "a.log")
			content, want := linesOf("first", 0, 100)
			r.write("a.log", content)
			r.start()
			r.expect(want...)
			r.lane.Limit(0)
			unread, _ := linesOf("unread", 0, 1000)
			r.write("a.log", unread)
			r.sizes(len(content) + len(unread))
			replace(r)
			sourcetest.Eventually(t, func() bool { return r.lost(lostTruncated) > 0 }, "a count of what was lost")
			if got := r.lost(lostTruncated); got != len(unread) {
				t.Errorf("%d bytes are counted, %d were lost", got, len(unread))
			}
		})
	}
}

// overwrite changes a file in place.
func (r *rig) overwrite(name string, change func([]byte) []byte) {
	r.Helper()
	content, err := os.ReadFile(r.path(name))
	r.must(err)
	f, err := os.OpenFile(r.path(name), os.O_WRONLY, 0)
	r.must(err)
	_, err = f.WriteAt(change(content), 0)
	r.must(err)
	r.must(f.Close())
}

// TestRewriteToTheSameSize: nothing is left to read, and still it is noticed.
func TestRewriteToTheSameSize(t *testing.T) {
	lines, want := linesOf("old", 0, 100)
	for name, change := range map[string]func(b []byte) []byte{
		"other head":  func(b []byte) []byte { return append([]byte("NEW"), b[3:]...) },
		"other guard": func(b []byte) []byte { return append(b[:len(b)-4:len(b)-4], "new\n"...) },
	} {
		for _, running := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", running ", running), func(t *testing.T) {
				r := newRig(t, "a.log")
				r.write("a.log", lines)
				r.start()
				r.expect(want...)
				r.commit()
				if !running {
					r.crash()
				}
				anew := strings.Split(strings.TrimSuffix(string(change([]byte(lines))), "\n"), "\n")
				r.overwrite("a.log", change)
				if running {
					r.expect(slices.Concat(want, anew)...)
				} else {
					r.start()
					r.expect(anew...)
				}
			})
		}
	}
}

// TestRewriteWithItsTimeRestored leaves nothing but the time of the inode's change.
func TestRewriteWithItsTimeRestored(t *testing.T) {
	lines, want := linesOf("old", 0, 100)
	r := newRig(t, "a.log")
	r.write("a.log", lines)
	r.start()
	r.expect(want...)
	info, err := os.Stat(r.path("a.log"))
	r.must(err)
	r.overwrite("a.log", func(b []byte) []byte { return append([]byte("NEW"), b[3:]...) })
	r.must(os.Chtimes(r.path("a.log"), info.ModTime(), info.ModTime()))
	r.lane.Wait(200)
	if got := r.lane.Values()[100]; !strings.HasPrefix(got, "NEW") {
		t.Errorf("then read %q", got)
	}
}

// TestTouchedFileIsNotReadAgain: another time and the same bytes are the same file.
func TestTouchedFileIsNotReadAgain(t *testing.T) {
	r := newRig(t, "a.log")
	lines, want := linesOf("old", 0, 100)
	r.write("a.log", lines)
	r.start()
	r.expect(want...)
	r.commit()
	touch := func() { r.must(os.Chtimes(r.path("a.log"), time.Now(), time.Now().Add(time.Hour))) }
	touch()
	r.polled2("a.log")
	r.commit()
	r.crash()
	touch()
	r.start()
	r.polled2("a.log")
}

// TestOrdinaryCopyIsReadAfterAWhile: somebody copies a file inside the glob and cuts
// nothing.
func TestOrdinaryCopyIsReadAfterAWhile(t *testing.T) {
	r := newRig(t, "a*")
	start := time.Now()
	var shift movedClock
	r.config.Now = func() time.Time { return start.Add(shift.get()).Add(time.Since(start)) }
	lines, want := linesOf("line", 0, 100)
	r.write("a.log", lines)
	r.start()
	r.expect(want...)
	r.copyTo("a.log", "a.log.bak")
	r.polled2("a.log")
	shift.add(2 * copyQuiet)
	r.lane.Wait(201)
}

// TestCopyWithAWriter: one that is closed a moment after the cut is a copy, one that
// stays open is in doubt another program's file, and read whole.
func TestCopyWithAWriter(t *testing.T) {
	for _, stays := range []bool{false, true} {
		r := newRig(t, "a*")
		content, want := linesOf("line", 0, 100)
		r.write("a.log", content)
		r.start()
		r.expect(want...)
		r.commit()
		w, err := os.Create(r.path("a.log.1"))
		r.must(err)
		_, err = w.WriteString(content)
		r.must(err)
		r.must(os.Truncate(r.path("a.log"), 0))
		sourcetest.Eventually(t, func() bool { return stateOf(r, "a.log") == StateCut }, "the cut to be noticed")
		if !stays {
			r.must(w.Close())
			r.polled2("a.log")
			r.crash()
			continue
		}
		r.lane.Wait(200)
		if got := r.lane.Values()[100:]; !slices.Equal(got, want) {
			t.Errorf("then read %d records", len(got))
		}
		r.must(w.Close())
	}
}

func stateOf(r *rig, name string) string {
	for _, f := range r.source.Explain(r.path(name)).Files {
		return f.State
	}
	return ""
}

// TestRemovedFileIsReadFromItsCopy: what was not delivered of it when the agent ended.
func TestRemovedFileIsReadFromItsCopy(t *testing.T) {
	r := newRig(t, "a.log")
	content, want := linesOf("line", 0, 100)
	r.write("a.log", content)
	r.start()
	r.expect(want...)
	r.lane.Deliver(30)
	r.positions.Commit(r.source)
	r.crash()
	r.copyTo("a.log", "a.log.1")
	r.must(os.Remove(r.path("a.log")))
	r.start()
	r.expect(want[30:]...)
	if lost := r.lost(lostVanished); lost != 0 {
		t.Errorf("%d bytes are counted as lost", lost)
	}
}

// TestCopyThatEndsBeforeTheCut: lines between copy and cut are lost, and counted as far
// as they were known.
func TestCopyThatEndsBeforeTheCut(t *testing.T) {
	r := newRig(t, "a.log")
	content, want := linesOf("line", 0, 100)
	r.write("a.log", content)
	r.start()
	r.expect(want...)
	r.lane.Limit(0)
	unread, more := linesOf("unread", 0, 100)
	r.write("a.log", unread)
	r.copyTo("a.log", "a.log.1")
	const between = "between copy and cut\n"
	r.write("a.log", between)
	r.sizes(len(content) + len(unread) + len(between))
	r.must(os.Truncate(r.path("a.log"), 0))
	sourcetest.Eventually(t, func() bool { return r.lost(lostTruncated) > 0 }, "a count of what was lost")
	r.lane.Limit(1 << 20)
	r.expect(slices.Concat(want, more)...)
	if lost := r.lost(lostTruncated); lost != len(between) {
		t.Errorf("%d bytes are counted as lost, %d were", lost, len(between))
	}
}

// TestCopyAfterACutWithoutOne, a moment later: it holds lines of which nothing was known
// when its file was cut.
func TestCopyAfterACutWithoutOne(t *testing.T) {
	l := newLife(t, func(*Config) {})
	l.write("a.log", strings.Repeat("a line that is read\n", 10))
	l.pass(time.Second)
	mustDo(t, os.WriteFile(l.path("a.log"), nil, 0o600))
	l.pass(time.Millisecond)
	l.write("a.log", strings.Repeat("another line that is read\n", 10))
	l.pass(time.Millisecond)
	l.deliver()
	l.write("a.log", "unseen\n")
	content, err := os.ReadFile(l.path("a.log"))
	mustDo(t, err)
	mustDo(t, os.WriteFile(l.path("a.log.1"), content, 0o600))
	mustDo(t, os.WriteFile(l.path("a.log"), nil, 0o600))
	l.pass(time.Millisecond)
	l.pass(2 * copyPatience)
	if got := l.lane.Values(); len(got) < 21 || got[len(got)-1] != "unseen" {
		t.Errorf("%d records, the last is %q", len(got), got[len(got)-1])
	}
}
