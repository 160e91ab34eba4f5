package file

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// graceTime is how long a file must have stayed delivered, durable and unchanged
// before it is deleted.
const graceTime = 10 * time.Second

var (
	errWritersUnknown = errors.New("it can't be known whether a process writes to it: that takes its owner's rights, and a filesystem with leases")
	errOtherFile      = errors.New("another file has its name")
)

// Committed says that all that Checkpoint has given out so far is durable. It implements the
// pipeline's Committer.
func (s *Source) Committed() {
	s.checkpoints.Lock()
	defer s.checkpoints.Unlock()
	s.durable.Store(s.given.Load())
}

// removeDelivered deletes files of which the broker has all, and the store knows it.
func (d *discoverer) removeDelivered(now time.Time) {
	if !d.source.config.DeleteAfterDelivery || d.source.config.Once {
		return
	}
	for _, f := range d.tracked {
		switch {
		case f.nameless || !f.isSpent(d.source.durable.Load()):
			f.spent = time.Time{}
		case f.spent.IsZero():
			f.spent = now
		case now.Sub(f.spent) >= graceTime && now.Sub(f.changed) >= graceTime:
			d.remove(f, now)
		}
	}
}

// isSpent reports that all of the file is delivered, and that this was durable with
// the checkpoints up to the given one. Of an empty file nothing was delivered, of a
// damaged one not all.
func (f *file) isSpent(durable uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	settled, _ := f.settledLocked()
	return !f.closed && f.last == nil && !f.truncated && f.size > 0 && f.allSettledLocked() && (f.packed == nil || f.packed.whole) &&
		f.emitted.content == f.content && f.emitted.position == settled && f.given <= durable
}

// remove deletes the file. It stays open and is followed without a name, so that
// what somebody writes who has just opened it is still read.
func (d *discoverer) remove(f *file, now time.Time) {
	key := "delete " + f.path
	if d.isTooEarly(key, now) {
		return
	}
	busy, err := f.unlink()
	switch {
	case busy:
		f.spent = time.Time{} // the grace begins anew
	case err != nil:
		f.spent = time.Time{}
		d.failAs(key, now, Undeleted, f.path, err)
	default:
		delete(d.failures, key)
		d.source.decided(f.identity, "", Decision{
			Time: now, Path: f.real, What: Deleted, Reason: "all of it is delivered, and nobody writes to it", Position: f.seen.size, Size: f.seen.size,
		})
	}
}

// unlink removes the name of a file that nobody has open for writing, and that is what
// was seen last; busy says that it is not so. A lease keeps writers from opening the
// file meanwhile: they wait, and find it without a name.
func (f *file) unlink() (busy bool, err error) {
	w, give := leaseOf(f.fd)
	defer give()
	switch w {
	case writersSome:
		return true, nil
	case writersUnknown:
		return false, errWritersUnknown
	}
	l, err := lookAt(f.fd)
	if err != nil {
		return false, err
	}
	if l != f.seen {
		return true, nil
	}
	dir, err := openFolderBeneath(f.root, filepath.Dir(f.relative))
	if err != nil {
		return false, err
	}
	defer unix.Close(dir)
	name := filepath.Base(f.relative)
	var stat unix.Stat_t
	if err := unix.Fstatat(dir, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, fmt.Errorf("stat: %w", err)
	}
	if lookOf(&stat).inode != l.inode {
		return false, errOtherFile
	}
	if err := unix.Unlinkat(dir, name, 0); err != nil {
		return false, fmt.Errorf("unlink: %w", err)
	}
	if after, err := lookAt(f.fd); err == nil && after.links >= l.links {
		return false, fmt.Errorf("%w since the moment in which it was deleted", errOtherFile)
	}
	return false, nil
}

// openFolderBeneath opens a folder as openBeneath opens files.
func openFolderBeneath(root, relative string) (fd int, err error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	top, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", root, err)
	}
	if relative == "." {
		return top, nil
	}
	defer unix.Close(top)
	fd, err = unix.Openat2(top, relative, &unix.OpenHow{
		Flags:   flags,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		fd, err = unix.Openat(top, relative, flags, 0)
	}
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", filepath.Join(root, relative), err)
	}
	return fd, nil
}
