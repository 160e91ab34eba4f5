package file

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// TestReplacedOpenLine replaces a line that has no end yet, without an end behind
// what was read of it: nothing but its bytes says so.
func TestReplacedOpenLine(t *testing.T) {
	for name, c := range map[string]struct {
		before, after string
		want          []string
	}{
		"to the same size":                   {"open", "a\nb\n", []string{"a", "b"}},
		"to more":                            {"open", "a\nand", []string{"a"}},
		"behind lines, to the same size":     {"one\nopen", "eins\nzwe", []string{"one", "eins"}},
		"behind lines, to more":              {"one\nopen", "eins\nzwei\n", []string{"one", "eins", "zwei"}},
		"of many reads, to the same size":    {strings.Repeat("x", 9000), "a\n" + strings.Repeat("y", 8998), []string{"a"}},
		"of which the beginning is the same": {"open", "open\nb", []string{"open"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newSteps(t)
			path := filepath.Join(m.dir, "a.log")
			appendTo(t, path, c.before)
			m.look()
			mustDo(t, os.WriteFile(path, []byte(c.after), 0o600))
			later := time.Now().Add(time.Second)
			mustDo(t, os.Chtimes(path, later, later))
			m.look()
			m.look()
			if got := m.lane.Values(); !slices.Equal(got, c.want) {
				t.Errorf("read %q, expected %q", got, c.want)
			}
		})
	}
}

// look is a poll and all the reading that comes of it.
func (m *steps) look() {
	m.discoverer.poll(time.Now())
	m.readAll()
}

// TestReadThatSeesTheTruncationFirst: the tailer notices what no poll saw, and all
// that a poll had seen before is counted.
func TestReadThatSeesTheTruncationFirst(t *testing.T) {
	m := newSteps(t)
	path := filepath.Join(m.dir, "a.log")
	appendTo(t, path, "one\n")
	m.look()
	appendTo(t, path, "never read\n")
	m.discoverer.poll(time.Now())
	mustDo(t, os.WriteFile(path, []byte("eins\nzwei\n"), 0o600))
	m.readAll()
	if got := lostBytes(t, m.source, lostTruncated); got != len("never read\n") {
		t.Errorf("%d bytes are counted", got)
	}
	if got := m.lane.Values(); !slices.Equal(got, []string{"one", "eins", "zwei"}) {
		t.Errorf("read %q", got)
	}
}

// TestBacklogThatIsReplacedByMore: it was seen with the content that was read.
func TestBacklogThatIsReplacedByMore(t *testing.T) {
	m := newSteps(t)
	path := filepath.Join(m.dir, "a.log")
	line := strings.Repeat("x", 99_999) + "\n"
	appendTo(t, path, strings.Repeat(line, 10))
	m.discoverer.poll(time.Now())
	m.readOnce()
	read := len(m.lane.Values())
	if read == 0 || read == 10 {
		t.Fatalf("%d records in one batch", read)
	}
	mustDo(t, os.WriteFile(path, []byte(strings.Repeat("y", 2_000_000)), 0o600))
	m.look()
	if got, want := lostBytes(t, m.source, lostTruncated), (10-read)*len(line); got != want {
		t.Errorf("%d bytes are counted, %d were not read", got, want)
	}
}

// TestTruncatedBehindThePositionWhileStopped: what stands before the position may be
// new though it looks the same.
func TestTruncatedBehindThePositionWhileStopped(t *testing.T) {
	r := newRig(t, "*.log")
	r.write("a.log", "one\nnot delivered\n")
	r.start()
	r.expect("one", "not delivered")
	r.lane.Deliver(1)
	r.positions.Commit(r.source)
	r.crash()
	r.must(os.Truncate(r.path("a.log"), int64(len("one\n"))))
	r.write("a.log", "two\n")
	r.start()
	r.expect("one", "two")
	if got := r.lost(lostTruncated); got != len("not delivered\n") {
		t.Errorf("%d bytes are counted", got)
	}
}

// TestLinkThatMovesOnWhileStopped: the file that it led to still has its name, which
// no pattern matches.
func TestLinkThatMovesOnWhileStopped(t *testing.T) {
	r := newRig(t, "current.log")
	r.config.FollowSymlinks = true
	r.write("1", "one\n")
	r.must(os.Symlink("1", r.path("current.log")))
	r.start()
	r.expect("one")
	r.commit()
	r.crash()
	r.write("1", "two\n")
	r.write("2", "three\n")
	r.must(os.Symlink("2", r.path("next")))
	r.rename("next", "current.log")
	r.start()
	r.expect("two", "three")
	r.commit()
	r.tracked("current.log")
}

// TestInodeNumberTakenByALink: it proves that the file is gone, and keeps nobody
// from the file that the link leads to.
func TestInodeNumberTakenByALink(t *testing.T) {
	r := newRig(t, "current.log")
	r.config.FollowSymlinks = true
	r.write("target", "one\n")
	r.must(os.Symlink("target", r.path("current.log")))
	stat, err := os.Lstat(r.path("current.log"))
	r.must(err)
	gone := &state{identity: identity{inode: inodeOf(stat), kind: generationInode, generation: 4711}, path: r.path("gone.log"), real: r.path("gone.log")}
	r.positions["p/0/file/"+gone.identity.String()] = gone.encode()
	r.start()
	r.expect("one")
	sourcetest.Eventually(t, func() bool {
		r.positions.Commit(r.source)
		return r.positions["p/0/file/"+gone.identity.String()] == nil
	}, "the position to be given up")
}

// TestCopyThatIsShorterThanWhatWasSeen: lines were written after the copy was made,
// and a poll had seen them.
func TestCopyThatIsShorterThanWhatWasSeen(t *testing.T) {
	m := newSteps(t)
	path := filepath.Join(m.dir, "a.log")
	first, second, third := strings.Repeat("1", 1999), strings.Repeat("2", 99), strings.Repeat("3", 99)
	appendTo(t, path, first+"\n")
	m.look()
	appendTo(t, path, second+"\n")
	appendTo(t, filepath.Join(m.dir, "a.log.1"), first+"\n"+second+"\n")
	appendTo(t, path, third+"\n")
	m.discoverer.poll(time.Now())
	mustDo(t, os.Truncate(path, 0))
	m.look()
	m.look()
	if got := m.lane.Values(); !slices.Equal(got, []string{first, second}) {
		t.Errorf("read %q", got)
	}
	if got := lostBytes(t, m.source, lostTruncated); got != len(third)+1 {
		t.Errorf("%d bytes are counted", got)
	}
}
