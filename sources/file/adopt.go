package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// adopt begins to follow a file that waited for it, unless it turns out to be tracked
// or gone. It reports false when it is to be tried again.
func (d *discoverer) adopt(r *resting, now time.Time) bool {
	f, err := d.open(r, now)
	switch {
	case errors.Is(err, errHeld):
		return false
	case errors.Is(err, fs.ErrNotExist) && !d.source.config.Once:
		return false // it was removed or renamed since it was seen: the next scan knows
	case isShort(err) && len(d.tracked) > 0:
		d.fail(r.path, err, now)
		return false
	case err != nil:
		if !errors.Is(err, fs.ErrNotExist) {
			d.fail(r.path, err, now)
		}
		if !d.source.config.Once {
			return false
		}
	}
	d.lift(r)
	if f == nil {
		if errors.Is(err, fs.ErrNotExist) {
			d.searchUnread(r, now) // no scan follows
		}
		return true
	}
	delete(d.failures, r.path)
	f.rotated = r.rotated && f.emitted.content == f.content // another file may have its inode
	if d.source.config.Once {
		f.limit = min(r.look.size, f.size) // what it held at the start, and is still there
	}
	f.given = d.source.given.Load() + 1                                    // what it resumed from may not be durable before
	if r.given > 0 && f.emitted.content == f.content && f.seen == r.look { // nothing has happened since
		f.changed, f.spent, f.given = r.changed, r.spent, r.given
	}
	d.place(f, now)
	return true
}

// open opens a file that waited for it; nil if it is tracked already.
func (d *discoverer) open(r *resting, now time.Time) (*file, error) {
	handle, err := openBeneath(r.root, r.relative)
	if err != nil {
		return nil, err
	}
	if l, err := lookAt(int(handle.Fd())); err != nil || l.inode != r.look.inode { // nothing else would remember the one that waited
		handle.Close()
		return nil, fmt.Errorf("another file has the name %s: %w", r.path, errors.Join(err, fs.ErrNotExist))
	}
	if d.holds(handle, &r.candidate, now) || d.recognises(handle, &r.candidate, now) {
		handle.Close()
		return nil, errHeld
	}
	f, err := d.begin(handle, r.candidate, r.fromEnd, now)
	if f == nil {
		handle.Close()
	}
	return f, err
}

// begin decides where reading of an open file begins; nil if it is tracked already.
func (d *discoverer) begin(handle *os.File, c candidate, fromEnd bool, now time.Time) (*file, error) {
	fd := int(handle.Fd())
	var err error
	first := c.look
	if c.look, err = lookAt(fd); err != nil {
		return nil, err
	}
	if d.follows(c.look.inode) != nil {
		return nil, nil
	}
	id := identify(fd, c.look.inode)
	saved := d.savedOf(id)
	found, err := gather(handle, id, c.look, saved)
	if err == nil && saved == nil && fromEnd {
		found.lastLine, err = d.source.rules.lastLineEnd(handle, min(first.size, c.look.size))
	}
	if err != nil {
		return nil, err
	}
	verdict := decide(saved, found, fromEnd)
	shape, err := d.source.rules.shapeOf(fd)
	if err != nil {
		return nil, err
	}
	verdict = shape.check(fd, saved, verdict)
	f := newFile(handle, id, c, d.source.config.Host, &d.source.rules, verdict.position)
	f.key = d.source.key(id)
	if verdict.resumed {
		f.resume(saved, &found)
	} else if err := f.loadTail(); err != nil {
		return nil, err
	} else {
		f.beginAs(shape, fromEnd)
	}
	if err := f.head.extend(f.fd, c.look.size); err != nil {
		return nil, err
	}
	d.adopted(saved, f, verdict, now)
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
// the files they belong to are gone, or are tracked from now on. What is left of a
// content that is gone is read before the file.
func (d *discoverer) adopted(saved *state, f *file, verdict decision, now time.Time) {
	others := d.orphans[f.identity.inode]
	delete(d.orphans, f.identity.inode)
	for _, s := range others {
		if s.identity != f.identity {
			d.vanished(s, now)
		}
	}
	decision := Decision{
		Time: now, Path: f.path, What: Followed, Reason: verdict.reason, Position: verdict.position, Size: f.size,
	}
	switch {
	case verdict.resumed:
		decision.What = Resumed
		if saved.parked {
			decision.What = Reopened
		}
		if saved.path != f.path && d.left[saved.path] == nil {
			d.left[saved.path] = f // its successor has that name
		}
	case saved != nil:
		decision.What = ReadAnew
		if saved.identity == f.identity {
			_, decision.Lost = d.rescue(saved, now)
		}
	}
	d.source.decided(f.identity, lostTruncated, decision)
}

// place gives the file to a lane: that of the file which had its name before, and
// behind it, else the one with the fewest files.
func (d *discoverer) place(f *file, now time.Time) {
	before := d.before(f.path)
	if before == f {
		before = nil
	}
	f.lane = slices.Index(d.load, slices.Min(d.load))
	if before != nil {
		f.lane, f.after = before.lane, before
		d.look(before, now)
		d.inboxes[f.lane].notice(before)
	}
	if f.rotated {
		if d.names[f.path] == nil {
			d.names[f.path] = f // so that its successor is read after it
		}
	} else {
		d.names[f.path], d.names[f.real] = f, f
	}
	d.insert(f, now)
}

// before returns the file that had the name before.
func (d *discoverer) before(path string) *file {
	if f := d.names[path]; f != nil {
		return f
	}
	return d.left[path]
}

// insert begins to follow a file, and gives it to its lane.
func (d *discoverer) insert(f *file, now time.Time) {
	if d.source.config.Once && f.limit == unlimited {
		f.limit = f.seen.size
	}
	f.opened, f.slot = now, d.round+len(d.tracked)
	if f.changed.IsZero() {
		f.changed = now
	}
	d.load[f.lane]++
	d.tracked[f.identity.inode] = f
	d.source.track(f)
	d.inboxes[f.lane].give(f)
}
