package file

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// leaving says why a file that is followed gives its descriptor back.
type leaving uint8

const (
	stays        leaving = iota
	leavesGone           // it has no name, all is delivered, and nobody writes to it
	leavesIdle           // nothing happens in it: it rests until something does
	leavesOthers         // others wait for the descriptor: it waits for its next turn
)

// resting is a file that is known by name, identity and position, and not open. It
// belongs to the discoverer; what Status reads of it is guarded by Source.mu.
type resting struct {
	candidate           // as last found; its look is that of the last time it was open
	saved     *state    // nil: it was never read
	changed   time.Time // when it last did
	spent     time.Time // since when it could be deleted
	given     uint64    // the checkpoint with which saved became durable
	reason    string    // for people, one of the values of FileStatus.State
	rotated   bool
	born      uint64 // of one that waits unread; 0: not known
	watch     *watch // of its folder
	place     int    // among discoverer.asleep
	slot      int    // decides in which polls it is looked at
	fromEnd   bool   // once opened, it is read from its end on: that at the time of look
}

// status is that of a file at rest. One that was never read lags whole, unless it
// is ignored.
func (r *resting) status() FileStatus {
	s := FileStatus{Path: r.path, Size: r.look.size, Rotated: r.rotated, State: r.reason}
	if r.saved != nil {
		s.Delivered = r.saved.position
		s.Read = s.Delivered
	}
	if r.reason != FileIgnored {
		s.Lag = max(0, s.Size-s.Delivered)
	}
	return s
}

// yields reports that others wait for the file's descriptor. One that was truncated
// begins anew first: before that it can't be closed.
func (f *file) yields() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.yielding && !f.truncated
}

// yield keeps the tailer from reading on, so that the file can be closed once what
// was read is delivered, or lets it read again. It reports whether that is new.
func (f *file) yield(yields bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	differs := f.yielding != yields
	f.yielding = yields
	return differs
}

// repose says in what way the file could be closed now: nothing complete is left to
// read in it, or it yields, and all that was read is delivered. A line without an
// end may stay behind only where it can still get one.
func (f *file) repose() (way leaving, whole bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	whole = f.allReadLocked()
	settled, _ := f.settledLocked()
	switch {
	case f.closed || f.last != nil:
		return f.leaving, false
	case f.truncated || settled < f.positionLocked():
		return stays, false
	case whole || f.packed == nil && max(f.scanned, f.cursor) == f.size && !f.rotated && !f.held:
		return leavesIdle, whole
	case f.yielding:
		return leavesOthers, whole
	default:
		return stays, false
	}
}

// mayLeaveLocked is the tailer's last look before it closes the file: the state
// that was taken must still be the file's.
func (f *file) mayLeaveLocked() bool {
	if f.packed == nil && f.cursor != f.last.position || f.packed != nil && f.packed.position != f.last.plain {
		return false
	}
	l, err := lookAt(f.fd)
	switch {
	case err != nil:
		return true
	case f.leaving == leavesOthers:
		return l.links == f.seen.links // what is unread is seen when it is opened again, if it can be
	case f.leaving == leavesIdle:
		return l == f.seen
	default: // its new size is taken once it is known whether it is the same content
		return l.size == f.cursor && l.modified == f.seen.modified
	}
}

// rest keeps what is known of a file that the tailer has closed.
func (d *discoverer) rest(f *file) {
	c := f.candidate
	c.look = f.seen
	f.last.parked = true
	d.source.settle(f.identity, f.last) // before given is known: no checkpoint up to it has more than this
	r := &resting{candidate: c, saved: f.last, changed: f.changed, spent: f.spent, given: d.source.given.Load() + 1, reason: FileAtRest, rotated: f.rotated}
	if r.spent.IsZero() {
		r.spent = d.now
	}
	if f.leaving == leavesOthers {
		r.reason = FileWaits
	}
	d.lay(r)
	if r.reason == FileWaits {
		d.enqueue([]*resting{r})
	}
	why := "nothing happened in it for close_idle, or others needed its descriptor"
	if r.reason == FileWaits {
		why = "others need its descriptor: it waits for its next turn"
	}
	d.source.decided(f.identity, "", Decision{
		Time: d.now, Path: f.path, What: Rests, Reason: why, Position: f.last.position, Size: f.last.size,
	})
}

// lay keeps a file at rest.
func (d *discoverer) lay(r *resting) {
	in := r.look.inode
	if old := d.source.resting[in]; old != nil {
		d.lift(old)
	}
	if r.saved != nil && !slices.Contains(d.orphans[in], r.saved) {
		d.orphans[in] = append(d.orphans[in], r.saved)
	}
	d.source.mu.Lock()
	d.source.resting[in] = r
	d.source.mu.Unlock()
	d.beds[r.real] = r
	if r.reason != FileWaits {
		r.place = len(d.asleep)
		d.asleep = append(d.asleep, r)
		d.laid++
		r.slot = d.laid
	}
	d.restLag += r.status().Lag
}

// lift forgets that the file rests; its saved position stays.
func (d *discoverer) lift(r *resting) {
	if d.source.resting[r.look.inode] != r {
		return // it was before
	}
	d.source.mu.Lock()
	delete(d.source.resting, r.look.inode)
	d.source.mu.Unlock()
	if r.reason != FileWaits {
		last := d.asleep[len(d.asleep)-1]
		d.asleep[r.place], last.place = last, r.place
		d.asleep[len(d.asleep)-1] = nil
		d.asleep = d.asleep[:len(d.asleep)-1]
	}
	d.restLag -= r.status().Lag
	if d.beds[r.real] == r {
		delete(d.beds, r.real)
	}
}

// isDue reports that the file must be opened to be deleted.
func (d *discoverer) isDue(r *resting, now time.Time) bool {
	return d.source.config.DeleteAfterDelivery && r.saved != nil && !r.saved.corrupt && r.saved.position == r.look.size && r.look.size > 0 &&
		r.given <= d.source.durable.Load() && now.Sub(r.spent) >= graceTime
}

// differs looks at the file by its name. One that has none is the next scan's; one that is
// ignored also where another file has the name.
func (r *resting) differs() bool {
	var stat unix.Stat_t
	if unix.Lstat(r.real, &stat) != nil {
		return false
	}
	l := lookOf(&stat)
	if r.isUntouched() && (l.inode != r.look.inode || r.look.holdsAs(&l)) {
		return false
	}
	return l != r.look
}

// isUntouched reports that the file is ignored, and that nothing of it was ever read.
func (r *resting) isUntouched() bool { return r.reason == FileIgnored && r.saved == nil }

// holdsAs reports that the file holds the same as at another look, as far as its size and its
// time say.
func (l *look) holdsAs(other *look) bool {
	return l.size == other.size && l.modified == other.modified
}

// staysIgnored reports that a file which is ignored was found under another name, and is
// otherwise as it was.
func (d *discoverer) staysIgnored(r *resting, c *candidate) bool {
	if r == nil || !r.isUntouched() || r.path == c.path && r.real == c.real || !r.look.holdsAs(&c.look) {
		return false
	}
	d.lift(r)
	d.lay(&resting{candidate: *c, reason: FileIgnored})
	return true
}

// isReleased reports that the tailer is about to close the file.
func (f *file) isReleased() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last != nil || f.closed
}

// ignores reports that nobody has touched the file for longer than ignore_older, and
// nothing of it that was begun is left to read.
func (d *discoverer) ignores(c *candidate, now time.Time) bool {
	most := d.source.config.IgnoreOlder
	if most == 0 || !isOlder(c.look.modified, now, d.began, most) {
		return false
	}
	for _, saved := range d.orphans[c.look.inode] {
		if d.source.config.DeleteAfterDelivery || saved.position != c.look.size {
			return false
		}
	}
	return true
}

// isOlder reports that a time is longer ago than most, by the wall clock.
func isOlder(modified int64, now, began time.Time, most time.Duration) bool {
	return isOlderAt(modified, now, began, now.Sub(began), most)
}

// isOlderAt compares with the earlier of two clocks: the wall's, and what it was at
// began with the time that has passed since. A step never makes a file old.
func isOlderAt(modified int64, now, began time.Time, passed, most time.Duration) bool {
	earlier := min(now.UnixNano(), began.UnixNano()+int64(passed))
	return modified < earlier-int64(most)
}

// missing handles a file at rest that a scan should have found. One that has a position
// is looked for at once, as all orphans are at times.
func (d *discoverer) missing(r *resting, now time.Time) {
	d.lift(r)
	if r.saved != nil {
		d.swept = time.Time{}
		return
	}
	if r.reason == FileWaits && d.failures[r.path] == nil { // else it was said that it can't be read
		d.searchUnread(r, now)
	}
}

// ignore remembers a file that is not read until it is touched.
func (d *discoverer) ignore(c *candidate, now time.Time) {
	r := &resting{candidate: *c, reason: FileIgnored}
	if saved := d.orphans[c.look.inode]; len(saved) > 0 {
		r.saved = saved[0]
	}
	d.lay(r)
	d.source.decided(identity{}, "", Decision{
		Time: now, Path: c.path, What: Ignored, Reason: "it was modified at " + time.Unix(0, c.look.modified).UTC().Format(time.RFC3339), Size: c.look.size,
	})
}

// reposeIdle closes what has been idle for long.
func (d *discoverer) reposeIdle(now time.Time) {
	idle := d.source.config.CloseIdle
	if idle == 0 || d.source.config.Once || d.isSpared(d.idled, now) {
		return
	}
	d.idled = now
	for _, f := range d.tracked {
		if f.nameless || now.Sub(f.changed) < idle {
			continue
		}
		if way, whole := f.repose(); way == leavesIdle && whole {
			d.let(f, way)
		}
	}
}

// let lets the tailer close the file.
func (d *discoverer) let(f *file, why leaving) {
	if err := f.release(why); err != nil {
		f.yield(false) // the next read sees what changed
	}
	d.inboxes[f.lane].notice(f)
}
