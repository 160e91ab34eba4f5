package file

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"
)

// pattern is one include glob, split at its first wildcard.
type pattern struct {
	glob  string // absolute
	root  string // folder before the first wildcard; for a plain path its parent
	depth int    // path components below root that can match; -1: any number
	plain string // the path itself when glob has no wildcard
}

func newPattern(glob string) (pattern, error) {
	if !filepath.IsAbs(glob) {
		return pattern{}, fmt.Errorf("pattern %q is not absolute", glob)
	}
	if !doublestar.ValidatePathPattern(glob) {
		return pattern{}, fmt.Errorf("pattern %q is malformed", glob)
	}
	glob = cleanGlob(glob)
	root, rest := doublestar.SplitPattern(glob)
	p := pattern{glob: glob, root: root, depth: strings.Count(rest, "/") + 1}
	if strings.Contains(rest, "**") {
		p.depth = -1
	}
	if !strings.ContainsAny(rest, `*?[{\`) {
		p.plain = filepath.Join(root, rest)
	}
	return p, nil
}

// cleanGlob removes what no path found by walking contains. A backslash would
// make "/" part of an escape, so such patterns stay as they are.
func cleanGlob(glob string) string {
	if strings.Contains(glob, `\`) {
		return glob
	}
	return filepath.Clean(glob)
}

// candidate is a file found under a name that include matches.
type candidate struct {
	path     string // as matched
	real     string // what path resolves to
	root     string // a folder that contains real, without links below it
	relative string // real, from root
	look     look   // beyond the inode, perhaps of an earlier scan
}

// scan is what one walk over all patterns found.
type scan struct {
	found  map[inode]*candidate // one name for each inode
	dirs   map[string]inode     // folders in which something may happen; zero: which one is not known
	failed map[string]error     // files and folders of which not all is known
	leads  map[string]string    // links that lead out of the roots: where
	parts  []portion            // what found is made of, in the order of the walk
	same   bool                 // nothing differs from the scan before, but what files hold
}

// portion is a folder's listing, or a file that was found otherwise.
type portion struct {
	listing *listing
	single  candidate
}

// equals leaves out what a file holds.
func (p *portion) equals(q *portion) bool {
	a, b := &p.single, &q.single
	return p.listing == q.listing && a.path == b.path && a.real == b.real && a.look.inode == b.look.inode
}

// equals reports that s, of which found is not made yet, would find what other did. Where
// something failed that can't be known.
func (s *scan) equals(other *scan) bool {
	return len(s.failed)+len(other.failed) == 0 && maps.Equal(s.leads, other.leads) && maps.Equal(s.dirs, other.dirs) &&
		slices.EqualFunc(s.parts, other.parts, func(a, b portion) bool { return a.equals(&b) })
}

// outsideError is a link that may not be followed.
type outsideError struct{ target string }

func (e *outsideError) Error() string { return "it leads out of the source's folders, to " + e.target }

// complete reports that a file missing from the scan is not at path.
func (s *scan) complete(path string) bool {
	for dir := range s.failed {
		if path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/") {
			return false
		}
	}
	return true
}

// walker finds the files that the patterns name. It is used by one goroutine.
type walker struct {
	include []pattern
	exclude []string
	follow  bool               // links into roots
	roots   []string           // further folders that a link may point into
	known   func(inode) string // the name by which an inode is tracked; "" if it is not
	kept    listings           // of the last scan

	resolved []string // the roots without links, since the last scan began; nil: not asked for

	last     *scan
	expected int // files that it found
}

func newWalker(include, exclude []string, follow bool, roots []string) (*walker, error) {
	w := &walker{follow: follow, known: func(inode) string { return "" }}
	for _, glob := range include {
		p, err := newPattern(glob)
		if err != nil {
			return nil, fmt.Errorf("include: %w", err)
		}
		w.include = append(w.include, p)
		w.roots = append(w.roots, p.root)
	}
	for _, glob := range exclude {
		if !doublestar.ValidatePathPattern(glob) {
			return nil, fmt.Errorf("exclude: pattern %q is malformed", glob)
		}
		w.exclude = append(w.exclude, glob)
	}
	for _, root := range roots {
		if !filepath.IsAbs(root) {
			return nil, fmt.Errorf("symlink_roots: %q is not absolute", root)
		}
		w.roots = append(w.roots, filepath.Clean(root))
	}
	return w, nil
}

// excluded reports that an exclude pattern matches the path.
func (w *walker) excluded(path string) bool { return w.excludes(path) != "" }

// excludes returns the exclude pattern that matches the path, "" if none does. A
// relative pattern matches from the filesystem's root on, so that "**/*.tmp" names
// such files everywhere.
func (w *walker) excludes(path string) string {
	for _, glob := range w.exclude {
		subject := path
		if !filepath.IsAbs(glob) {
			subject = strings.TrimPrefix(path, "/")
		}
		if ok, _ := doublestar.PathMatch(glob, subject); ok {
			return glob
		}
	}
	return ""
}

// scan walks all patterns. Errors make it incomplete and end nothing. It may return
// the scan before, with same set.
func (w *walker) scan(now time.Time) *scan {
	kept := w.kept.next(now)
	s := &scan{dirs: make(map[string]inode), failed: make(map[string]error), leads: make(map[string]string)}
	w.resolved = nil
	for i := range w.include {
		p := &w.include[i]
		if p.plain != "" {
			w.consider(s, p.root, p.root, p.plain)
			s.mayHappenIn(p.root)
			continue
		}
		d := descent{walker: w, scan: s, pattern: p, now: now, kept: kept, names: make(map[string]int)}
		d.walk(folder{path: p.root, real: p.root, root: p.root, depth: 1})
	}
	w.kept = kept
	if w.last != nil && s.equals(w.last) {
		w.last.same = true
		return w.last
	}
	w.expected = max(w.expected, len(s.parts))
	s.found = make(map[inode]*candidate, w.expected)
	for i := range s.parts {
		p := &s.parts[i]
		if p.listing == nil {
			w.add(s, &p.single)
			continue
		}
		for j := range p.listing.files {
			w.add(s, &p.listing.files[j])
		}
	}
	w.expected, w.last = len(s.found), s
	return s
}

// mayHappenIn adds a folder of which no more is known.
func (s *scan) mayHappenIn(dir string) {
	if _, known := s.dirs[dir]; !known {
		s.dirs[dir] = inode{}
	}
}

// consider adds the file at path, which lies below the folder root by the name
// real, if it is regular or a link to a regular file that may be followed.
func (w *walker) consider(s *scan, root, realDir, path string) {
	real := filepath.Join(realDir, filepath.Base(path))
	c, err := w.inspect(root, real, path)
	var outside *outsideError
	switch {
	case errors.As(err, &outside):
		s.leads[path] = outside.target
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		s.failed[path] = err
	case c != nil:
		s.parts = append(s.parts, portion{single: *c})
		if c.real != c.path {
			s.mayHappenIn(filepath.Dir(c.real))
		}
	}
}

func (w *walker) add(s *scan, c *candidate) {
	if _, twice := s.found[c.look.inode]; !twice || w.known(c.look.inode) == c.path {
		s.found[c.look.inode] = c
	}
}

// inspect returns the candidate at path, nil if it is nothing to read.
func (w *walker) inspect(root, real, path string) (*candidate, error) {
	if w.excluded(path) {
		return nil, nil
	}
	var stat unix.Stat_t
	if err := unix.Lstat(real, &stat); err != nil {
		return nil, &os.PathError{Op: "stat", Path: real, Err: err}
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		if !w.follow {
			return nil, nil
		}
		target, targetRoot, err := w.resolve(real)
		if err != nil {
			return nil, err
		}
		root, real = targetRoot, target
		if err := unix.Lstat(real, &stat); err != nil {
			return nil, &os.PathError{Op: "stat", Path: real, Err: err}
		}
	}
	l := lookOf(&stat)
	if !l.regular {
		return nil, nil
	}
	relative, err := filepath.Rel(root, real)
	if err != nil {
		return nil, err
	}
	return &candidate{path: path, real: real, root: root, relative: relative, look: l}, nil
}

// inspectCreated returns the candidate that was just created at path, nil if it is
// nothing to read, or nothing that can be told without a scan.
func (w *walker) inspectCreated(path string) *candidate {
	for i := range w.include {
		if ok, _ := doublestar.PathMatch(w.include[i].glob, path); ok {
			c, err := w.inspect(w.include[i].root, path, path)
			if err != nil {
				return nil
			}
			return c
		}
	}
	return nil
}

// matches says whether a pattern names path.
func (w *walker) matches(path string) bool {
	return !w.excluded(path) && slices.ContainsFunc(w.include, func(p pattern) bool {
		ok, _ := doublestar.PathMatch(p.glob, path)
		return ok
	})
}

// resolve follows the link at path to its end, and names the root that contains
// it. A link out of all roots is an outsideError.
func (w *walker) resolve(path string) (target, root string, err error) {
	if w.resolved == nil {
		w.resolved = resolveAll(w.roots)
	}
	return resolveIn(w.resolved, path)
}

// resolveAll returns the folders that exist, without links.
func resolveAll(folders []string) []string {
	var resolved []string
	for _, folder := range folders {
		if r, err := filepath.EvalSymlinks(folder); err == nil {
			resolved = append(resolved, r)
		}
	}
	return resolved
}

// resolveIn is resolve with roots that contain no links.
func resolveIn(roots []string, path string) (target, root string, err error) {
	target, err = filepath.EvalSymlinks(path)
	if err != nil {
		return "", "", err
	}
	for _, r := range roots {
		if target == r || strings.HasPrefix(target, strings.TrimSuffix(r, "/")+"/") {
			return target, r, nil
		}
	}
	return target, "", &outsideError{target}
}
