package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// discoverer finds files, looks for changes in them, and decides when a file is
// no longer followed. All of it belongs to one goroutine.
type discoverer struct {
	source  *Source
	inboxes []*inbox // one per lane
	load    []int    // tracked files per lane
	hints   *hints

	tracked  map[inode]*file
	names    map[string]*file    // by path and by real path
	left     map[string]*file    // by the names that this scan found others to have
	orphans  map[inode][]*state  // saved positions without a tracked file
	failures map[string]*failure // by path
	swept    time.Time
	scanned  bool    // the first scan is done
	unread   []error // once: why files could not be read
}

// failure is a path that could not be opened or listed.
type failure struct {
	backoff
	next time.Time
}

func newDiscoverer(s *Source, lanes int) *discoverer {
	d := &discoverer{
		source:   s,
		load:     make([]int, lanes),
		hints:    &hints{log: s.log, now: s.config.Now},
		tracked:  make(map[inode]*file),
		names:    make(map[string]*file),
		left:     make(map[string]*file),
		orphans:  s.saved,
		failures: make(map[string]*failure),
	}
	for range lanes {
		d.inboxes = append(d.inboxes, newInbox())
	}
	s.walker.known = func(in inode) string {
		if f := d.tracked[in]; f != nil {
			return f.path
		}
		return ""
	}
	return d
}

// run polls until ctx ends. In once mode it discovers only at its start, and its
// error names what could not be read.
func (d *discoverer) run(ctx context.Context) error {
	once := d.source.config.Once
	if !once {
		d.hints.start()
		defer d.hints.close()
	}
	for ctx.Err() == nil {
		begin := d.source.config.Now()
		if once && d.scanned {
			for _, f := range d.tracked {
				d.look(f, begin)
			}
		} else {
			d.poll(begin)
		}
		d.wait(ctx, d.source.config.Now().Sub(begin))
	}
	return errors.Join(d.unread...)
}

// wait returns when the next poll is due: after poll_interval, sooner after a hint
// that names came or went. Polls for hints leave nine tenths of the time to others,
// those that are due half of it.
func (d *discoverer) wait(ctx context.Context, took time.Duration) {
	interval := time.NewTimer(max(d.source.config.PollInterval, took))
	defer interval.Stop()
	soon := time.NewTimer(max(9*took, hintPause))
	defer soon.Stop()
	rested, due := false, false
	for !rested || !due {
		events, failures := d.hints.channels()
		select {
		case <-ctx.Done():
			return
		case <-interval.C:
			return
		case <-soon.C:
			rested = true
		case event := <-events:
			due = d.hintAll(event, events) || due
			d.hints.pause(ctx)
		case err := <-failures:
			due = d.hints.failed(err) || due
		}
	}
}

// hintAll handles an event and those that wait behind it, up to a bound.
func (d *discoverer) hintAll(event fsnotify.Event, events <-chan fsnotify.Event) (rescan bool) {
	now := d.source.config.Now()
	for range hintBurst {
		rescan = d.hint(event, now) || rescan
		select {
		case event = <-events:
		default:
			return rescan
		}
	}
	return rescan
}

// hint handles one event. It reports whether names changed in a way that only a
// scan can follow.
func (d *discoverer) hint(event fsnotify.Event, now time.Time) (rescan bool) {
	f := d.names[event.Name]
	if event.Has(fsnotify.Rename) || event.Has(fsnotify.Remove) {
		return d.hints.forget(event.Name) || f != nil
	}
	if f != nil {
		d.look(f, now)
	}
	if !event.Has(fsnotify.Create) {
		return false
	}
	c := d.source.walker.inspectCreated(event.Name)
	if c == nil {
		info, err := os.Lstat(event.Name)
		return err == nil && !info.Mode().IsRegular()
	}
	if d.follows(c.look.inode) != nil {
		return true // renamed
	}
	d.adopt(*c, false, now)
	return f != nil
}

// poll scans once and takes the consequences.
func (d *discoverer) poll(now time.Time) {
	s := d.source.walker.scan(now)
	var fresh []*candidate
	named := 0
	for in, c := range s.found {
		if f := d.follows(in); f != nil {
			d.named(f, c, now)
			named++
		} else {
			fresh = append(fresh, c)
		}
	}
	if named < len(d.tracked) {
		for in, f := range d.tracked {
			if s.found[in] == nil && d.follows(in) != nil {
				d.nameless(f, s, now)
			}
		}
	}
	for path, err := range s.failed {
		d.fail(path, err, now)
	}
	d.sweep(s, now)
	slices.SortFunc(fresh, func(a, b *candidate) int { return strings.Compare(a.path, b.path) })
	fromEnd := !d.scanned && d.source.first && d.source.config.StartAt == End
	for _, c := range fresh {
		d.adopt(*c, fromEnd, now)
	}
	clear(d.left)
	d.hints.watch(s.dirs)
	d.measure(now)
	if !d.scanned {
		d.scanned = true
		d.source.markReady()
		if d.source.config.Once {
			for _, i := range d.inboxes {
				i.complete()
			}
		}
	}
}

// measure refreshes the lag, and forgets failures that did not come back.
func (d *discoverer) measure(now time.Time) {
	var lag int64
	for _, f := range d.tracked {
		lag += f.status().Lag
	}
	d.source.metrics.setLag(lag)
	for path, failed := range d.failures {
		if now.Sub(failed.next) > 2*longDelay {
			delete(d.failures, path)
		}
	}
}

// look notices the file if there may be something to read.
func (d *discoverer) look(f *file, now time.Time) {
	ready, err := f.observe(now)
	if err != nil {
		d.fail(f.name(), err, now)
		return
	}
	if ready {
		d.inboxes[f.lane].notice(f)
	}
}

// named handles a tracked file that a scan found.
func (d *discoverer) named(f *file, c *candidate, now time.Time) {
	if f.path != c.path || f.real != c.real {
		d.unname(f)
		d.left[f.path] = f
		f.rename(c)
		d.names[f.path], d.names[f.real] = f, f
		d.source.log.Info("file was renamed: it is read on", "path", f.path)
	}
	d.look(f, now)
	if f.rotated {
		f.found()
		d.finish(f, now)
	}
}

// nameless handles a tracked file that a scan did not find.
func (d *discoverer) nameless(f *file, s *scan, now time.Time) {
	d.look(f, now)
	if !s.complete(f.path) || !s.complete(f.real) {
		return
	}
	f.lose()
	d.finish(f, now)
	d.release(f, now)
}

// finish decides whether the last line of a rotated file is complete: nobody
// writes to the file any more.
func (d *discoverer) finish(f *file, now time.Time) {
	if f.finish(now) {
		d.inboxes[f.lane].notice(f)
	}
}

// release lets the tailer close a file that lost its name, once all is delivered
// and nobody writes to it.
func (d *discoverer) release(f *file, now time.Time) {
	if !f.isDone(now) {
		return
	}
	if err := f.release(); err != nil {
		return // the next poll sees what changed
	}
	d.inboxes[f.lane].notice(f)
}

// follows returns the tracked file of an inode. One that the tailer has closed is
// forgotten: its inode may belong to a new file by now.
func (d *discoverer) follows(in inode) *file {
	f := d.tracked[in]
	if f != nil && f.isClosed() {
		d.forget(f)
		return nil
	}
	return f
}

// forget ends the tracking of a file that the tailer has closed. While it exists
// its position is kept.
func (d *discoverer) forget(f *file) {
	d.unname(f)
	delete(d.tracked, f.identity.inode)
	d.load[f.lane]--
	if f.seen.links == 0 {
		d.source.settle(f.identity, nil)
	} else {
		d.orphans[f.identity.inode] = append(d.orphans[f.identity.inode], f.last)
		d.source.settle(f.identity, f.last)
	}
	d.source.untrack(f)
	d.source.log.Info("file is gone and delivered: it is closed", "path", f.path)
}

// unname removes the file's names, unless others have them by now.
func (d *discoverer) unname(f *file) {
	for _, name := range []string{f.path, f.real} {
		if d.names[name] == f {
			delete(d.names, name)
		}
	}
}

// adopt begins to follow the file that c names, unless it turns out to be tracked.
func (d *discoverer) adopt(c candidate, fromEnd bool, now time.Time) {
	if d.waits(c.path, now) || d.waits(noDescriptors, now) {
		return
	}
	handle, err := openBeneath(c.root, c.relative)
	if errors.Is(err, fs.ErrNotExist) {
		return // it was removed or renamed since it was seen: the next scan knows
	}
	if err != nil {
		d.fail(c.path, err, now)
		return
	}
	f, err := d.begin(handle, c, fromEnd)
	if err != nil {
		d.fail(c.path, err, now)
	}
	if f == nil {
		handle.Close()
		return
	}
	delete(d.failures, c.path)
	d.place(f, now)
}

// begin decides where reading of an open file begins; nil if it is tracked already.
func (d *discoverer) begin(handle *os.File, c candidate, fromEnd bool) (*file, error) {
	fd := int(handle.Fd())
	var err error
	if c.look, err = lookAt(fd); err != nil {
		return nil, err
	}
	if d.follows(c.look.inode) != nil {
		return nil, nil
	}
	id := identify(fd, c.look.inode)
	saved := d.savedOf(id)
	found, err := gather(handle, id, c.look.size, saved, fromEnd)
	if err != nil {
		return nil, err
	}
	verdict := decide(saved, found, fromEnd)
	f := newFile(handle, id, c, d.source.config.Host, &d.source.rules, verdict.position)
	f.key = d.source.key(id)
	if verdict.resumed {
		f.resume(saved, found.tail)
	} else if err := f.loadTail(); err != nil {
		return nil, err
	}
	d.adopted(saved, found, verdict, c.path)
	return f, nil
}

// savedOf returns the saved state that fits best: of the very file, else of
// another that had its inode.
func (d *discoverer) savedOf(id identity) *state {
	all := d.orphans[id.inode]
	for _, s := range all {
		if s.identity == id {
			return s
		}
	}
	if len(all) > 0 {
		return all[0]
	}
	return nil
}

// adopted takes the consequences of a decision for the saved states of the inode:
// the files they belong to are gone, or are tracked from now on.
func (d *discoverer) adopted(saved *state, found evidence, verdict decision, path string) {
	for _, s := range d.orphans[found.identity.inode] {
		if s.identity != found.identity {
			d.vanished(s)
		}
	}
	delete(d.orphans, found.identity.inode)
	lost := int64(0)
	switch {
	case saved == nil || saved.identity != found.identity:
	case !verdict.resumed:
		lost = saved.size - saved.position
	default: // cut behind the position
		lost = max(0, saved.size-found.size)
	}
	d.source.metrics.lost(lostTruncated, lost)
	switch {
	case !verdict.resumed && saved != nil:
		d.source.log.Warn("file is read from its beginning", "path", path, "reason", verdict.reason, "bytes_lost_unread", lost)
	case lost > 0:
		d.source.log.Warn("file is followed, it was truncated", "path", path, "position", verdict.position, "bytes_lost_unread", lost)
	default:
		d.source.log.Info("file is followed", "path", path, "position", verdict.position, "reason", verdict.reason)
	}
}

// place gives the file to a lane: that of the file which had its name before, and
// behind it, else the one with the fewest files.
func (d *discoverer) place(f *file, now time.Time) {
	before := d.names[f.path]
	if before == nil {
		before = d.left[f.path]
	}
	if before != nil {
		f.lane, f.after = before.lane, before
		d.look(before, now)
		d.inboxes[f.lane].notice(before)
	} else {
		f.lane = slices.Index(d.load, slices.Min(d.load))
	}
	if d.source.config.Once {
		f.limit = f.seen.size
	}
	f.changed = now
	d.load[f.lane]++
	d.tracked[f.identity.inode] = f
	if f.rotated {
		if d.names[f.path] == nil {
			d.names[f.path] = f // so that its successor is read after it
		}
	} else {
		d.names[f.path], d.names[f.real] = f, f
	}
	d.source.track(f)
	d.inboxes[f.lane].give(f)
}

// noDescriptors takes the place of a path in failures that are no path's own.
const noDescriptors = ""

// waits says whether it is too early for another attempt at a path.
func (d *discoverer) waits(path string, now time.Time) bool {
	failed := d.failures[path]
	return failed != nil && now.Before(failed.next)
}

// fail spaces the attempts at a path that can't be opened, and says so once. A lack
// of descriptors is one failure, whatever number of files meet it.
func (d *discoverer) fail(path string, err error, now time.Time) {
	key := path
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		key = noDescriptors
	}
	if d.waits(key, now) {
		return
	}
	failed := d.failures[key]
	if failed == nil {
		failed = &failure{}
		d.failures[key] = failed
	}
	var report bool
	failed.next, report = failed.failed(now)
	switch {
	case d.source.config.Once && !d.scanned:
		d.unread = append(d.unread, fmt.Errorf("file source: %w", err))
	case report:
		d.source.log.Error("file or folder can't be read: tried again, others go on", "path", path, "error", err)
	}
}
