package file

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// compressed is a rig in which a.log was rotated to a.log.1 and all of it delivered.
func compressed(t *testing.T, patterns ...string) (r *rig, content string, want []string) {
	r = newRig(t, patterns...)
	r.config.Decompress = true
	content, want = linesOf("line", 0, 2000)
	r.write("a.log", content)
	r.start()
	r.expect(want...)
	r.rename("a.log", "a.log.1")
	r.write("a.log", "new\n")
	r.expect(append(slices.Clone(want), "new")...)
	r.commit()
	return r, content, append(want, "new")
}

// gzip is what logrotate does: compress beside it, then remove it.
func (r *rig) gzip(name, content string) {
	r.Helper()
	r.must(os.WriteFile(r.path(name+".gz"), []byte(gzipOf(r, content)), 0o600))
	r.must(os.Remove(r.path(name)))
}

// TestCompressedByRotationIsNotReadAgain: what was delivered is not shipped twice
// because it is compressed, running or stopped.
func TestCompressedByRotationIsNotReadAgain(t *testing.T) {
	for _, pattern := range []string{"a.log*", "a.log{,.*.gz}"} {
		for _, running := range []bool{true, false} {
			r, content, want := compressed(t, pattern)
			if !running {
				r.crash()
			}
			r.gzip("a.log.1", content)
			if !running {
				r.start()
				want = nil
			}
			recognised := func() bool {
				return slices.ContainsFunc(r.source.Explain(r.path("a.log.1.gz")).Decisions, func(d Decision) bool { return d.What == Compacted })
			}
			sourcetest.Eventually(t, recognised, "%s, running %v: the file to be recognised", pattern, running)
			r.polled2("a.log")
			r.commit()
			if got := r.lane.Values(); len(got) != len(want)+1 {
				t.Errorf("%s, running %v: %d records came, %d are new", pattern, running, len(got), len(want)+1)
			}
			r.crash()
			r.rename("a.log.1.gz", "a.log.2.gz")
			r.start()
			r.polled2("a.log")
			r.crash()
		}
	}
}

// TestCompressedInDoubtIsRead whole: duplicates, never a gap.
func TestCompressedInDoubtIsRead(t *testing.T) {
	for name, change := range map[string]func(string) string{
		"one byte in the middle is another's": func(c string) string { return c[:len(c)-10] + "X" + c[len(c)-9:] },
		"it is longer":                        func(c string) string { return c + "more\n" },
		"it is shorter":                       func(c string) string { return c[:strings.LastIndexByte(c[:len(c)-1], '\n')+1] },
		"it is longer and ends in the same way": func(c string) string {
			more, _ := linesOf("more", 0, 6*repeatWindow/50)
			return c + more + c[len(c)-2*guardSize:]
		},
		"another head": func(c string) string { return "L" + c[1:] },
	} {
		t.Run(name, func(t *testing.T) {
			r, content, want := compressed(t, "a.log*")
			changed := change(content)
			r.gzip("a.log.1", changed)
			r.lane.Wait(len(want) + strings.Count(changed, "\n"))
		})
	}
	t.Run("it was not delivered to its end", func(t *testing.T) {
		r := newRig(t, "a.log*")
		r.config.Decompress = true
		content, want := linesOf("line", 0, 2000)
		r.write("a.log", content)
		r.start()
		r.expect(want...)
		r.lane.Deliver(1999)
		r.positions.Commit(r.source)
		r.crash()
		r.rename("a.log", "a.log.1")
		r.gzip("a.log.1", content)
		r.start()
		r.expect(want...)
	})
	t.Run("its lines repeat", func(t *testing.T) {
		r := newRig(t, "a.log*")
		r.config.Decompress = true
		content := strings.Repeat("tick tock, and nothing else ever\n", 500)
		r.write("a.log", content)
		r.start()
		r.lane.Wait(500)
		r.commit()
		r.gzip("a.log", content)
		r.lane.Wait(1000)
	})
}

// TestCompressionInTheMaking: the file is looked at before it is complete.
func TestCompressionInTheMaking(t *testing.T) {
	r, content, want := compressed(t, "a.log*")
	packed := gzipOf(t, content)
	r.must(os.WriteFile(r.path("a.log.1.gz"), []byte(packed[:len(packed)/2]), 0o600))
	r.polled2("a.log")
	r.write("a.log.1.gz", packed[len(packed)/2:])
	r.must(os.Remove(r.path("a.log.1")))
	recognised := func() bool {
		return slices.ContainsFunc(r.source.Explain(r.path("a.log.1.gz")).Decisions, func(d Decision) bool { return d.What == Compacted })
	}
	sourcetest.Eventually(t, recognised, "the file to be recognised")
	r.polled2("a.log")
	if got := r.lane.Values(); len(got) != len(want)+2 {
		t.Errorf("%d records came, %d are new", len(got), len(want)+2)
	}
}
