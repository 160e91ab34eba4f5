package file

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// turnTime is how long a file is read before it makes way for files that wait.
	turnTime = time.Second
	// turnPause is the least time between two attempts to make room for them.
	turnPause = 10 * time.Millisecond
	// queueSlack is how many entries of the queue may have left it beyond those that wait.
	queueSlack = 100
	// spareShare is the share of max_open_files that makes way beyond what is asked for, so
	// that not each of many files that grow slowly looks for one to take the place of.
	spareShare = 16
)

// enqueue lets files wait for a descriptor: those of one scan in the order of their
// names, behind those of earlier ones. Those that were followed before come first,
// for others may be their copies or successors.
func (d *discoverer) enqueue(all []*resting) {
	slices.SortFunc(all, func(a, b *resting) int {
		return cmp.Or(d.knows(b)-d.knows(a), strings.Compare(a.path, b.path))
	})
	d.queue = append(d.queue, all...)
	if len(d.queue) > 2*len(d.source.resting)+queueSlack {
		d.queue = slices.DeleteFunc(d.queue, func(r *resting) bool { return !d.isWaiting(r) })
	}
}

// knows is 1 for a file of whose inode a position is saved.
func (d *discoverer) knows(r *resting) int { return min(1, len(d.orphans[r.look.inode])) }

// waiter makes what is known of a file that wants to be opened, r if it rests already.
func (d *discoverer) waiter(r *resting, c *candidate) *resting {
	w := &resting{candidate: *c, reason: FileWaits, fromEnd: r == nil && d.fromEnd()}
	if r != nil {
		w.look = r.look
		w.saved, w.changed, w.spent, w.given = r.saved, r.changed, r.spent, r.given
		w.rotated = r.rotated || r.path != c.path
		w.born = r.born
		d.lift(r)
	} else if d.source.config.MaxOpenFiles > 0 {
		w.born = bornAt(unix.AT_FDCWD, c.real)
	}
	d.lay(w)
	return w
}

// isWaiting reports that an entry of the queue is still to be opened.
func (d *discoverer) isWaiting(r *resting) bool {
	return r.reason == FileWaits && d.source.resting[r.look.inode] == r
}

// isCrowded reports that no descriptor is left for another file.
func (d *discoverer) isCrowded(now time.Time) bool {
	most := d.source.config.MaxOpenFiles
	return most > 0 && len(d.tracked) >= most || d.isTooEarly(noDescriptors, now)
}

// admit opens the files that wait, in order, as far as descriptors go, and asks
// others to make room for the rest.
func (d *discoverer) admit(now time.Time) {
	queue := d.queue
	d.queue, d.moving = nil, false
	for i, r := range queue {
		if !d.isWaiting(r) {
			continue
		}
		if d.isCrowded(now) || d.strays > 0 && len(d.tracked) == d.source.config.MaxOpenFiles-1 { // the last one is theirs
			d.queue = append(d.queue, queue[i:]...)
			break
		}
		if d.isTooEarly(r.path, now) || !d.adopt(r, now) {
			d.queue = append(d.queue, r)
			continue
		}
		d.moving = true
	}
	d.makeRoom(now)
}

// makeRoom closes files for those that wait: first those in which all is delivered,
// the longest idle ones before others. Where they are not enough, the files
// that were read longest are read no further, until what was read is delivered.
func (d *discoverer) makeRoom(now time.Time) {
	want := len(d.queue) + d.strays
	if want == 0 || !d.isCrowded(now) {
		d.crowd(0, 0, now)
		return
	}
	var done, busy []*file
	held := 0
	for _, f := range d.tracked {
		switch way, _ := f.repose(); {
		case f.nameless:
			held++
			if f.yield(false) { // it can't be opened again: only reading on gives its descriptor back
				d.inboxes[f.lane].notice(f)
			}
		case d.source.config.DeleteAfterDelivery && !f.spent.IsZero() && now.Sub(f.spent) >= graceTime: // about to be deleted
		case way != stays:
			done = append(done, f)
		default:
			busy = append(busy, f)
		}
	}
	slices.SortFunc(done, func(a, b *file) int { return a.changed.Compare(b.changed) })
	for _, f := range done[:min(want+d.source.config.MaxOpenFiles/spareShare, len(done))] {
		if way, _ := f.repose(); !f.isReleased() {
			d.let(f, way)
			d.moving = true
		}
	}
	d.crowd(held, want, now)
	if d.source.config.Once {
		return // each file has an end
	}
	slices.SortFunc(busy, func(a, b *file) int { return a.opened.Compare(b.opened) })
	for _, f := range busy[:min(max(0, want-len(done)), len(busy))] {
		if now.Sub(f.opened) >= turnTime {
			f.yield(true)
			d.yielding = true
		}
	}
}

// crowd takes the consequences of a look at what holds the descriptors: files without
// a name can't give theirs back.
func (d *discoverer) crowd(held, waiting int, now time.Time) {
	if waiting == 0 && d.yielding {
		d.yielding = false
		for _, f := range d.tracked {
			if f.yield(false) {
				d.inboxes[f.lane].notice(f)
			}
		}
	}
	if waiting == 0 || held < len(d.tracked) || held == 0 {
		d.source.setProblem("")
		return
	}
	problem := fmt.Sprintf("%d deleted or rotated files that are not delivered hold all descriptors (max_open_files): %d files wait unread", held, waiting)
	d.source.setProblem(problem)
	if _, report := d.crowded.failed(now); report {
		d.source.log.Error("no file can be opened: " + problem)
	}
}

// turns forgets what the tailers have closed, and opens what waits.
func (d *discoverer) turns(now time.Time) {
	d.collect()
	if len(d.queue) > 0 {
		d.admit(now)
	}
}

// turnSoon opens what waits now if a descriptor is free, else with the others that wait
// by then: making room looks at all open files.
func (d *discoverer) turnSoon(now time.Time) {
	d.collect()
	if d.isCrowded(now) {
		d.moving = true
		return
	}
	d.admit(now)
}

// collect forgets what the tailers have closed.
func (d *discoverer) collect() {
	for _, i := range d.inboxes {
		for _, f := range i.left() {
			d.follows(f.identity.inode)
		}
	}
}
