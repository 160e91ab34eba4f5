package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/wire"
)

// Topology knows how many partitions topics have.
type Topology interface {
	// Partitions returns the number of partitions of a topic, at least 1. It
	// waits until the number is known and ends early with ctx's error. It is
	// called for every batch, from several goroutines.
	Partitions(ctx context.Context, topic string) (int32, error)
}

// Options is what a host needs.
type Options struct {
	// RunDir holds the plugins' sockets while the agent runs. It is created
	// when missing; where its path is too long for sockets, a directory of the
	// user's runtime or temporary directory is taken instead.
	RunDir string
	// CacheDir keeps descriptions by the file's sha256; empty: none are kept.
	CacheDir string
	// Hostname is what plugins see as the agent's host.
	Hostname string
	Logger   *slog.Logger
	Metrics  *metric.Table
	// Clock decides when processes are started again; nil: the system's.
	Clock Clock
	// Exec is the command under which plugins start: a program and arguments
	// that make it call [Exec].
	Exec []string
}

// Host owns what all plugins of an agent share: the directory of their sockets
// and the descriptions of their files. It is safe for concurrent use.
type Host struct {
	options   Options
	transport *wire.Transport
	starter   *starter
	dir       string   // private to this host; removed by Close
	lock      *os.File // flock on dir's lock file while the host lives
}

// Sockets are made at <dir>/plugin-dirNNNNNNNNNN/pluginNNNNNNNNNN, and the
// kernel takes 107 bytes.
const (
	hostDirPrefix   = "barnabas-"
	lockName        = "lock"
	maxHostDirBytes = 60
)

// Open makes a directory for the sockets and removes those of hosts that died.
// Close ends it.
func Open(o Options) (*Host, error) {
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	if len(o.Exec) == 0 {
		return nil, errors.New("BUG: a plugin host without the command that starts plugins")
	}
	h := &Host{options: o, transport: wire.NewTransport(), starter: &starter{command: o.Exec, groups: &controlGroups{}}}
	var failures []error
	for _, base := range socketBases(o.RunDir) {
		err := h.openIn(base)
		if err == nil {
			return h, nil
		}
		failures = append(failures, err)
	}
	return nil, fmt.Errorf("make a directory for the plugins' sockets: %w", errors.Join(failures...))
}

// socketBases are the directories to try, in order.
func socketBases(runDir string) []string {
	var bases []string
	for _, base := range []string{runDir, os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"} {
		const random = 10 // digits that os.MkdirTemp adds
		if base == "" {
			continue
		}
		if absolute, err := filepath.Abs(base); err == nil && len(filepath.Join(absolute, hostDirPrefix))+random <= maxHostDirBytes {
			bases = append(bases, absolute)
		}
	}
	return bases
}

// openIn makes and locks the host's directory in base.
func (h *Host) openIn(base string) error {
	if err := os.MkdirAll(base, 0o700); err != nil {
		return err
	}
	sweep(base, h.options.Logger)
	dir, err := os.MkdirTemp(base, hostDirPrefix)
	if err != nil {
		return err
	}
	h.lock, err = os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(h.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		os.RemoveAll(dir)
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	h.dir = dir
	return nil
}

// Close removes the host's directory. Every stage must have been closed before.
func (h *Host) Close() error {
	err := os.RemoveAll(h.dir)
	return errors.Join(err, h.lock.Close())
}

// sweep removes the directories of hosts that ended without Close: nobody
// holds their lock any more.
func sweep(base string, logger *slog.Logger) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return // MkdirTemp says what is wrong with the directory
	}
	for _, entry := range entries {
		if !entry.IsDir() || !strings.HasPrefix(entry.Name(), hostDirPrefix) {
			continue
		}
		dir := filepath.Join(base, entry.Name())
		if !abandoned(dir) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			logger.Warn("can't remove the sockets of an agent that ended", "dir", dir, "error", err)
		}
	}
}

// abandoned reports whether a directory has a lock file of this user that
// nobody holds. One without is being made just now, or is somebody else's.
func abandoned(dir string) bool {
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	var stat unix.Stat_t
	if unix.Fstat(int(file.Fd()), &stat) != nil || int(stat.Uid) != os.Geteuid() {
		return false
	}
	return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}
