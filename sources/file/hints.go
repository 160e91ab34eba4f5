package file

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// hintPause is the least time between two reactions to events. The kernel
	// merges a writer's events meanwhile, so that a busy file costs a thousand
	// wake-ups a second at most, and each finds more than one line.
	hintPause = time.Millisecond
	// hintBurst bounds the events handled in one go.
	hintBurst = 512
)

// hints is the wish to know sooner what polling finds anyway: whatever fails here
// costs latency and one warning. It belongs to the discoverer.
type hints struct {
	log     *slog.Logger
	watcher *fsnotify.Watcher // nil: polling alone
	dirs    map[string]bool   // asked for; false: refused
	now     func() time.Time
	warned  backoff
}

// start opens the watcher, if the system has one left.
func (h *hints) start() {
	watcher, err := fsnotify.NewBufferedWatcher(hintBurst) // so that a burst is there when it is looked for
	if err != nil {
		h.warn(err)
		return
	}
	h.watcher = watcher
	h.dirs = make(map[string]bool)
}

// channels returns nil channels when there is no watcher.
func (h *hints) channels() (<-chan fsnotify.Event, <-chan error) {
	if h.watcher == nil {
		return nil, nil
	}
	return h.watcher.Events, h.watcher.Errors
}

// watch makes dirs the watched folders. One that does not exist is left for later.
func (h *hints) watch(dirs map[string]struct{}) {
	if h.watcher == nil {
		return
	}
	for dir := range dirs {
		if _, asked := h.dirs[dir]; asked {
			continue
		}
		err := h.watcher.Add(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		h.dirs[dir] = err == nil
		if err != nil {
			h.warn(err)
		}
	}
	for dir := range h.dirs {
		if _, wanted := dirs[dir]; !wanted {
			h.forget(dir)
		}
	}
}

// forget drops a folder that was renamed or removed, so that one that takes its
// name is watched anew. It reports whether the name was a watched folder.
func (h *hints) forget(name string) bool {
	watched, asked := h.dirs[name]
	if asked {
		delete(h.dirs, name)
		if watched {
			_ = h.watcher.Remove(name) // fails when the watcher has noticed before
		}
	}
	return asked
}

// failed reports whether events were lost, so that a poll is due.
func (h *hints) failed(err error) (rescan bool) {
	h.warn(err)
	return errors.Is(err, fsnotify.ErrEventOverflow)
}

func (h *hints) warn(err error) {
	if _, report := h.warned.failed(h.now()); report {
		h.log.Warn("changes of files are seen by polling alone", "error", err)
	}
}

// pause lets events gather.
func (h *hints) pause(ctx context.Context) {
	timer := time.NewTimer(hintPause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (h *hints) close() {
	if h.watcher != nil {
		if err := h.watcher.Close(); err != nil {
			h.log.Warn("the watcher of folders did not close", "error", err)
		}
	}
}
