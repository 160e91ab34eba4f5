package file

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

func TestExplainSaysWhyAFileIsReadOrNot(t *testing.T) {
	r := newRig(t, "*.log", "d/**/*.txt")
	r.config.Exclude = []string{"**/no-*", r.path("d/secret/**")}
	r.config.FollowSymlinks = true
	r.config.IgnoreOlder = time.Hour
	for _, dir := range []string{"d/secret", "outside", "dir.log"} {
		r.must(os.MkdirAll(r.path(dir), 0o700))
	}
	r.write("a.log", "one\n")
	r.write("old.log", "x\n")
	r.must(os.Chtimes(r.path("old.log"), time.Now(), time.Now().Add(-2*time.Hour)))
	r.write("no-1.log", "x\n")
	r.write("d/secret/x.txt", "x\n")
	r.write("outside/y.log", "x\n")
	r.write("other", "x\n")
	r.must(unix.Mkfifo(r.path("fifo.log"), 0o600))
	r.must(os.Symlink("outside/y.log", r.path("inside.log")))
	r.must(os.Symlink("/etc/hostname", r.path("evil.log")))
	r.must(os.Symlink("nowhere", r.path("dangling.log")))
	r.start()
	r.lane.Wait(2)
	r.tracked("a.log", "inside.log", "old.log")
	for name, want := range map[string]string{
		"a.log":          "it is read: include pattern",
		"./x/../a.log":   "it is read: include pattern",
		"inside.log":     "it is read: include pattern",
		"old.log":        "ignore_older",
		"no-1.log":       `exclude has the pattern "**/no-*"`,
		"d/secret/x.txt": "exclude has the pattern",
		"other":          "no include pattern",
		"outside/y.log":  "no include pattern", // under that name
		"fifo.log":       "not a regular file",
		"dir.log":        "not a regular file",
		"evil.log":       "outside the folders of this source: symlink_roots",
		"dangling.log":   "can't be followed",
		"missing.log":    "does not exist",
	} {
		e := r.source.Explain(r.dir + "/" + name)
		if name == "outside/y.log" {
			want = "no name that an include pattern matches any more" // it is known, by its real name
		}
		if !strings.Contains(e.Why, want) {
			t.Errorf("%s: %s", name, e.Why)
		}
		if strings.HasPrefix(want, "it is read") != (e.Followed && len(e.Decisions) > 0) && name != "old.log" && name != "outside/y.log" {
			t.Errorf("%s: followed %v, %d decisions", name, e.Followed, len(e.Decisions))
		}
	}
	r.config.FollowSymlinks = false
	s := newSource(t, r.config)
	if e := s.Explain(r.path("inside.log")); !strings.Contains(e.Why, "follow_symlinks is false") {
		t.Error(e.Why)
	}
	if e := s.Explain(r.path("a.log")); !strings.Contains(e.Why, "the next look") || e.Followed {
		t.Errorf("before the first look: %+v", e)
	}
}

// TestExplainPermission asks for a file that the agent's user can't open.
func TestExplainPermission(t *testing.T) {
	r := newRig(t, "*.log")
	r.write("a.log", "x\n")
	r.must(os.Chmod(r.path("a.log"), 0))
	s := newSource(t, r.config)
	why := asNobody(t, func() string { return s.Explain(r.path("a.log")).Why })
	if !strings.Contains(why, "permission denied") {
		t.Error(why)
	}
}

// TestEachDecisionIsLoggedAndRemembered follows a file through its life.
func TestEachDecisionIsLoggedAndRemembered(t *testing.T) {
	logged := &recordingHandler{}
	r := newRig(t, "a*")
	r.config.Logger = slog.New(logged)
	content, want := linesOf("first", 0, 100)
	r.write("a.log", content)
	r.start()
	r.expect(want...)
	r.commit()
	r.copytruncate("a.log", "a.log.1")
	r.polled2("a.log")
	r.commit()
	r.rename("a.log", "a.log.2")
	sourcetest.Eventually(t, func() bool { return r.source.Explain(r.path("a.log.2")).Followed }, "the new name")
	r.must(os.Remove(r.path("a.log.2")))
	released := func(d Decision) bool { return d.What == Released }
	sourcetest.Eventually(t, func() bool { return slices.ContainsFunc(r.source.Explain(r.path("a.log.2")).Decisions, released) }, "the file to be closed")
	kinds := func(name string) []What {
		var all []What
		for _, d := range r.source.Explain(r.path(name)).Decisions {
			if d.Time.IsZero() || d.Reason == "" || d.What != HeldBack && d.Identity == "" {
				t.Errorf("%+v", d)
			}
			if all = append(all, d.What); d.What != HeldBack {
				logged.expect(t, d)
			}
		}
		return all
	}
	if got := kinds("a.log"); !slices.Equal(got, []What{Followed, ReadAnew, Renamed, Released}) {
		t.Errorf("decisions %q", got)
	}
	if got := kinds("a.log.1"); got[len(got)-1] != ReadCopy {
		t.Errorf("decisions about the copy: %q", got)
	}
	r.crash()
	r.start()
	sourcetest.Eventually(t, func() bool { return len(r.source.Explain(r.path("a.log.1")).Decisions) > 0 }, "the file")
	if got := kinds("a.log.1"); !slices.Equal(got, []What{Resumed}) {
		t.Errorf("decisions after a restart: %q", got)
	}
}

func TestFilesAreListedWithIdentityAndState(t *testing.T) {
	r := newRig(t, "*.log")
	r.lane = sourcetest.NewLane(t)
	r.lane.Limit(2)
	r.write("a.log", "one\n")
	r.write("b.log", "two\nthree\n")
	r.startOn(r.lane)
	r.lane.Wait(2)
	states := func() string {
		var all []string
		for _, f := range r.source.Files() {
			all = append(all, fmt.Sprintf("%s %s %d/%d/%d", strings.TrimPrefix(f.Path, r.dir+"/"), f.State, f.Delivered, f.Read, f.Size))
			if f.Identity == "" || strings.Count(f.Identity, ":") != 2 || f.Real != f.Path {
				t.Errorf("%+v", f)
			}
		}
		return strings.Join(all, ", ")
	}
	expect := func(want string) {
		t.Helper()
		sourcetest.Eventually(t, func() bool { return states() == want }, "%s, there is %s", want, states())
	}
	expect("a.log delivering 0/4/4, b.log delivering 0/10/10")
	r.lane.Deliver(1 << 20)
	expect("a.log delivered 4/4/4, b.log delivered 10/10/10")
	r.lane.Limit(0)
	r.write("a.log", "more\n")
	expect("a.log reading 4/4/9, b.log delivered 10/10/10")
	r.must(os.Remove(r.path("a.log")))
	expect("a.log deleted 4/4/9, b.log delivered 10/10/10")
	r.rename("b.log", "c.log")
	expect("a.log deleted 4/4/9, c.log rotated 10/10/10")
}

// TestJournalIsBounded: what is followed is remembered, of the rest the latest.
func TestJournalIsBounded(t *testing.T) {
	j := newJournal()
	id := func(n int) identity { return identity{inode: inode{1, uint64(n)}} }
	for n := range 3 * maxLoose {
		s := subject{identity: id(n)}
		if n < 10 {
			j.follow(id(n), true)
		}
		for m := range 2 * maxTrail {
			j.add(s, Decision{Path: fmt.Sprint(n), Position: int64(m)})
		}
	}
	if got := j.about("5"); len(got) != maxTrail || got[0].Position != maxTrail {
		t.Errorf("of a followed file %v is remembered", got)
	}
	if len(j.about("11")) != 0 || len(j.about(fmt.Sprint(3*maxLoose-1))) != maxTrail {
		t.Error("the latest of the others are not what is remembered")
	}
	if n := len(j.trails); n > maxLoose+10 {
		t.Errorf("%d files are remembered", n)
	}
	j.follow(id(5), false)
	for n := range maxLoose {
		j.add(subject{path: fmt.Sprint("/", n)}, Decision{})
	}
	if len(j.about("5")) != 0 || len(j.loose) > maxLoose {
		t.Error("a file that is followed no more is never forgotten")
	}
}
