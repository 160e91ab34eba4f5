package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// maxFileSize bounds what is read into memory at a start: about five million positions.
const maxFileSize = 1 << 30

// openOwn opens a regular file that belongs to the agent's user and that nobody
// else may write; links are not followed.
func openOwn(path string, flag int, mode os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, mode)
	if err != nil {
		if errors.Is(err, unix.ELOOP) {
			return nil, fmt.Errorf("%s is a symbolic link: replace it by a file", path)
		}
		return nil, err
	}
	if err := checkOwn(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func checkOwn(f *os.File) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	switch {
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%s is not a regular file: move it away", f.Name())
	case stat.Uid != uint32(os.Geteuid()):
		return fmt.Errorf("%s belongs to uid %d, the agent runs as %d: change its owner", f.Name(), stat.Uid, os.Geteuid())
	case stat.Mode&0o022 != 0:
		return fmt.Errorf("%s may be written by other users (mode %04o): set mode 0600", f.Name(), stat.Mode&0o7777)
	}
	return nil
}

// damagedError says that a file's content failed its check.
type damagedError struct{ reason error }

func (e *damagedError) Error() string { return "is damaged: " + e.reason.Error() }
func (e *damagedError) Unwrap() error { return e.reason }

// readFile reads and checks a positions file. The error is a *damagedError when
// the content is at fault, os.ErrNotExist when there is none.
func readFile(path string) (contents, error) {
	f, err := openOwn(path, os.O_RDONLY, 0)
	if err != nil {
		return contents{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return contents{}, err
	}
	if info.Size() > maxFileSize {
		return contents{}, &damagedError{fmt.Errorf("more than %d bytes", maxFileSize)}
	}
	image := make([]byte, info.Size())
	if _, err := io.ReadFull(f, image); err != nil {
		return contents{}, &damagedError{err}
	}
	c, err := parse(image)
	var newer *newerFormatError
	if errors.As(err, &newer) {
		return contents{}, fmt.Errorf("%s %w", path, newer)
	}
	if err != nil {
		return contents{}, &damagedError{err}
	}
	return c, nil
}

// setAside renames a damaged file to a name that nothing else has.
func setAside(path string, now time.Time) (string, error) {
	base := fmt.Sprintf("%s.damaged-%s", filepath.Join(filepath.Dir(path), positionsFile), now.UTC().Format("20060102T150405Z"))
	for n := 0; ; n++ {
		target := base
		if n > 0 {
			target += "-" + strconv.Itoa(n)
		}
		err := unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, target, unix.RENAME_NOREPLACE)
		if err == nil {
			return target, nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return "", fmt.Errorf("set %s aside: %w", path, err)
		}
	}
}

// syncFile makes the content of a file durable that was written under another handle.
func syncFile(path string) error {
	f, err := openOwn(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// MakeDirectory makes dir and what is missing above it, for the owner alone, and
// their names durable: positions that are synced into a folder whose own name is
// lost with the power are lost with it.
func MakeDirectory(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MakeDirectory(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// syncDir makes renames in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
