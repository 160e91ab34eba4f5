package file

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// TestLinksOutOfTheRootsAreExplained has a link to a file, one to a folder, and a loop.
func TestLinksOutOfTheRootsAreExplained(t *testing.T) {
	outside := t.TempDir()
	appendTo(t, filepath.Join(outside, "target.log"), "secret\n")
	logged := &countingHandler{Handler: slog.DiscardHandler}
	l := newLife(t, func(c *Config) {
		c.FollowSymlinks, c.Logger = true, slog.New(logged)
		c.Include[0] = filepath.Join(filepath.Dir(c.Include[0]), "**", "*.log")
	})
	mustDo(t, os.Symlink(filepath.Join(outside, "target.log"), l.path("file.log")))
	mustDo(t, os.Symlink(outside, l.path("folder")))
	mustDo(t, os.Symlink(l.path("loop2.log"), l.path("loop1.log")))
	mustDo(t, os.Symlink(l.path("loop1.log"), l.path("loop2.log")))
	mustDo(t, os.Symlink(l.dir, l.path("self")))
	for range 20 {
		l.pass(time.Second)
	}
	l.expect()
	if warnings, failures := logged.count(slog.LevelWarn), logged.count(slog.LevelError); warnings != 2 || failures != 2 {
		t.Errorf("%d warnings of two links that lead out, %d errors of two that lead nowhere", warnings, failures)
	}
}

// TestALinksTargetIsWatched appends to a target in a folder of its own, renames it away and
// makes it anew: all is seen long before a poll.
func TestALinksTargetIsWatched(t *testing.T) {
	r := newRig(t, "*.log")
	target := filepath.Join(t.TempDir(), "target")
	r.config.FollowSymlinks, r.config.SymlinkRoots, r.config.PollInterval = true, []string{filepath.Dir(target)}, time.Hour
	appendTo(t, target, "one\n")
	r.must(os.Symlink(target, r.path("a.log")))
	r.start()
	r.expect("one")
	appendTo(t, target, "two\n")
	r.expect("one", "two")
	r.must(os.Rename(target, target+".1"))
	appendTo(t, target, "three\n")
	r.expect("one", "two", "three")
}

// TestALinkMovesOn is how container runtimes rotate: another link takes the place.
func TestALinkMovesOn(t *testing.T) {
	r := newRig(t, "*.log")
	targets := t.TempDir()
	r.config.FollowSymlinks, r.config.SymlinkRoots, r.config.PollInterval = true, []string{targets}, 100*time.Millisecond
	turn := func(name, text string) {
		appendTo(t, filepath.Join(targets, name), text)
		r.must(os.Symlink(filepath.Join(targets, name), r.path("next")))
		r.rename("next", "0.log")
	}
	turn("a", "a1\n")
	r.start()
	r.expect("a1")
	turn("b", "b1\n")
	r.expect("a1", "b1")
	appendTo(t, filepath.Join(targets, "a"), "a2\n") // the first one is still written
	sourcetest.Eventually(t, func() bool { return len(r.lane.Values()) == 3 }, "what came late")
	r.expect("a1", "b1", "a2")
}
