package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"
)

// FileInfo is one known file with what tells it from others.
type FileInfo struct {
	FileStatus
	Real     string // what Path resolved to
	Identity string // device, inode and generation, see [identity.text]
	State    string // what is done with it, one of those below
}

// The values of FileInfo.State, beside FileAtRest, FileWaits and FileIgnored.
const (
	StateReading   = "reading"    // there is more to read
	StateDelivery  = "delivering" // all that was read is not delivered yet
	StateDelivered = "delivered"  // up to date
	StateRotated   = "rotated"    // it lost the name under which it was found, and is read on
	StateDeleted   = "deleted"    // it has no name at all, and is read on
	StateCut       = "cut"        // what was read is gone: it is about to begin anew
)

// Explanation is what a source has to say of a path.
type Explanation struct {
	Followed  bool       // a file is known under the path
	Why       string     // why the file that has the path now is read, or not
	Files     []FileInfo // known under the path
	Decisions []Decision // about files that have or had the path, the oldest first
}

// text is the identity for people: device, inode, and generation, which is "g" and the
// inode's version, "b" and its birth in nanoseconds, or "-" where neither is known.
func (i identity) text() string {
	generation := "-"
	switch i.kind {
	case generationInode:
		generation = "g" + strconv.FormatUint(i.generation, 10)
	case generationBirth:
		generation = "b" + strconv.FormatUint(i.generation, 10)
	}
	return fmt.Sprintf("%d.%d:%d:%s", unix.Major(i.device), unix.Minor(i.device), i.number, generation)
}

// Files returns all known files, ordered by path. It may be called at any time.
func (s *Source) Files() []FileInfo {
	s.mu.Lock()
	all := make([]FileInfo, 0, len(s.files)+len(s.resting))
	for f := range s.files {
		all = append(all, f.info())
	}
	for _, r := range s.resting {
		all = append(all, r.info())
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b FileInfo) int { return strings.Compare(a.Path, b.Path) })
	return all
}

func (f *file) info() FileInfo {
	i := FileInfo{FileStatus: f.status(), Identity: f.identity.text()}
	f.mu.Lock()
	defer f.mu.Unlock()
	i.Real = f.real
	switch {
	case f.truncated:
		i.State = StateCut
	case f.seen.links == 0:
		i.State = StateDeleted
	case f.rotated:
		i.State = StateRotated
	case i.Read < i.Size:
		i.State = StateReading
	case i.Lag > 0:
		i.State = StateDelivery
	default:
		i.State = StateDelivered
	}
	return i
}

func (r *resting) info() FileInfo {
	id := identity{inode: r.look.inode}
	if r.saved != nil {
		id = r.saved.identity
	}
	return FileInfo{FileStatus: r.status(), Real: r.real, Identity: id.text(), State: r.reason}
}

// Explain says what the source does with the file at an absolute path, and why: what
// it decided about files of that name, and what its configuration says of the file
// that has the name now. It may be called at any time.
func (s *Source) Explain(path string) Explanation {
	path = filepath.Clean(path)
	e := Explanation{Decisions: s.journal.about(path)}
	for _, f := range s.Files() {
		if f.Path == path || f.Real == path {
			e.Files = append(e.Files, f)
		}
	}
	e.Followed = len(e.Files) > 0
	ignored := slices.ContainsFunc(e.Files, func(f FileInfo) bool { return f.State == FileIgnored })
	e.Why = s.judge(path, e.Followed && !ignored)
	return e
}

// judge evaluates the configuration for a path, with a walker of its own, since the
// other one is the discoverer's.
func (s *Source) judge(path string, followed bool) string {
	c := &s.config
	w, err := newWalker(c.Include, c.Exclude, c.FollowSymlinks, c.SymlinkRoots)
	if err != nil {
		return err.Error()
	}
	include := w.includes(path)
	if include == nil {
		if followed {
			return "it has no name that an include pattern matches any more, and is read to its end"
		}
		return "no include pattern matches it"
	}
	if glob := w.excludes(path); glob != "" {
		return fmt.Sprintf("it is left out: exclude has the pattern %q", glob)
	}
	candidate, why := w.judge(include, path)
	switch {
	case why != "":
		return why
	case !followed && c.IgnoreOlder > 0 && time.Unix(0, candidate.look.modified).Before(c.Now().Add(-c.IgnoreOlder)):
		return fmt.Sprintf("include pattern %q matches it; ignore_older leaves it until it changes, unless something in it was begun: it was changed last at %s",
			include.glob, time.Unix(0, candidate.look.modified).UTC().Format(time.RFC3339))
	case followed:
		return fmt.Sprintf("it is read: include pattern %q matches it", include.glob)
	default:
		return fmt.Sprintf("include pattern %q matches it, and it can be read: the next look at its folder finds it", include.glob)
	}
}

// includes returns the first include pattern that matches the path.
func (w *walker) includes(path string) *pattern {
	for i := range w.include {
		if ok, _ := doublestar.PathMatch(w.include[i].glob, path); ok {
			return &w.include[i]
		}
	}
	return nil
}

// judge looks at the file at path as a scan would, and says why it is not read; "" if
// it can be.
func (w *walker) judge(p *pattern, path string) (*candidate, string) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "it does not exist"
	case err != nil:
		return nil, "it can't be looked at: " + err.Error()
	}
	if info.Mode()&fs.ModeSymlink != 0 && !w.follow {
		return nil, "it is a link, and follow_symlinks is false"
	}
	target, root, err := w.resolve(path)
	var outside *outsideError
	switch {
	case errors.As(err, &outside):
		return nil, fmt.Sprintf("it leads to %s, which is outside the folders of this source: symlink_roots can add one", outside.target)
	case err != nil:
		return nil, "what leads to it can't be followed: " + err.Error()
	case !w.follow && target != p.plainly(path):
		return nil, "a link leads to it, and follow_symlinks is false"
	}
	if info, err = os.Stat(target); err == nil && !info.Mode().IsRegular() {
		return nil, "it is not a regular file"
	}
	relative, err := filepath.Rel(root, target)
	if err != nil {
		return nil, err.Error()
	}
	handle, err := openBeneath(root, relative)
	if err != nil {
		return nil, "it can't be opened: " + err.Error()
	}
	defer handle.Close()
	l, err := lookAt(int(handle.Fd()))
	if err != nil {
		return nil, err.Error()
	}
	return &candidate{path: path, real: target, root: root, relative: relative, look: l}, ""
}

// plainly returns what path resolves to if no link stands below the pattern's root.
func (p *pattern) plainly(path string) string {
	root, err := filepath.EvalSymlinks(p.root)
	relative, relErr := filepath.Rel(p.root, path)
	if err != nil || relErr != nil {
		return ""
	}
	return filepath.Join(root, relative)
}
