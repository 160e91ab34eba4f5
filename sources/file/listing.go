package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"
)

const (
	// maxFolderDepth bounds folders nested by links, beside the check for cycles.
	maxFolderDepth = 64
	// maxFolderNames bounds the names by which one walk reaches a folder: folders
	// with links to one another have more names than any walk could end with.
	maxFolderNames = 16
	// settleTime is how long a folder's times must have stayed the same before they
	// prove that its names did: more than the coarsest clock of a filesystem.
	settleTime = 3 * time.Second
	// refreshTime is how often folders are listed in any case, for filesystems that
	// don't keep the times of folders.
	refreshTime = 10 * time.Second
	// soundRefresh is the same for filesystems that are known to keep them.
	soundRefresh = time.Minute
)

// folder is a directory on the way of a walk.
type folder struct {
	path  string // as matched
	real  string // without links below root
	root  string
	depth int // components below the pattern's root
}

// stamp changes with the names in a folder.
type stamp struct {
	inode             inode
	modified, changed int64
}

// listing is what a folder holds that is of interest to one pattern.
type listing struct {
	stamp   stamp
	since   time.Time // when the stamp was first seen
	read    time.Time
	sound   bool // the filesystem keeps the times of folders
	settled bool // read long enough after that
	files   []candidate
	folders []string // names
	links   []string // names
}

// listingKey tells listings apart: a folder is read for each pattern and for each
// name by which the walk reaches it, since names decide what matches.
type listingKey struct {
	pattern    *pattern
	path, real string
}

var errManyNames = fmt.Errorf("more than %d links lead to this folder: some of its names are left out", maxFolderNames)

// listings are kept from one scan to the next, so that a look at many files in
// which nothing happens costs one system call for each and none for their names.
type listings struct {
	folders   map[listingKey]*listing
	old       map[listingKey]*listing // of the scan before
	refreshed time.Time
	refresh   bool // this scan lists everything
}

// next returns the listings for a new scan, which may use those of the last.
func (l *listings) next(now time.Time) listings {
	n := listings{folders: make(map[listingKey]*listing, len(l.folders)), old: l.folders, refreshed: l.refreshed}
	if now.Sub(l.refreshed) >= refreshTime || now.Before(l.refreshed) {
		n.refresh, n.refreshed = true, now
	}
	return n
}

// descent is the walk over the folders of one pattern.
type descent struct {
	*walker
	scan    *scan
	pattern *pattern
	now     time.Time
	kept    listings
	chain   []inode        // folders from the root to here, against cycles of links
	names   map[string]int // by how many names each folder was reached
}

// walk takes what is in the folder and below it.
func (d *descent) walk(f folder) {
	if d.names[f.real]++; d.names[f.real] > maxFolderNames {
		d.scan.failed[f.path] = errManyNames
		return
	}
	l, err := d.list(f)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		d.scan.failed[f.path] = err
	}
	if l == nil {
		d.scan.mayHappenIn(f.real)
		return
	}
	d.scan.dirs[f.real] = l.stamp.inode
	if len(d.chain) > maxFolderDepth {
		return
	}
	for _, above := range d.chain {
		if above == l.stamp.inode {
			return
		}
	}
	d.chain = append(d.chain, l.stamp.inode)
	defer func() { d.chain = d.chain[:len(d.chain)-1] }()
	d.scan.parts = append(d.scan.parts, portion{listing: l})
	for _, name := range l.folders {
		d.walk(folder{filepath.Join(f.path, name), filepath.Join(f.real, name), f.root, f.depth + 1})
	}
	for _, name := range l.links {
		d.follow(f, name)
	}
}

// list returns the folder's listing, from before if the folder did not change. An
// error may come with part of it.
func (d *descent) list(f folder) (*listing, error) {
	key := listingKey{d.pattern, f.path, f.real}
	old := d.kept.old[key]
	if old != nil && old.settled && (!d.kept.refresh || old.sound && d.now.Sub(old.read) < soundRefresh) {
		var stat unix.Stat_t
		if err := unix.Stat(f.real, &stat); err == nil && stampOf(&stat) == old.stamp {
			d.kept.folders[key] = old
			return old, nil
		}
	}
	var stat unix.Stat_t
	entries, err := readDirectory(f.real, &stat)
	if stat.Ino == 0 {
		return nil, err
	}
	l := &listing{stamp: stampOf(&stat), since: d.now, read: d.now, sound: isSound(f.real)}
	if old != nil && old.stamp == l.stamp {
		l.since = old.since
	}
	failures := len(d.scan.failed)
	for _, entry := range entries {
		d.sort(l, f, entry)
	}
	whole := err == nil && failures == len(d.scan.failed)
	l.settled = whole && d.now.Sub(l.since) >= settleTime
	d.kept.folders[key] = l
	return l, err
}

// sort puts an entry where it belongs, or nowhere.
func (d *descent) sort(l *listing, f folder, entry fs.DirEntry) {
	path := filepath.Join(f.path, entry.Name())
	switch {
	case entry.IsDir():
		if d.descends(f, path) {
			l.folders = append(l.folders, entry.Name())
		}
	case entry.Type()&fs.ModeSymlink != 0:
		l.links = append(l.links, entry.Name())
	case entry.Type().IsRegular():
		if ok, _ := doublestar.PathMatch(d.pattern.glob, path); !ok {
			return
		}
		c, err := d.inspect(f.root, filepath.Join(f.real, entry.Name()), path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.scan.failed[path] = err
		}
		if c != nil {
			l.files = append(l.files, *c)
		}
	}
}

// follow handles a link, which may lead elsewhere at each scan.
func (d *descent) follow(f folder, name string) {
	path, real := filepath.Join(f.path, name), filepath.Join(f.real, name)
	if d.walker.follow && d.descends(f, path) {
		target, root, err := d.resolve(real)
		if info, statErr := os.Lstat(target); target != "" && statErr == nil && info.IsDir() {
			if err == nil {
				d.walk(folder{path, target, root, f.depth + 1})
			} else {
				d.scan.leads[path] = target
			}
			return
		}
	}
	if ok, _ := doublestar.PathMatch(d.pattern.glob, path); ok {
		d.consider(d.scan, f.root, f.real, path)
	}
}

// descends reports that something below the folder's child at path may match.
func (d *descent) descends(f folder, path string) bool {
	if d.pattern.depth >= 0 && f.depth >= d.pattern.depth {
		return false
	}
	for _, glob := range d.exclude {
		subject := path
		if !filepath.IsAbs(glob) {
			subject = strings.TrimPrefix(path, "/")
		}
		if ok, _ := doublestar.PathMatch(glob, subject); ok && strings.HasSuffix(glob, "/**") {
			return false
		}
	}
	return true
}

func stampOf(stat *unix.Stat_t) stamp {
	return stamp{inode: lookOf(stat).inode, modified: stat.Mtim.Nano(), changed: stat.Ctim.Nano()}
}

// readDirectory lists dir, in no order, and stats it by the same handle before
// that. An error may come with part of the entries.
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
