package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockFile = "lock"
	// holderWait bounds how long a lock's holder has to write its pid.
	holderWait = 500 * time.Millisecond
)

// HeldError says that another agent uses the data directory.
type HeldError struct {
	Directory string
	PID       int // 0 when the holder could not be read
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("data_dir %s is in use by another agent: stop it, or give this one another data_dir", e.Directory)
	}
	return fmt.Sprintf("data_dir %s is in use by the agent with pid %d: stop it, or give this one another data_dir", e.Directory, e.PID)
}

// Lock is the ownership of a data directory. It ends with Release or the
// process, however that ends: it is an flock, not the existence of a file.
type Lock struct {
	file *os.File // owned; closing it releases the lock
}

// LockDirectory takes the lock of dir, which must exist. When another process or
// another caller in this one has it, it returns a *HeldError within a second.
func LockDirectory(dir string) (*Lock, error) {
	path := filepath.Join(dir, lockFile)
	f, err := openOwn(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data_dir: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		defer f.Close()
		return nil, &HeldError{Directory: dir, PID: holder(f)}
	}
	if err == nil {
		err = writePID(f)
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = nil // the lock is the kernel's: the pid is for people
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock data_dir: %s: %w", path, err)
	}
	return &Lock{file: f}, nil
}

// Release gives the directory up. The file stays, without a pid.
func (l *Lock) Release() error {
	return errors.Join(l.file.Truncate(0), l.file.Close())
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder reads the pid in a lock file, waiting a little for a holder that has
// only just taken the lock.
func holder(f *os.File) int {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(holderWait); time.Now().Before(deadline); <-tick.C {
		content := make([]byte, 32)
		n, _ := f.ReadAt(content, 0)
		if text, whole := strings.CutSuffix(string(content[:n]), "\n"); whole {
			if pid, err := strconv.Atoi(text); err == nil && pid > 0 {
				return pid
			}
		}
	}
	return 0
}
