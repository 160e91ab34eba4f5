package file

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

const (
	// hintPause is the least time between two reactions to events. The kernel
	// merges a writer's events meanwhile, so that a busy file costs a thousand
	// wake-ups a second at most, and each finds more than one line.
	hintPause = time.Millisecond
	// longPause is what it grows to while events come without a pause of their own, so that
	// each wake-up finds those of several files.
	longPause = 10 * time.Millisecond
	// hintBurst bounds the events handled in one go.
	hintBurst = 512
)

// hints is the wish to know sooner what polling finds anyway: whatever fails here
// costs latency and one warning. It belongs to the discoverer.
type hints struct {
	log     *slog.Logger
	watcher *fsnotify.Watcher // nil: polling alone
	dirs    map[string]*watch // asked for
	now     func() time.Time
	warned  backoff
	lull    time.Duration // the next pause
	wanted  bool          // there should be a watcher
	next    time.Time     // without one: when to try again
	checked time.Time     // when the watches were last compared with what the watcher has
	refused int           // watches of dirs that there are none for
}

// watch is one watched folder.
type watch struct {
	inode inode // of the folder; zero: not known
	on    bool
	sound bool      // of a filesystem whose writers all cause events
	since time.Time // of the last attempt
}

const (
	// retryWatches is how often what the system refused is asked for again, and what it
	// gave is compared with what is left of it: an unmounted folder loses its watch.
	retryWatches = 30 * time.Second
	// quietTime is how long a watch must have lasted, and a file not have changed without an
	// event, before polls rely on events: the order of both is certain then.
	quietTime = 10 * time.Second
)

// start opens the watcher, if the system has one left.
func (h *hints) start() {
	h.wanted = true
	h.dirs = make(map[string]*watch)
	watcher, err := fsnotify.NewBufferedWatcher(hintBurst) // so that a burst is there when it is looked for
	if err != nil {
		h.next = h.now().Add(retryWatches)
		h.warn(err)
		return
	}
	h.watcher = watcher
}

// channels returns nil channels when there is no watcher.
func (h *hints) channels() (<-chan fsnotify.Event, <-chan error) {
	if h.watcher == nil {
		return nil, nil
	}
	return h.watcher.Events, h.watcher.Errors
}

// watch makes dirs the watched folders. One that does not exist is left for later.
func (h *hints) watch(dirs map[string]inode, now time.Time) {
	if h.watcher == nil && h.wanted && !now.Before(h.next) {
		if h.start(); h.watcher != nil {
			h.recovered()
		}
	}
	if h.watcher == nil {
		return
	}
	h.check(now)
	refused := h.refused
	for dir, in := range dirs {
		w := h.dirs[dir]
		if w != nil && w.inode == in && (w.on || now.Sub(w.since) < retryWatches) {
			continue
		}
		h.forget(dir)
		h.add(dir, in, now)
	}
	for dir := range h.dirs {
		if _, wanted := dirs[dir]; !wanted {
			h.forget(dir)
		}
	}
	if refused > 0 && h.refused == 0 {
		h.recovered()
	}
}

func (h *hints) add(dir string, in inode, now time.Time) {
	err := h.watcher.Add(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	w := &watch{inode: in, on: err == nil, since: now}
	w.sound = w.on && in != (inode{}) && isSound(dir)
	h.dirs[dir] = w
	if err != nil {
		h.refused++
		h.warn(err)
	}
}

// check drops the watches that the system took away.
func (h *hints) check(now time.Time) {
	if now.Sub(h.checked) < retryWatches {
		return
	}
	h.checked = now
	left := make(map[string]struct{}, len(h.dirs))
	for _, dir := range h.watcher.WatchList() {
		left[dir] = struct{}{}
	}
	for dir, w := range h.dirs {
		if _, there := left[dir]; w.on && !there {
			delete(h.dirs, dir)
		}
	}
}

// vouch reports that a change of a file in the folder dir, found by w, causes an event.
// It keeps the folder's watch in w.
func (h *hints) vouch(w **watch, real string, now time.Time) bool {
	if *w == nil || !(*w).on {
		*w = h.dirs[filepath.Dir(real)]
	}
	return *w != nil && (*w).on && (*w).sound && now.Sub((*w).since) >= quietTime
}

// isSound reports that all writers to a folder's filesystem are this kernel's, through
// this filesystem: none on another machine, in a server, or below an overlay.
func isSound(dir string) bool {
	var stat unix.Statfs_t
	if unix.Statfs(dir, &stat) != nil {
		return false
	}
	switch uint32(stat.Type) { //nolint:gosec // magic numbers have 32 bits
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return true
	default:
		return false
	}
}

// forget drops a folder that was renamed or removed, so that one that takes its
// name is watched anew. It reports whether the name was a watched folder.
func (h *hints) forget(name string) bool {
	w := h.dirs[name]
	if w == nil {
		return false
	}
	delete(h.dirs, name)
	if w.on {
		_ = h.watcher.Remove(name) // fails when the watcher has noticed before
	} else {
		h.refused--
	}
	w.on = false
	return true
}

// failed reports whether events were lost, so that all files must be looked at.
func (h *hints) failed(err error) (lost bool) {
	h.warn(err)
	return errors.Is(err, fsnotify.ErrEventOverflow)
}

func (h *hints) warn(err error) {
	if _, report := h.warned.failed(h.now()); report {
		h.log.Warn("changes of files are seen by polling alone", "error", err)
	}
}

func (h *hints) recovered() {
	h.warned.succeeded()
	h.log.Info("changes of files cause events again")
}

// pause lets events gather: longer while there are some each time, and not so many that
// the kernel might run out of room for them.
func (h *hints) pause(ctx context.Context) {
	h.lull = max(h.lull, hintPause)
	timer := time.NewTimer(h.lull)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	if n := len(h.watcher.Events); n == 0 || n > hintBurst/2 {
		h.lull = hintPause
	} else {
		h.lull = min(2*h.lull, longPause)
	}
}

func (h *hints) close() {
	if h.watcher != nil {
		if err := h.watcher.Close(); err != nil {
			h.log.Warn("the watcher of folders did not close", "error", err)
		}
	}
}

// hintAll handles an event and those that wait behind it, up to a bound.
func (d *discoverer) hintAll(event fsnotify.Event, events <-chan fsnotify.Event) (rescan bool) {
	now := d.source.config.Now()
	for handled := 1; ; handled++ {
		rescan = d.hint(event, now) || rescan
		if handled == hintBurst {
			return rescan
		}
		select {
		case event = <-events:
		default:
			return rescan
		}
	}
}

// hint handles one event. It reports whether names changed in a way that only a
// scan can follow.
func (d *discoverer) hint(event fsnotify.Event, now time.Time) (rescan bool) {
	f, r := d.names[event.Name], d.beds[event.Name]
	if event.Has(fsnotify.Rename) || event.Has(fsnotify.Remove) {
		return d.hints.forget(event.Name) || f != nil || r != nil
	}
	if f != nil {
		untold := f.untold
		d.look(f, now)
		f.untold = untold
	}
	switch {
	case r == nil:
	case r.reason == FileWaits && d.held[r.real] != nil:
		d.turns(now)
	case r.reason != FileWaits && r.differs():
		d.enqueue([]*resting{d.waiter(r, &r.candidate)})
		d.turnSoon(now)
	}
	if !event.Has(fsnotify.Create) {
		return false
	}
	c := d.source.walker.inspectCreated(event.Name)
	if c == nil {
		info, err := os.Lstat(event.Name)
		if errors.Is(err, fs.ErrNotExist) && d.source.walker.matches(event.Name) {
			d.neverSeen(event.Name, 0, now)
		}
		return err == nil && !info.Mode().IsRegular()
	}
	if d.follows(c.look.inode) != nil || d.source.resting[c.look.inode] != nil {
		return true // renamed
	}
	if d.ignores(c, now) {
		return true
	}
	d.enqueue([]*resting{d.waiter(nil, c)})
	d.turns(now)
	return f != nil
}
