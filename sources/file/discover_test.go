package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/charset"
	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

func TestGlobs(t *testing.T) {
	for name, c := range map[string]struct {
		include, exclude []string
		want             string
	}{
		"one level":             {[]string{"*.log"}, nil, "a.log"},
		"any depth":             {[]string{"**/*.log"}, nil, "a.log d/b.log d/e/c.log"},
		"folder in the middle":  {[]string{"d/*/c.log"}, nil, "d/e/c.log"},
		"folders below":         {[]string{"d/**"}, nil, "d/b.log d/b.tmp d/e/c.log"},
		"alternatives":          {[]string{"{a,d/b}.log"}, nil, "a.log d/b.log"},
		"plain":                 {[]string{"d/b.tmp"}, nil, "d/b.tmp"},
		"several, overlapping":  {[]string{"*.log", "a*", "d/*.log"}, nil, "a.log d/b.log"},
		"absolute exclude":      {[]string{"**/*"}, []string{"$/d/**"}, "a.log x.txt"},
		"relative exclude":      {[]string{"**/*"}, []string{"**/*.log", "**/x.*"}, "d/b.tmp"},
		"question mark, class":  {[]string{"?.l[oO]g"}, nil, "a.log"},
		"nothing there":         {[]string{"missing/*.log", "missing.log"}, nil, ""},
		"unclean":               {[]string{"./d/../*.log"}, nil, "a.log"},
		"hidden by its own dir": {[]string{"d/e/**/c.log"}, nil, "d/e/c.log"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range []string{"a.log", "x.txt", "d/b.log", "d/b.tmp", "d/e/c.log"} {
				if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(f)), 0o700); err != nil {
					t.Fatal(err)
				}
				appendTo(t, filepath.Join(dir, f), "x\n")
			}
			var include, exclude []string
			for _, p := range c.include {
				include = append(include, dir+"/"+p)
			}
			for _, p := range c.exclude {
				exclude = append(exclude, strings.Replace(p, "$", dir, 1))
			}
			w, err := newWalker(include, exclude, true, nil)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			s := w.scan(time.Now())
			for _, c := range s.found {
				got = append(got, strings.TrimPrefix(c.path, dir+"/"))
			}
			slices.Sort(got)
			if strings.Join(got, " ") != c.want || len(s.failed) > 0 {
				t.Errorf("found %q, failed %v", got, s.failed)
			}
		})
	}
}

func TestBadConfigurationIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"include names no files": func(c *Config) { c.Include = nil },
		"not absolute":           func(c *Config) { c.Include = []string{"a/*.log"} },
		"malformed":              func(c *Config) { c.Include = []string{"/a/[.log"} },
		"exclude":                func(c *Config) { c.Exclude = []string{"{a"} },
		"max_line":               func(c *Config) { c.MaxLine = 0 },
		"poll_interval":          func(c *Config) { c.PollInterval = 0 },
		"symlink_roots":          func(c *Config) { c.SymlinkRoots = []string{"a"} },
		"newer":                  func(c *Config) { c.Saved = []record.Checkpoint{{Key: "p/0/file/x", Value: []byte{9}}} },
	} {
		config := configOf("/tmp/*.log")
		change(&config)
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestStartAtEnd(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.StartAt = End
	r.write("a.log", "old\nunfinished")
	r.write("b.log", "old")
	r.start()
	r.tracked("a.log", "b.log")
	r.write("c.log", "new file, whole\n")
	r.expect("new file, whole")
	r.write("a.log", " line\n")
	r.expect("new file, whole", "unfinished line")
	r.positions.Commit(r.source) // before anything was delivered
	r.crash()
	r.write("d.log", "appeared while stopped\n")
	r.write("b.log", " line\n")
	r.start()
	r.lane.Wait(4)
	got := r.lane.Values()
	slices.Sort(got)
	if want := []string{"appeared while stopped", "new file, whole", "old line", "unfinished line"}; !slices.Equal(got, want) {
		t.Errorf("after a restart: %q", got)
	}
}

// A byte 0x0a is no newline where it is part of another code unit.
func TestStartAtEndInWideEncodings(t *testing.T) {
	for _, name := range []string{"utf-16", "utf-16le", "utf-16be", "utf-32"} {
		t.Run(name, func(t *testing.T) {
			c, err := charset.Lookup(name)
			if err != nil {
				t.Fatal(err)
			}
			encoded := func(text string) string {
				raw, err := c.Layout(c.Layouts() - 1).Encode(text)
				if err != nil {
					t.Fatal(err)
				}
				return raw
			}
			r := newRig(t, "*.log")
			r.config.StartAt, r.config.Charset = End, c
			mark := ""
			if c.Layouts() > 1 { // by the mark the second byte order
				mark = encoded("\uFEFF")
			}
			r.write("a.log", mark+encoded("old\nunfinished \u0a0a\u010a"))
			r.start()
			r.tracked("a.log")
			r.write("a.log", encoded(" line\nlast\n"))
			r.expect("unfinished \u0a0a\u010a line", "last")
		})
	}
}

func TestStartAtEndDoesNotApplyWhenPositionsWereLost(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.StartAt, r.config.Lost = End, true
	r.write("a.log", "perhaps never read\n")
	r.start()
	r.expect("perhaps never read")
}

func TestMalformedPositionReadsTheFileAnew(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.StartAt = End
	r.write("a.log", "one\n")
	r.positions["p/0/started"] = []byte{1}
	r.positions["p/0/file/1-2-3"] = []byte{1, 2, 3}
	r.start()
	r.expect("one")
}

func TestHardLinksAreOneFile(t *testing.T) {
	r := newRig(t, "*.log", "a*")
	r.write("a.log", "one\n")
	r.must(os.Link(r.path("a.log"), r.path("b.log")))
	r.start()
	r.polled()
	r.must(os.Remove(r.path("a.log")))
	r.write("b.log", "two\n")
	r.expect("one", "polled", "two")
	r.polled()
	r.expect("one", "polled", "two", "polled")
}

func TestLinks(t *testing.T) {
	r := newRig(t, "logs/*.log", "logs/sub/**/*.log")
	for _, dir := range []string{"logs/sub/deep", "outside", "extra"} {
		r.must(os.MkdirAll(r.path(dir), 0o700))
	}
	r.config.FollowSymlinks = true
	r.config.SymlinkRoots = []string{r.path("extra")}
	r.write("outside/secret", "secret\n")
	r.write("logs/real", "inside\n")
	r.write("extra/file", "extra root\n")
	r.write("outside/dir.log", "folder outside\n")
	r.write("logs/sub/deep/x.log", "deep\n")
	for link, target := range map[string]string{
		"logs/evil.log":      "../outside/secret",
		"logs/absolute.log":  r.path("outside/secret"),
		"logs/good.log":      "real",
		"logs/extra.log":     "../extra/file",
		"logs/dangling.log":  "nothing",
		"logs/loop.log":      "loop.log",
		"logs/sub/cycle":     "../sub",
		"logs/sub/elsewhere": "../../outside",
	} {
		r.must(os.Symlink(target, r.path(link)))
	}
	r.start()
	r.lane.Wait(3)
	r.write("logs/zz.log", "end\n")
	r.lane.Wait(4)
	got := r.lane.Values()
	slices.Sort(got)
	if want := []string{"deep", "end", "extra root", "inside"}; !slices.Equal(got, want) {
		t.Errorf("read %q", got)
	}
	r.crash()

	r.config.FollowSymlinks = false
	r.positions = sourcetest.Positions{}
	r.start()
	r.lane.Wait(2)
	r.write("logs/zzz.log", "end\n")
	r.lane.Wait(3)
	got = r.lane.Values()
	slices.Sort(got)
	if want := []string{"deep", "end", "end"}; !slices.Equal(got, want) {
		t.Errorf("without following links: %q", got)
	}
}

// TestHintsReachLinkedFiles has no poll after the first.
func TestHintsReachLinkedFiles(t *testing.T) {
	r := newRig(t, "links/*.log")
	r.config.FollowSymlinks, r.config.SymlinkRoots, r.config.PollInterval = true, []string{r.path("real")}, time.Hour
	r.must(os.Mkdir(r.path("links"), 0o700))
	r.must(os.Mkdir(r.path("real"), 0o700))
	r.write("real/0", "one\n")
	r.must(os.Symlink("../real/0", r.path("links/a.log")))
	r.start()
	r.expect("one")
	r.write("real/0", "two\n")
	r.expect("one", "two")
}

func TestLinkThatMovesOn(t *testing.T) {
	r := newRig(t, "current.log")
	r.config.FollowSymlinks = true
	r.write("1", "one\n")
	r.must(os.Symlink("1", r.path("current.log")))
	r.start()
	r.expect("one")
	r.write("1", "two\n")
	r.write("2", "three\n")
	r.must(os.Symlink("2", r.path("next")))
	r.rename("next", "current.log")
	r.expect("one", "two", "three")
}

// TestOpenNeverLeavesTheRoot swaps a folder for a link between the look and the open.
func TestOpenNeverLeavesTheRoot(t *testing.T) {
	r := newRig(t)
	r.must(os.MkdirAll(r.path("root/d"), 0o700))
	r.must(os.MkdirAll(r.path("outside"), 0o700))
	r.write("outside/x.log", "secret\n")
	r.must(os.Remove(r.path("root/d")))
	r.must(os.Symlink("../outside", r.path("root/d")))
	r.must(os.Symlink("../outside/x.log", r.path("root/x.log")))
	r.must(unix.Mkfifo(r.path("root/fifo"), 0o600))
	for _, relative := range []string{"d/x.log", "x.log", "../outside/x.log", "fifo", ".", "/etc/hostname"} {
		if f, err := openBeneath(r.path("root"), relative); err == nil {
			t.Errorf("%s was opened", relative)
			f.Close()
		}
	}
}

func TestThingsThatAreNoFilesNeverBlock(t *testing.T) {
	r := newRig(t, "*.log")
	r.write("a.log", "one\n")
	r.must(unix.Mkfifo(r.path("fifo.log"), 0o600))
	r.must(os.Mkdir(r.path("dir.log"), 0o700))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	r.must(err)
	defer unix.Close(fd)
	r.Chdir(r.dir) // a socket's path is short
	r.must(unix.Bind(fd, &unix.SockaddrUnix{Name: "socket.log"}))
	r.start()
	r.expect("one")
	r.must(os.Remove(r.path("a.log")))
	r.must(unix.Mkfifo(r.path("a.log"), 0o600))
	r.polled()
	r.must(os.Remove(r.path("fifo.log")))
	r.write("fifo.log", "now a file\n")
	r.expect("one", "polled", "now a file")
}

// TestPermission runs without root's rights. The clock moves on so that the waits
// between attempts pass at once.
func TestPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		defer func() { mustDo(t, syscall.Seteuid(0)) }()
	}
	r := newRig(t, "*.log")
	var mu sync.Mutex
	clock := time.Now()
	r.config.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		clock = clock.Add(time.Second)
		return clock
	}
	logged := &countingHandler{Handler: slog.DiscardHandler}
	r.config.Logger = slog.New(logged)
	r.write("closed.log", "finally\n")
	r.write("open.log", "one\n")
	for dir := r.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		r.must(os.Chmod(dir, 0o755))
	}
	if os.Geteuid() == 0 {
		r.must(os.Chown(r.path("closed.log"), 65534, 65534))
		r.must(os.Chown(r.path("open.log"), 65534, 65534))
		r.must(os.Chown(r.dir, 65534, 65534))
	}
	r.must(os.Chmod(r.path("closed.log"), 0))
	if os.Geteuid() == 0 {
		r.must(syscall.Seteuid(65534))
	}
	r.start()
	r.expect("one")
	for range 3 {
		r.polled()
	}
	if n := logged.count(slog.LevelError); n != 1 {
		t.Errorf("%d errors were logged, one is enough", n)
	}
	r.must(os.Chmod(r.path("open.log"), 0)) // what is open stays readable
	r.must(os.Chmod(r.path("closed.log"), 0o600))
	r.expect("one", "polled", "polled", "polled", "finally")

	r.must(os.Chmod(r.dir, 0)) // a folder that can't be read proves nothing
	sourcetest.Eventually(t, func() bool { return logged.count(slog.LevelError) == 2 }, "the folder's error")
	r.commit()
	for n := 3; n < 6; n++ { // polls long after
		mu.Lock()
		clock = clock.Add(2 * repeatLog)
		mu.Unlock()
		sourcetest.Eventually(t, func() bool { return logged.count(slog.LevelError) >= n }, "the folder's error again")
	}
	if n := len(r.source.Status()); n != 3 {
		t.Errorf("%d files are followed while their folder can't be read, 3 before", n)
	}
	r.must(os.Chmod(r.dir, 0o700))
	r.write("closed.log", "more\n")
	r.expect("one", "polled", "polled", "polled", "finally", "more")
}

// TestDescriptorsRunOut has fewer descriptors than files for a while.
func TestDescriptorsRunOut(t *testing.T) {
	logged := &countingHandler{Handler: slog.DiscardHandler}
	m := newStepsLogging(t, slog.New(logged))
	const files, left = 40, 10
	for n := range files {
		appendTo(t, filepath.Join(m.dir, fmt.Sprintf("%02d.log", n)), "x\n")
	}
	probe, err := unix.Open(m.dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	mustDo(t, err)
	mustDo(t, unix.Close(probe))
	var limit unix.Rlimit
	mustDo(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	restore := func() { mustDo(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) }
	t.Cleanup(restore)
	mustDo(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(probe + left), Max: limit.Max}))
	clock := time.Now()
	for range 30 {
		m.discoverer.poll(clock)
		clock = clock.Add(250 * time.Millisecond)
	}
	if n := countState(m.source, FileOpen); n == 0 || n > left {
		t.Errorf("%d files are open", n)
	}
	if n := logged.count(slog.LevelError); n != 1 {
		t.Errorf("%d errors were logged, one is enough", n)
	}
	restore()
	for range 3 { // those that made way for others are closed, then opened again
		clock = clock.Add(longDelay)
		m.discoverer.poll(clock)
		m.readAll()
	}
	if n := len(m.lane.Values()); n != files {
		t.Errorf("%d records of %d files", n, files)
	}
}

// countState counts the files in a state.
func countState(s *Source, state string) (n int) {
	for _, f := range s.Status() {
		if f.State == state {
			n++
		}
	}
	return n
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// countingHandler counts log lines by level.
type countingHandler struct {
	slog.Handler
	mu     sync.Mutex
	counts map[slog.Level]int
}

func (h *countingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *countingHandler) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.counts == nil {
		h.counts = make(map[slog.Level]int)
	}
	h.counts[r.Level]++
	return nil
}

func (h *countingHandler) count(level slog.Level) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counts[level]
}

// TestHintsComeBeforeThePoll has no poll after the first.
func TestHintsComeBeforeThePoll(t *testing.T) {
	r := newRig(t, "**/*.log")
	r.config.PollInterval = time.Hour
	r.write("a.log", "one\n")
	r.start()
	r.expect("one")
	begin := time.Now()
	r.write("a.log", "two\n")
	r.expect("one", "two")
	t.Logf("an appended line took %v", time.Since(begin))
	r.write("b.log", "three\n")
	r.expect("one", "two", "three")
	r.rename("a.log", "old")
	r.write("a.log", "four\n")
	r.expect("one", "two", "three", "four")
	r.must(os.Mkdir(r.path("d"), 0o700))
	sourcetest.Eventually(t, func() bool { return r.source.hasWatched(r.path("d")) }, "the new folder to be watched")
	r.write("d/c.log", "five\n")
	r.expect("one", "two", "three", "four", "five")
}

// hasWatched reports that a file created in dir is noticed at once: it creates one.
func (s *Source) hasWatched(dir string) bool {
	path := filepath.Join(dir, "probe.log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return false
	}
	for _, f := range s.Status() {
		if f.Path == path {
			return true
		}
	}
	return os.Remove(path) != nil
}

func TestReplacedFolderIsFollowed(t *testing.T) {
	r := newRig(t, "logs/*.log")
	r.must(os.Mkdir(r.path("logs"), 0o700))
	r.write("logs/a.log", "one\n")
	r.start()
	r.expect("one")
	r.rename("logs", "logs.old")
	r.must(os.Mkdir(r.path("logs"), 0o700))
	r.write("logs.old/a.log", "late\n")
	r.expect("one", "late")
	r.write("logs/a.log", "new\n")
	r.expect("one", "late", "new")
}

func TestReplacedFolderIsWatchedAnew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	mustDo(t, os.Mkdir(dir, 0o700))
	h := &hints{log: slog.New(slog.DiscardHandler), now: time.Now}
	h.start()
	defer h.close()
	dirs := map[string]inode{dir: {}}
	h.watch(dirs, time.Now())
	events, _ := h.channels()
	mustDo(t, os.Rename(dir, dir+".old"))
	waitForEvent(t, events, dir)
	if !h.forget(dir) {
		t.Error("the folder was not known to be watched")
	}
	mustDo(t, os.Mkdir(dir, 0o700))
	h.watch(dirs, time.Now())
	appendTo(t, filepath.Join(dir, "a.log"), "x")
	waitForEvent(t, events, filepath.Join(dir, "a.log"))
}

func waitForEvent(t *testing.T, events <-chan fsnotify.Event, name string) {
	t.Helper()
	sourcetest.Eventually(t, func() bool {
		select {
		case event := <-events:
			return event.Name == name
		default:
			return false
		}
	}, "an event of %s", name)
}

// TestListingsAreKeptOnlyWhenSettled: the times of a folder prove nothing while
// they are younger than the clock that sets them is coarse.
func TestListingsAreKeptOnlyWhenSettled(t *testing.T) {
	dir := t.TempDir()
	appendTo(t, filepath.Join(dir, "a.log"), "x")
	w, err := newWalker([]string{dir + "/*.log"}, nil, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	settled := func() bool { return w.kept.folders[listingKey{&w.include[0], dir, dir}].settled }
	now := time.Now()
	for _, c := range []struct {
		after time.Duration
		want  bool
	}{{0, false}, {settleTime - 1, false}, {settleTime, true}, {settleTime + 1, true}} {
		if n := len(w.scan(now.Add(c.after)).found); n != 1 || settled() != c.want {
			t.Errorf("after %v: %d files, settled %v", c.after, n, settled())
		}
	}
	appendTo(t, filepath.Join(dir, "b.log"), "x")
	if n := len(w.scan(now.Add(settleTime + 2)).found); n != 2 || settled() {
		t.Errorf("after a change: %d files, settled %v", n, settled())
	}
}

func TestLostEventsCauseAPoll(t *testing.T) {
	h := &hints{log: slog.New(slog.DiscardHandler), now: time.Now}
	if !h.failed(fsnotify.ErrEventOverflow) {
		t.Error("an overflow causes no poll")
	}
	if h.failed(errors.New("other")) {
		t.Error("another error causes a poll at once")
	}
}

func TestWatchLimitsAreOneWarning(t *testing.T) {
	logged := &countingHandler{Handler: slog.DiscardHandler}
	h := &hints{log: slog.New(logged), now: time.Now}
	h.start()
	defer h.close()
	tooLong := "/" + strings.Repeat("x", 300)
	set := func(dirs ...string) map[string]inode {
		s := make(map[string]inode)
		for _, dir := range dirs {
			s[dir] = inode{}
		}
		return s
	}
	now := time.Now()
	h.watch(set("/nonexistent"), now)
	if n := logged.count(slog.LevelWarn); n != 0 {
		t.Errorf("%d warnings for a folder that does not exist yet", n)
	}
	h.watch(set(tooLong+"1", tooLong+"2", t.TempDir()), now)
	h.watch(set(tooLong+"1", tooLong+"3"), now.Add(retryWatches))
	if n := logged.count(slog.LevelWarn); n != 1 {
		t.Errorf("%d warnings", n)
	}
}

// TestPositionsSurviveAMissingMount: a folder on another device proves nothing.
func TestPositionsSurviveAMissingMount(t *testing.T) {
	r := newRig(t, "*.log")
	saved := &state{
		identity: identity{inode: inode{device: 1 << 40, number: 4711}}, position: 10, size: 20,
		path: r.path("a.log"), real: r.path("a.log"),
	}
	gone := &state{
		identity: identity{inode: inode{device: 1 << 40, number: 4712}}, position: 10, size: 20,
		path: r.path("unmounted/x/b.log"), real: r.path("unmounted/x/b.log"),
	}
	for _, s := range []*state{saved, gone} {
		r.positions["p/0/file/"+s.identity.String()] = s.encode()
	}
	r.start()
	r.polled()
	r.positions.Commit(r.source)
	for _, s := range []*state{saved, gone} {
		if r.positions["p/0/file/"+s.identity.String()] == nil {
			t.Errorf("the position of %s was given up", s.path)
		}
	}
	if got := r.lost(lostVanished); got != 0 {
		t.Errorf("%d bytes counted as lost", got)
	}
}

func TestFileExcludedByANewConfigurationIsLeftAlone(t *testing.T) {
	r := newRig(t, "*.log")
	r.write("a.log", "one\n")
	r.start()
	r.expect("one")
	r.commit()
	r.crash()
	r.write("a.log", "private\n")
	r.config.Exclude = []string{"**/a.log"}
	r.start()
	r.polled()
	r.expect("polled")
	r.positions.Commit(r.source)
	r.crash()
	r.config.Exclude = nil
	r.start()
	r.lane.Wait(2)
	got := r.lane.Values()
	slices.Sort(got)
	if !slices.Equal(got, []string{"polled", "private"}) {
		t.Errorf("included again: %q", got)
	}
}
