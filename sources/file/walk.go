package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"
)

// maxLinkDepth bounds directories nested by links, beside the check for cycles.
const maxLinkDepth = 64

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
	root     string // a folder that contains real, without links below it
	relative string // real, from root
	look     look
}

func (c *candidate) real() string { return filepath.Join(c.root, c.relative) }

// scan is what one walk over all patterns found.
type scan struct {
	found  map[inode]candidate // one name for each inode
	dirs   []string            // every directory that was listed
	failed map[string]error    // files and folders of which not all is known
}

// complete reports that a file missing from the scan is not at path.
func (s *scan) complete(path string) bool {
	for dir := range s.failed {
		if path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/") {
			return false
		}
	}
	return true
}

// walker finds the files that the patterns name. It holds no state between scans.
type walker struct {
	include []pattern
	exclude []string
	follow  bool               // links into roots
	roots   []string           // further folders that a link may point into
	known   func(inode) string // the name by which an inode is tracked; "" if it is not
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

// excluded matches a relative pattern from the filesystem's root on, so that
// "**/*.tmp" names such files everywhere.
func (w *walker) excluded(path string) bool {
	for _, glob := range w.exclude {
		subject := path
		if !filepath.IsAbs(glob) {
			subject = strings.TrimPrefix(path, "/")
		}
		if ok, _ := doublestar.PathMatch(glob, subject); ok {
			return true
		}
	}
	return false
}

// scan walks all patterns. Errors make it incomplete and end nothing.
func (w *walker) scan() *scan {
	s := &scan{found: make(map[inode]candidate), failed: make(map[string]error)}
	listed := make(map[string]bool)
	for i := range w.include {
		p := &w.include[i]
		if p.plain != "" {
			w.consider(s, p.root, p.root, p.plain)
			if !listed[p.root] {
				listed[p.root] = true
				s.dirs = append(s.dirs, p.root)
			}
			continue
		}
		d := descent{walker: w, scan: s, pattern: p}
		d.list(p.root, p.root, p.root, 1)
		for _, dir := range d.dirs {
			if !listed[dir] {
				listed[dir] = true
				s.dirs = append(s.dirs, dir)
			}
		}
	}
	return s
}

// consider adds the file at path, which lies below the folder root by the name
// real, if it is regular or a link to a regular file that may be followed.
func (w *walker) consider(s *scan, root, realDir, path string) {
	real := filepath.Join(realDir, filepath.Base(path))
	c, err := w.inspect(root, real, path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.failed[path] = err
		}
		return
	}
	if c != nil {
		w.add(s, *c)
	}
}

func (w *walker) add(s *scan, c candidate) {
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
		if err != nil || targetRoot == "" {
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
	return &candidate{path: path, root: root, relative: relative, look: l}, nil
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

// resolve follows the link at path to its end, and names the root that contains
// it; "" when none does.
func (w *walker) resolve(path string) (target, root string, err error) {
	target, err = filepath.EvalSymlinks(path)
	if err != nil {
		return "", "", err
	}
	for _, r := range w.roots {
		resolved, err := filepath.EvalSymlinks(r)
		if err == nil && (target == resolved || strings.HasPrefix(target, strings.TrimSuffix(resolved, "/")+"/")) {
			return target, resolved, nil
		}
	}
	return "", "", nil
}

// descent is the walk over the directories of one pattern.
type descent struct {
	*walker
	scan    *scan
	pattern *pattern
	dirs    []string
	chain   []inode // directories from the root to here, against cycles of links
}

// list reads the directory path, which really is at real below root, at depth
// components below the pattern's root.
func (d *descent) list(path, real, root string, depth int) {
	var stat unix.Stat_t
	entries, err := readDirectory(real, &stat)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	d.dirs = append(d.dirs, real)
	if err != nil {
		d.scan.failed[path] = err
	}
	here := lookOf(&stat).inode
	for _, above := range d.chain {
		if above == here {
			return
		}
	}
	if len(d.chain) > maxLinkDepth {
		return
	}
	d.chain = append(d.chain, here)
	defer func() { d.chain = d.chain[:len(d.chain)-1] }()
	for _, entry := range entries {
		d.entry(entry, filepath.Join(path, entry.Name()), real, root, depth)
	}
}

func (d *descent) entry(entry fs.DirEntry, path, realDir, root string, depth int) {
	deeper := d.pattern.depth < 0 || depth < d.pattern.depth
	real := filepath.Join(realDir, entry.Name())
	switch {
	case entry.IsDir():
		if deeper && !d.pruned(path) {
			d.list(path, real, root, depth+1)
		}
	case entry.Type()&fs.ModeSymlink != 0:
		if d.follow && deeper && !d.pruned(path) {
			target, targetRoot, err := d.resolve(real)
			if info, statErr := os.Lstat(target); err == nil && statErr == nil && info.IsDir() {
				if targetRoot != "" {
					d.list(path, target, targetRoot, depth+1)
				}
				return
			}
		}
		fallthrough
	case entry.Type().IsRegular():
		if ok, _ := doublestar.PathMatch(d.pattern.glob, path); ok {
			d.consider(d.scan, root, realDir, path)
		}
	}
}

// pruned reports that nothing below the directory can be read: all of it is excluded.
func (d *descent) pruned(dir string) bool {
	for _, glob := range d.exclude {
		subject := dir
		if !filepath.IsAbs(glob) {
			subject = strings.TrimPrefix(dir, "/")
		}
		if strings.HasSuffix(glob, "/**") {
			if ok, _ := doublestar.PathMatch(glob, subject); ok {
				return true
			}
		}
	}
	return false
}

// readDirectory lists dir, in no order, and stats it by the same handle. An
// error may come with part of the entries.
func readDirectory(dir string, stat *unix.Stat_t) ([]fs.DirEntry, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unix.Fstat(int(f.Fd()), stat); err != nil {
		return nil, err
	}
	return f.ReadDir(-1)
}
