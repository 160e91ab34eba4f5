package file

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"
)

// adopt begins to follow a file that waited for it, unless it turns out to be tracked
// or gone. It reports false when it is to be tried again.
func (d *discoverer) adopt(r *resting, now time.Time) bool {
	f, err := d.open(r)
	switch {
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
		return true
	}
	delete(d.failures, r.path)
	f.rotated = r.rotated && f.emitted.content == f.content // another file may have its inode
	if d.source.config.Once {
		f.limit = r.look.size // what it held at the start
	}
	d.place(f, now)
	return true
}

// open opens a file that waited for it; nil if it is tracked already.
func (d *discoverer) open(r *resting) (*file, error) {
	handle, err := openBeneath(r.root, r.relative)
	if err != nil {
		return nil, err
	}
	f, err := d.begin(handle, r.candidate, r.fromEnd)
	if f == nil {
		handle.Close()
	}
	return f, err
}

// begin decides where reading of an open file begins; nil if it is tracked already.
func (d *discoverer) begin(handle *os.File, c candidate, fromEnd bool) (*file, error) {
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
	found, err := gather(handle, id, c.look.size, saved)
	if err == nil && saved == nil && fromEnd {
		found.lastLine, err = lastLineEnd(handle, min(first.size, c.look.size))
	}
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
	if d.source.config.Once && f.limit == unlimited {
		f.limit = f.seen.size
	}
	f.changed, f.opened = now, now
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
