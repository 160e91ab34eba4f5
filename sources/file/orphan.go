package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// sweepInterval is how often positions without a tracked file are looked after.
const sweepInterval = time.Minute

// sweepSoon is how soon they are looked after again when no descriptor was left.
const sweepSoon = 5 * time.Second

// Bounds of the search below a folder, where rotation may move files.
const (
	maxBelowFolders = 64
	maxBelowNames   = 4096
)

// census is what a folder holds, for files that may have been renamed in it.
type census struct {
	known  bool             // the names are complete
	device uint64           // of the folder, or of what is left of the way to it
	names  map[inode]string // of regular files: a link may get the number of a removed file
	below  map[inode]string // the same in the folders below, as far as the bounds go; nil: not asked for
}

// sweep looks for the files of saved positions that no pattern finds. A file that
// was renamed in its folder while it was not followed is read on; a position is
// given up only when a complete census of its folder proves that the file is gone.
func (d *discoverer) sweep(s *scan, now time.Time) {
	if d.scanned && now.Sub(d.swept) < sweepInterval {
		return
	}
	d.swept, d.strays = now, 0
	taken := make(map[string]*census)
	for in, states := range d.orphans {
		if _, found := s.found[in]; found {
			continue // about to be adopted
		}
		for _, saved := range states {
			dir := filepath.Dir(saved.real)
			l, known := taken[dir]
			if !known {
				l = new(takeCensus(dir))
				taken[dir] = l
			}
			d.search(saved, dir, l, now)
		}
	}
}

// search takes the consequences of a census for one saved position.
func (d *discoverer) search(saved *state, dir string, l *census, now time.Time) {
	if !l.known || l.device != saved.identity.device {
		return // unreadable, or another filesystem is mounted there
	}
	name, found := l.find(dir, saved.identity.inode)
	switch {
	case !found:
		d.giveUp(saved, now)
	case filepath.Join(dir, name) != saved.real || d.linkMovedOn(saved):
		d.readOn(saved, dir, name, now)
	}
	// Under its old name it was left out by a changed configuration, or can't be
	// opened: its position is kept.
}

// linkMovedOn says that the file was named by a link, which leads elsewhere now.
func (d *discoverer) linkMovedOn(saved *state) bool {
	w := d.source.walker
	return w.follow && saved.path != saved.real && w.matches(saved.path)
}

// readOn follows a renamed file if there is something left to read in it. At a
// start nothing but its content says so, since it may have been rewritten.
func (d *discoverer) readOn(saved *state, dir, name string, now time.Time) {
	path := filepath.Join(dir, name)
	info, err := os.Lstat(path)
	if err != nil || d.scanned && info.Size() == saved.position {
		return
	}
	if d.isCrowded(now) {
		d.strays++
		d.swept = now.Add(sweepSoon - sweepInterval)
		return
	}
	handle, err := openBeneath(dir, name)
	if err != nil {
		d.fail(path, err, now)
		return
	}
	f, err := d.beginOrphan(handle, saved, candidate{path: saved.path, real: path, root: dir, relative: name}, now)
	if err != nil {
		d.fail(path, err, now)
	}
	if f == nil {
		handle.Close()
		return
	}
	f.nameless = true
	f.real = saved.real // a name that no pattern matches must not look like one that was left out
	f.rotated = true
	d.place(f, now)
}

// beginOrphan is begin for a file that no pattern names any more: nil also if all
// of it is delivered, or if the name belongs to a file that was never followed.
func (d *discoverer) beginOrphan(handle *os.File, saved *state, c candidate, now time.Time) (*file, error) {
	fd := int(handle.Fd())
	l, err := lookAt(fd)
	if err != nil {
		return nil, err
	}
	id := identify(fd, l.inode)
	found, err := gather(handle, id, l, saved)
	if err != nil {
		return nil, err
	}
	resumed := decide(saved, found, false).resumed
	switch {
	case resumed && l.size == saved.position:
		return nil, nil
	case !resumed && (id != saved.identity || id.kind == generationNone):
		d.giveUp(saved, now)
		return nil, nil
	}
	return d.begin(handle, c, false, now)
}

// searchUnread looks for a file that lost its name before its turn came, and follows
// it by whatever name its inode has now: what was never read can't be read twice.
func (d *discoverer) searchUnread(r *resting, now time.Time) {
	dir := filepath.Dir(r.real)
	l := takeCensus(dir)
	name, found := l.find(dir, r.look.inode)
	if !found {
		if l.known && l.device == r.look.inode.device {
			d.neverSeen(r.path, r.look.size, now)
		}
		return
	}
	path := filepath.Join(dir, name)
	handle, err := openBeneath(dir, name)
	if isShort(err) { // it waits on: the next scan misses it again, in once mode the next turn
		d.lay(r)
		if d.source.config.Once {
			d.enqueue([]*resting{r})
		}
	}
	if err != nil {
		d.fail(path, err, now)
		return
	}
	if born := bornAt(int(handle.Fd()), ""); born != 0 && r.born != 0 && born != r.born { // its inode number was given again
		handle.Close()
		d.neverSeen(r.path, r.look.size, now)
		return
	}
	f, err := d.begin(handle, candidate{path: r.path, real: path, root: dir, relative: name}, false, now)
	if err != nil {
		d.fail(path, err, now)
	}
	if f == nil || f.identity.inode != r.look.inode {
		handle.Close()
		return
	}
	f.rotated, f.nameless = true, true
	if d.source.config.Once {
		f.limit = min(r.look.size, f.size) // what it held at the start, and is still there
	}
	d.place(f, now)
}

// neverSeen counts a file that was gone before it could be opened, with the size that
// was known of it.
func (d *discoverer) neverSeen(path string, size int64, now time.Time) {
	d.source.metrics.unopened.Inc()
	decision := Decision{Time: now, Path: path, What: Unopened, Reason: "it was removed or moved away before it could be opened", Size: size, Lost: size}
	if _, report := d.unopened.failed(now); report {
		d.source.decided(identity{}, lostUnopened, decision)
		return
	}
	d.source.metrics.lost(lostUnopened, size)
	d.source.remember(identity{}, decision)
}

// giveUp removes the position of a file that is proved gone.
func (d *discoverer) giveUp(saved *state, now time.Time) {
	d.vanished(saved, now)
	in := saved.identity.inode
	rest := make([]*state, 0, len(d.orphans[in]))
	for _, s := range d.orphans[in] {
		if s != saved {
			rest = append(rest, s)
		}
	}
	if len(rest) == 0 {
		delete(d.orphans, in)
	} else {
		d.orphans[in] = rest
	}
}

// vanished removes the position of a gone file. What it held undelivered is read
// from its copy, or counted.
func (d *discoverer) vanished(saved *state, now time.Time) {
	var lost int64
	if saved.size > saved.position {
		_, lost = d.rescue(saved, now)
	}
	d.depart(saved)
	d.source.settle(saved.identity, nil)
	d.source.decided(saved.identity, lostVanished, Decision{
		Time: now, Path: saved.path, What: Vanished, Reason: "neither its folder nor those below hold the file of the saved position",
		Position: saved.position, Size: saved.size, Lost: lost,
	})
}

// takeCensus reads a folder, or finds out that it does not exist: then the device is
// that of the nearest folder above it, so that a missing mount proves nothing.
func takeCensus(dir string) census {
	var stat unix.Stat_t
	entries, err := readDirectory(dir, &stat)
	l := census{known: true, device: stat.Dev, names: make(map[inode]string, len(entries))}
	for errors.Is(err, fs.ErrNotExist) && dir != "/" {
		dir = filepath.Dir(dir)
		if err = unix.Stat(dir, &stat); err == nil {
			l.device = stat.Dev
			return l
		}
	}
	for _, entry := range entries {
		var stat unix.Stat_t
		if statErr := unix.Lstat(filepath.Join(dir, entry.Name()), &stat); statErr == nil {
			if look := lookOf(&stat); look.regular {
				l.names[look.inode] = entry.Name()
			}
		} else if !errors.Is(statErr, fs.ErrNotExist) {
			err = statErr
		}
	}
	l.known = err == nil
	return l
}

// find returns the name of an inode in the folder or below it, from the folder on.
func (l *census) find(dir string, in inode) (name string, found bool) {
	if name, found = l.names[in]; found || !l.known {
		return name, found
	}
	if l.below == nil {
		l.below = make(map[inode]string)
		l.descend(dir)
	}
	name, found = l.below[in]
	return name, found
}

// descend looks at the folders below, the nearest first, in the same filesystem. What
// can't be read is passed over.
func (l *census) descend(top string) {
	folders, names := []string{"."}, 0
	for i := 0; i < len(folders) && i <= maxBelowFolders; i++ {
		var stat unix.Stat_t
		entries, err := readDirectory(filepath.Join(top, folders[i]), &stat)
		if err != nil && len(entries) == 0 || stat.Dev != l.device {
			continue
		}
		for _, entry := range entries {
			if names++; names > maxBelowNames {
				return
			}
			relative := filepath.Join(folders[i], entry.Name())
			switch {
			case entry.IsDir():
				folders = append(folders, relative)
			case i > 0 && entry.Type().IsRegular():
				if unix.Lstat(filepath.Join(top, relative), &stat) == nil {
					l.below[lookOf(&stat).inode] = relative
				}
			}
		}
	}
}
