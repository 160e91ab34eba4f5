package file

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

const pollPause = 250 * time.Millisecond

// manyLife is more files than each poll looks at, with events that are relied on.
type manyLife struct {
	*life
	files int
}

func newManyLife(t *testing.T, change func(*Config)) *manyLife {
	m := &manyLife{files: 2 * allLooks}
	m.life = newLife(t, func(c *Config) {
		change(c)
		c.Now = func() time.Time {
			if m.life == nil {
				return time.Now()
			}
			return m.clock // of the hints as well
		}
	})
	m.discoverer.hints.start()
	t.Cleanup(m.discoverer.hints.close)
	m.writeAll("first\n")
	m.pass(0)
	m.deliver()
	m.takeEvents(0)
	for range int((settleTime+2*quietTime)/pollPause) + roundsOf(m.files) {
		m.poll()
	}
	if n := len(m.lane.Values()); n != m.files {
		t.Fatalf("%d lines", n)
	}
	return m
}

func (m *manyLife) name(n int) string { return fmt.Sprintf("%05d.log", n) }

func (m *manyLife) writeAll(line string) {
	for n := range m.files {
		m.write(m.name(n), line)
	}
}

// poll is one that is due, with the reads that follow.
func (m *manyLife) poll() {
	m.clock = m.clock.Add(pollPause)
	m.discoverer.poll(m.clock)
	m.readAll()
	m.deliver()
}

// takeEvents handles those that come until so many lines are read.
func (m *manyLife) takeEvents(lines int) {
	m.t.Helper()
	events, _ := m.discoverer.hints.channels()
	sourcetest.Eventually(m.t, func() bool {
		select {
		case event := <-events:
			m.discoverer.hintAll(event, events)
			m.readAll()
			m.deliver()
			return false
		default:
			return len(m.lane.Values()) >= lines
		}
	}, "%d lines by events alone, there are %d", lines, len(m.lane.Values()))
}

// deafen takes the watch away behind the source's back: what happens from now on has no event.
func (m *manyLife) deafen() {
	m.t.Helper()
	mustDo(m.t, m.discoverer.hints.watcher.Remove(m.dir))
	m.takeEvents(0)
}

// TestPollsLookAtFewOfManyFiles: of files that all have changed without an event, a poll
// finds those that it looks at. That they changed with an event just before makes no difference.
func TestPollsLookAtFewOfManyFiles(t *testing.T) {
	for name, change := range map[string]func(*Config){"open": func(*Config) {}, "at rest": closing} {
		t.Run(name, func(t *testing.T) {
			m := newManyLife(t, change)
			if name == "at rest" {
				m.pass(time.Hour)
				if n := countState(m.source, FileAtRest); n != m.files {
					t.Fatalf("%d files are at rest", n)
				}
			}
			m.clock = m.clock.Add(time.Second)
			m.writeAll("told\n")
			m.takeEvents(2 * m.files)
			if name == "at rest" {
				m.pass(time.Hour)
			}
			m.deafen()
			m.writeAll("untold\n")
			before := len(m.lane.Values())
			m.poll()
			found := len(m.lane.Values()) - before
			if most := m.files / 3; found == 0 || found > most {
				t.Errorf("one poll has found %d changes, at most %d are expected", found, most)
			}
			for range roundsOf(m.files) {
				m.poll()
			}
			if n := len(m.lane.Values()); n != 3*m.files {
				t.Errorf("%d lines are read after all files had their turn, of %d", n, 3*m.files)
			}
		})
	}
}

// TestAChangeWithoutAnEventMakesAFileWatched: what was changed so once is looked at by
// each poll for a while.
func TestAChangeWithoutAnEventMakesAFileWatched(t *testing.T) {
	m := newManyLife(t, func(*Config) {})
	m.deafen()
	m.write(m.name(7), "untold\n")
	for range roundsOf(m.files) {
		m.poll()
	}
	for n := range 20 {
		m.write(m.name(7), "untold\n")
		m.poll()
		if got := len(m.lane.Values()) - m.files; got != n+2 {
			t.Fatalf("after poll %d: %d lines", n, got)
		}
	}
}

// TestLostEventsMakeAPollLookAtAll: an overflow of the kernel's queue says nothing of which.
func TestLostEventsMakeAPollLookAtAll(t *testing.T) {
	for name, change := range map[string]func(*Config){"open": func(*Config) {}, "at rest": closing} {
		t.Run(name, func(t *testing.T) {
			m := newManyLife(t, change)
			m.pass(time.Hour)
			m.deafen()
			m.writeAll("untold\n")
			m.discoverer.full = true // as wait does for an overflow
			m.poll()
			if n := len(m.lane.Values()); n != 2*m.files {
				t.Errorf("%d lines", n)
			}
		})
	}
}

// TestRoundsOf: each of 100,000 files is looked at after 25 s of four polls a second.
func TestRoundsOf(t *testing.T) {
	for files, most := range map[int]int{0: 1, allLooks: 1, 10_000: 40, 100_000: 100, 1_000_000: 1000} {
		if got := roundsOf(files); got < 1 || got > most {
			t.Errorf("%d files: %d rounds", files, got)
		}
		if looks := files / roundsOf(files); looks > allLooks {
			t.Errorf("%d files: %d looks per poll", files, looks)
		}
	}
}

// TestARefusedWatchIsAskedForAgain: the folder can't be watched without the right to list it.
func TestARefusedWatchIsAskedForAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.log")
	appendTo(t, path, "one\n")
	mustDo(t, os.Chmod(dir, 0o311)) //nolint:gosec // what it is about
	info, err := os.Stat(dir)
	mustDo(t, err)
	logged := &countingHandler{Handler: slog.DiscardHandler}
	h := &hints{log: slog.New(logged), now: time.Now}
	h.start()
	defer h.close()
	begin := time.Now()
	vouches := func(after time.Duration) bool {
		var w *watch
		asNobody(t, func() string { h.watch(map[string]inode{dir: inodeOf(info)}, begin.Add(after)); return "" })
		return h.vouch(&w, path, begin.Add(after))
	}
	if vouches(0) || h.refused != 1 || logged.count(slog.LevelWarn) != 1 {
		t.Fatalf("%d refused, %d warnings", h.refused, logged.count(slog.LevelWarn))
	}
	mustDo(t, os.Chmod(dir, 0o755)) //nolint:gosec // likewise
	if vouches(retryWatches-1) || h.refused != 1 {
		t.Error("it was asked for before its time")
	}
	if vouches(retryWatches) || h.refused != 0 || logged.count(slog.LevelInfo) != 1 {
		t.Errorf("asked for again: %d refused, %d lines say that it is there", h.refused, logged.count(slog.LevelInfo))
	}
	if !isSound(dir) {
		return // nothing vouches on this filesystem
	}
	if vouches(retryWatches+quietTime-1) || !vouches(retryWatches+quietTime) {
		t.Error("it is not relied on exactly from quietTime on")
	}
	appendTo(t, path, "two\n")
	events, _ := h.channels()
	waitForEvent(t, events, path)
}

// TestARefusedFolderIsLookedAtByEachPoll: no event tells of what happens in it.
func TestARefusedFolderIsLookedAtByEachPoll(t *testing.T) {
	m := newManyLife(t, func(*Config) {})
	m.discoverer.hints.forget(m.dir)
	m.discoverer.hints.dirs[m.dir] = &watch{inode: m.discoverer.source.walker.last.dirs[m.dir], since: m.clock}
	m.discoverer.hints.refused++
	m.writeAll("untold\n")
	m.poll()
	if n := len(m.lane.Values()); n != 2*m.files {
		t.Errorf("%d lines after one poll", n)
	}
}

// TestFilesThatGrowAreOpenedOnce reads files that grow slowly: each is opened once, if
// they may all be open, and else at most once for each line.
func TestFilesThatGrowAreOpenedOnce(t *testing.T) {
	g := growth{files: 600, active: 600, rate: 1000, lines: 3000}
	for name, c := range map[string]struct{ open, opens int }{
		"all open":  {0, g.files},
		"some open": {64, g.files + g.lines},
	} {
		t.Run(name, func(t *testing.T) {
			logged := &recordingHandler{}
			dir := t.TempDir()
			g.make(t, dir)
			r := g.read(t, dir, func(config *Config) {
				config.MaxOpenFiles, config.Logger = c.open, slog.New(logged)
			})
			defer r.stop()
			cpu, _ := r.measure()
			if perLine := cpu / time.Duration(g.lines); perLine > 5*time.Millisecond {
				t.Errorf("%v of processor time for each line", perLine)
			}
			if n := logged.count("file is followed"); n != g.files {
				t.Errorf("%d lines say that one of %d files is followed", n, g.files)
			}
			if opens := logged.count("file is followed") + logged.count("file is opened again: it is read on"); opens > c.opens {
				t.Errorf("files were opened %d times, %d lines were written to %d", opens, g.lines, g.files)
			}
		})
	}
}

func (h *recordingHandler) count(message string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.logs {
		if r.Message == message {
			n++
		}
	}
	return n
}

// TestADeletionThatFailsForGood is one error, keeps the file, and holds nothing up.
func TestADeletionThatFailsForGood(t *testing.T) {
	writable := t.TempDir()
	dir := mount(t, "--bind", writable)
	remount := func(how string) { mountOptions(t, dir, "remount,bind,"+how) }
	remount("ro")
	logged := &countingHandler{Handler: slog.DiscardHandler}
	l := &life{clock: time.Now(), steps: newStepsIn(t, dir, func(c *Config) { c.DeleteAfterDelivery, c.Logger = true, slog.New(logged) })}
	positions := sourcetest.Positions{}
	appendTo(t, filepath.Join(writable, "a.log"), "one\n")
	again := func(times int) {
		for range times {
			l.pass(graceTime)
			l.commit(positions)
		}
	}
	again(30)
	l.expect("one")
	if n := logged.count(slog.LevelError); n != 1 {
		t.Errorf("%d errors are logged in five minutes", n)
	}
	appendTo(t, filepath.Join(writable, "a.log"), "two\n")
	appendTo(t, filepath.Join(writable, "b.log"), "three\n")
	again(10)
	l.expect("one", "two", "three")
	if !exists(l.path("a.log")) || len(positions) < 2 {
		t.Errorf("%d positions are kept", len(positions))
	}
	remount("rw")
	again(20)
	if exists(l.path("a.log")) || exists(l.path("b.log")) {
		t.Error("they are not deleted after they could be")
	}
}
