package file

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/barnabas-agent/barnabas/core/watchdog"
)

// discoverer finds files, looks for changes in them, and decides when a file is
// no longer followed. All of it belongs to one goroutine.
type discoverer struct {
	source  *Source
	inboxes []*inbox // one per lane
	load    []int    // tracked files per lane
	hints   *hints
	pulse   *watchdog.Pulse

	tracked  map[inode]*file
	names    map[string]*file    // by path and by real path
	left     map[string]*file    // by the names that this scan found others to have, or copies to continue
	orphans  map[inode][]*state  // saved positions without a tracked file
	held     map[string]*hold    // by real path: files that may become copies
	departed []*state            // of delivered files that are gone, the oldest first
	compared *recognition        // nil: no compressed file is
	unopened backoff             // spaces what is said of files that were gone before they were opened
	failures map[string]*failure // by path
	swept    time.Time
	scanned  bool    // the first scan is done
	unread   []error // once: why files could not be read

	began    time.Time           // of the run
	now      time.Time           // of the last look around
	beds     map[string]*resting // files at rest, by real path
	asleep   []*resting          // those of them that don't wait for a descriptor
	laid     int                 // files so far
	round    int                 // counts polls
	measured time.Time           // when the lag was
	idled    time.Time           // when idle files were last looked for
	full     bool                // the next poll looks at all files
	queue    []*resting          // in turn; some may have left it
	moving   bool                // the last turn opened a file or let one go, and others wait
	yielding bool                // some files yield
	strays   int                 // files without a name that matches, which the last sweep had no descriptor for
	crowded  backoff             // of saying that no file can be opened
	restLag  int64               // bytes, of files that are not open
	room     chan struct{}       // of one element, never closed: a tailer has closed a file
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
		pulse:    s.config.pulse("discoverer", false),
		hints:    &hints{log: s.log, now: s.config.Now},
		tracked:  make(map[inode]*file),
		names:    make(map[string]*file),
		left:     make(map[string]*file),
		orphans:  s.saved,
		held:     make(map[string]*hold),
		failures: make(map[string]*failure),
		began:    s.config.Now(),
		beds:     make(map[string]*resting),
		room:     make(chan struct{}, 1),
	}
	for range lanes {
		d.inboxes = append(d.inboxes, newInbox())
	}
	s.walker.known = func(in inode) string {
		if f := d.tracked[in]; f != nil {
			return f.path
		}
		if r := d.source.resting[in]; r != nil {
			return r.path
		}
		return ""
	}
	return d
}

// run polls until ctx ends. In once mode it discovers only at its start, and its
// error names what could not be read.
func (d *discoverer) run(ctx context.Context) error {
	defer d.pulse.Begin()()
	once := d.source.config.Once
	if !once {
		d.hints.start()
		defer d.hints.close()
		defer d.endCompare()
	}
	for ctx.Err() == nil {
		begin, started := d.source.config.Now(), time.Now()
		if once && d.scanned {
			d.again(begin)
		} else {
			d.poll(begin)
		}
		d.wait(ctx, time.Since(started))
	}
	return errors.Join(d.unread...)
}

// again is a poll in once mode: there is nothing to discover any more.
func (d *discoverer) again(now time.Time) {
	for _, f := range d.tracked {
		d.look(f, now)
	}
	d.turns(now)
	d.settleOnce()
}

// settleOnce tells the tailers when all files are given to them.
func (d *discoverer) settleOnce() {
	if len(d.queue) > 0 {
		return
	}
	for _, i := range d.inboxes {
		i.complete()
	}
}

// wait returns when the next poll is due: after poll_interval, sooner after a hint
// that names came or went. Polls for hints leave nine tenths of the time to others,
// those that are due half of it.
func (d *discoverer) wait(ctx context.Context, took time.Duration) {
	interval := time.NewTimer(max(d.source.config.PollInterval, took))
	defer interval.Stop()
	soon := time.NewTimer(max(9*took, hintPause))
	defer soon.Stop()
	turn := time.NewTicker(turnPause)
	defer turn.Stop()
	rested, due := false, false
	for !rested || !due {
		events, failures := d.hints.channels()
		var turns <-chan time.Time
		if d.moving {
			turns = turn.C
		}
		select {
		case <-ctx.Done():
			return
		case <-interval.C:
			return
		case <-soon.C:
			rested = true
		case <-turns:
			d.turns(d.source.config.Now())
		case <-d.room:
			d.freed()
			d.turns(d.source.config.Now())
		case <-d.pulse.Asked():
		case event := <-events:
			due = d.hintAll(event, events) || due
			d.hints.pause(ctx)
		case err := <-failures:
			if d.hints.failed(err) {
				d.full, due = true, true
			}
		case <-d.source.cuts.wake:
			d.recut(d.source.config.Now())
		}
	}
}

// freed lets files be opened that found no descriptor: there is one.
func (d *discoverer) freed() {
	if failed := d.failures[noDescriptors]; failed != nil {
		failed.next = time.Time{}
	}
}

// poll scans once and takes the consequences.
func (d *discoverer) poll(now time.Time) {
	d.now = now
	d.collect()
	s := d.source.walker.scan(now)
	d.hints.watch(s.dirs, now) // before the looks, so that what changes after them is told
	if !s.same || !d.isSettled(s) {
		d.match(s, now)
	}
	d.lookAround(now)
	for path, err := range s.failed {
		d.fail(path, err, now)
	}
	d.explain(s, now)
	d.sweep(s, now)
	d.removeDelivered(now)
	d.reposeIdle(now)
	d.admit(now)
	clear(d.left)
	d.forgetHeld()
	d.measure(now)
	if !d.scanned {
		d.scanned = true
		d.source.markReady()
		if d.source.config.Once {
			d.settleOnce()
		}
	}
}

// isSettled reports that each file which the scan found is known as such, and no other.
func (d *discoverer) isSettled(s *scan) bool {
	known := len(d.source.resting)
	for _, f := range d.tracked {
		if !f.nameless {
			known++
		}
	}
	return known == len(s.found)
}

// explain says which links are not followed, once each and again after long.
func (d *discoverer) explain(s *scan, now time.Time) {
	for path, target := range s.leads {
		key := "link " + path + " to " + target
		failed := d.failures[key]
		if failed == nil {
			failed = &failure{}
			d.failures[key] = failed
		}
		var report bool
		if failed.next, report = failed.failed(now); report {
			d.source.decided(identity{}, "", Decision{Time: now, Path: path, What: LeftOut, Reason: "it leads to " + target})
		}
	}
}

// match compares what is known with what a scan found.
func (d *discoverer) match(s *scan, now time.Time) {
	var fresh []*resting
	named := 0
	for in, c := range s.found {
		if f := d.follows(in); f != nil {
			d.named(f, c, now)
			named++
			continue
		}
		r := d.source.resting[in]
		switch {
		case r == nil && d.ignores(c, now) && !d.fromEnd():
			d.ignore(c, now)
		case d.staysIgnored(r, c):
		case r == nil || r.path != c.path || r.real != c.real:
			fresh = append(fresh, d.waiter(r, c))
		}
	}
	if named < len(d.tracked) {
		for in, f := range d.tracked {
			if s.found[in] == nil && d.follows(in) != nil {
				d.unfound(f, s)
			}
		}
	}
	for in, r := range d.source.resting {
		if s.found[in] == nil && s.complete(r.path) && s.complete(r.real) {
			d.missing(r, now)
		}
	}
	d.enqueue(fresh)
}

// fromEnd reports that files begin at their end.
func (d *discoverer) fromEnd() bool {
	return !d.scanned && d.source.first && d.source.config.StartAt == End
}

// isSpared reports that what looks at all open files can wait: there are many of them,
// and it was done within a second.
func (d *discoverer) isSpared(last, now time.Time) bool {
	return len(d.tracked) > allLooks && now.Sub(last) < time.Second && !now.Before(last)
}

// measure refreshes the lag, and forgets failures that did not come back.
func (d *discoverer) measure(now time.Time) {
	if d.isSpared(d.measured, now) {
		return
	}
	d.measured = now
	lag := d.restLag
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
	if past, reason := f.past(); past != nil {
		d.replaced(f, past, reason, now)
	} else if ready {
		d.inboxes[f.lane].notice(f)
	}
}

// named handles a tracked file that a scan found.
func (d *discoverer) named(f *file, c *candidate, now time.Time) {
	f.nameless = false
	switch {
	case f.path != c.path || f.real != c.real:
		d.unname(f)
		d.left[f.path] = f
		f.rename(c)
		d.names[f.path], d.names[f.real] = f, f
		d.source.decided(f.identity, "", Decision{Time: now, Path: f.path, What: Renamed, Reason: "it was found under this name", Size: c.look.size})
	case f.root != c.root || f.relative != c.relative: // it was read on under another name meanwhile
		f.move(c)
	}
	if f.rotated {
		f.found()
	}
}

// unfound handles a tracked file that a scan did not find.
func (d *discoverer) unfound(f *file, s *scan) {
	if !s.complete(f.path) || !s.complete(f.real) {
		return
	}
	f.nameless = true
	f.lose()
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
	d.let(f, leavesGone)
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
	if f.leaving != leavesGone {
		d.source.untrack(f)
		d.rest(f)
		return
	}
	last := f.last
	if f.seen.links == 0 {
		d.depart(last)
		last = nil
	} else {
		d.orphans[f.identity.inode] = append(d.orphans[f.identity.inode], last)
	}
	defer d.source.untrackAs(f, last) // at last, so that whoever misses it finds why
	d.source.decided(f.identity, "", Decision{
		Time: d.now, Path: f.path, What: Released, Reason: "it has no name that matches, all of it is delivered, and nobody writes to it",
		Position: f.last.position, Size: f.last.size,
	})
}

// unname removes the file's names, unless others have them by now.
func (d *discoverer) unname(f *file) {
	for _, name := range []string{f.path, f.real} {
		if d.names[name] == f {
			delete(d.names, name)
		}
	}
}

// noDescriptors takes the place of a path in failures that are no path's own.
const noDescriptors = ""

// isTooEarly says whether it is too early for another attempt at a path.
func (d *discoverer) isTooEarly(path string, now time.Time) bool {
	failed := d.failures[path]
	return failed != nil && now.Before(failed.next)
}

// fail spaces the attempts at a path that can't be opened, and says so once. A lack
// of descriptors is one failure, whatever number of files meet it.
func (d *discoverer) fail(path string, err error, now time.Time) {
	key := path
	if isShort(err) {
		key = noDescriptors
	}
	d.failAs(key, now, Unusable, path, err)
}

// failAs spaces what fails under a key of its own.
func (d *discoverer) failAs(key string, now time.Time, what What, path string, err error) {
	if d.isTooEarly(key, now) {
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
	case d.source.config.Once && (key != noDescriptors || len(d.tracked) == 0):
		if report {
			d.unread = append(d.unread, fmt.Errorf("file source: %w", err))
		}
	case report:
		d.source.decided(identity{}, "", Decision{Time: now, Path: path, What: what, Reason: err.Error()})
	}
}
