package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/crashpoint"
)

// lockDirectory makes the directory where it is missing and locks it. The lock
// ends with the file that is returned, or with the process.
func lockDirectory(path string) (*os.File, error) {
	if err := makeDirectory(path); err != nil {
		return nil, err
	}
	dir, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW|os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: it must be a folder, not a link", err)
	}
	if err := checkOwn(dir, unix.S_IFDIR); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	if err := lock(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), dir.Close())
	}
	return dir, nil
}

// lockWait is how long a lock may outlive its holder: a process that the holder
// was about to start shares it until it has become another program.
const lockWait = 500 * time.Millisecond

func lock(dir *os.File) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(lockWait); ; <-tick.C {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case !errors.Is(err, unix.EWOULDBLOCK):
			return err
		case time.Now().After(deadline):
			return errors.New("it is in use by another agent")
		}
	}
}

// makeDirectory makes a directory and what is missing above it, durably.
func makeDirectory(path string) error {
	err := os.Mkdir(path, 0o700)
	switch {
	case errors.Is(err, os.ErrExist):
		return nil
	case errors.Is(err, os.ErrNotExist) && filepath.Dir(path) != path:
		if err := makeDirectory(filepath.Dir(path)); err != nil {
			return err
		}
		return makeDirectory(path)
	case err != nil:
		return err
	}
	above, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(above.Sync(), above.Close())
}

// checkOwn says what is wrong with a file or folder that should be the agent's own.
func checkOwn(f *os.File, kind uint32) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	switch {
	case stat.Mode&unix.S_IFMT != kind:
		return fmt.Errorf("%s is not what it should be, a regular file or folder: move it away", f.Name())
	case stat.Uid != uint32(os.Geteuid()):
		return fmt.Errorf("%s belongs to uid %d, the agent runs as %d: change its owner", f.Name(), stat.Uid, os.Geteuid())
	case stat.Mode&0o022 != 0:
		return fmt.Errorf("%s may be written by other users (mode %04o): take that permission away", f.Name(), stat.Mode&0o7777)
	}
	return nil
}

// openAt opens a file of the directory; links are not followed.
func openAt(dir *os.File, name string, flag int) (*os.File, error) {
	path := filepath.Join(dir.Name(), name)
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("%s is a symbolic link: replace it by a file", path)
	case err != nil:
		return nil, err
	}
	if err := checkOwn(f, unix.S_IFREG); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func remove(dir *os.File, name string) error { return os.Remove(filepath.Join(dir.Name(), name)) }

// createSegment begins a segment and makes its name durable. What fails is
// removed, so that the next attempt has the name.
func createSegment(dir *os.File, h *header) (*os.File, error) {
	name := segmentName(h.first)
	file, err := openAt(dir, name, os.O_RDWR|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return nil, err
	}
	crashpoint.At("spool.segment.created")
	if _, err = file.WriteAt(h.encode(), 0); err == nil {
		err = dir.Sync()
		crashpoint.At("spool.segment.synced")
	}
	if err != nil {
		return nil, errors.Join(err, file.Close(), remove(dir, name))
	}
	return file, nil
}

// listSegments returns the places that the names of segments give, in order.
// What has another name is not the spool's business.
func listSegments(dir string) ([]int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var firsts []int64
	for _, entry := range entries {
		if first, ok := parseSegmentName(entry.Name()); ok {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}

// setAside gives a damaged segment a name beside its own, under which it stays.
// move takes its own name away. One that has such a name already keeps it.
func setAside(dir *os.File, name string, move bool) (string, error) {
	path := filepath.Join(dir.Name(), name)
	for n := 0; ; n++ {
		target := path + ".damaged"
		if n > 0 {
			target = fmt.Sprintf("%s.damaged-%d", path, n)
		}
		var err error
		if move {
			err = unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, target, unix.RENAME_NOREPLACE)
		} else {
			err = os.Link(path, target)
		}
		if errors.Is(err, os.ErrExist) && n < 1000 {
			if !move && sameFile(path, target) {
				return target, nil
			}
			continue
		}
		if err != nil {
			return "", fmt.Errorf("set %s aside: %w", path, err)
		}
		return target, dir.Sync()
	}
}

// sameFile says that two names are of one file.
func sameFile(a, b string) bool {
	first, err := os.Lstat(a)
	if err != nil {
		return false
	}
	second, err := os.Lstat(b)
	return err == nil && os.SameFile(first, second)
}

func fdatasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
