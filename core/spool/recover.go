package spool

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
)

// recover reads what the directory holds and where reading goes on.
func (s *Spool) recover() error {
	if err := s.readSegments(); err != nil {
		return err
	}
	if len(s.segments) == 0 {
		rand.Read(s.id[:]) // never fails, see its documentation
	} else {
		s.id = s.segments[len(s.segments)-1].id
		s.end = s.segments[len(s.segments)-1].end
	}
	place, err := s.findStart()
	if err != nil {
		return err
	}
	s.goOnAt(place)
	s.start, s.given, s.durable = place, place, s.end
	for _, g := range s.segments {
		if g.end > place && g.maxEntry > s.config.MaxEntry {
			return fmt.Errorf("%s may hold records of up to %d bytes, and the source takes %d now: set it back until the spool is delivered",
				s.dir.Name(), g.maxEntry, s.config.MaxEntry)
		}
	}
	s.committed = place
	s.free()
	return nil
}

// readSegments lists the segments that are whole enough to be read, with their ends.
func (s *Spool) readSegments() error {
	firsts, err := listSegments(s.dir.Name())
	if err != nil {
		return err
	}
	for i := len(firsts) - 1; i >= 0; i-- { // the newest says which spool this is, and where the log ends
		g, use, err := s.readSegment(firsts[i])
		if err != nil {
			return err
		}
		if use {
			s.segments = append([]segment{g}, s.segments...)
		}
	}
	return nil
}

// readSegment reads one segment. Those behind it are in s.segments already.
func (s *Spool) readSegment(first int64) (g segment, use bool, err error) {
	name := segmentName(first)
	file, err := openAt(s.dir, name, os.O_RDONLY)
	if err != nil {
		return segment{}, false, err
	}
	defer file.Close() // read only: nothing to lose
	h, err := readHeader(file)
	var newer *newerError
	var unread *readError
	switch {
	case errors.As(err, &newer):
		return segment{}, false, fmt.Errorf("%s %w", file.Name(), err)
	case errors.As(err, &unread):
		return segment{}, false, fmt.Errorf("%s: %w", file.Name(), err)
	case err == nil && h.first != first:
		err = errors.New("its name is not its own")
	case err == nil && len(s.segments) > 0 && h.id != s.segments[0].id:
		err = errors.New("it is another spool's")
	}
	if err != nil {
		return segment{}, false, s.discard(file, name, err)
	}
	g = segment{header: h}
	if len(s.segments) > 0 {
		g.end = s.segments[0].first
		return g, true, nil
	}
	use, err = s.readLast(file, &g)
	return g, use, err
}

// readLast finds the end of the newest segment. Behind the last whole frame is
// what a crash left of a write that was never acknowledged.
func (s *Spool) readLast(file *os.File, g *segment) (use bool, err error) {
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	scan := scanner{input: file, header: g.header}
	limit := g.first + max(0, info.Size()-segmentHeader)
	if g.end, err = scan.wholeEnd(limit); err != nil {
		return false, err
	}
	if g.end == g.first && limit > g.first {
		return false, s.discard(file, g.name(), errors.New("it holds no whole record"))
	}
	// What a killed process left in the page cache is believed from here on. What
	// was accepted is synced already: a failure means duplicates after another loss of power.
	if err := fdatasync(file); err != nil {
		s.log.Warn("spool: the newest segment can't be synced", "segment", file.Name(), "error", err)
	}
	if torn := limit - g.end; torn > 0 {
		s.log.Warn("spool: the end of a write that a crash interrupted is left out: it was not accepted yet",
			"segment", file.Name(), "byte", g.at(g.end), "bytes", torn)
	}
	return true, nil
}

// discard takes the name of a file away that holds nothing to read. One that
// never held a record is removed: its name may be needed for the next segment.
func (s *Spool) discard(file *os.File, name string, cause error) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	empty, err := blank(file, segmentHeader, info.Size())
	if err != nil {
		return fmt.Errorf("read %s: %w", file.Name(), err)
	}
	if empty {
		s.log.Info("spool: a segment that a crash left empty is removed", "segment", file.Name())
		return errors.Join(remove(s.dir, name), s.dir.Sync())
	}
	s.metrics.damaged.Add(float64(info.Size()))
	target, err := setAside(s.dir, name, true)
	if err != nil {
		return err
	}
	s.log.Error("spool: a segment can't be used and was set aside", "segment", file.Name(), "moved_to", target, "bytes", info.Size(), "error", cause)
	return nil
}

// damage tells of a part of a segment that can't be read, counts it, and keeps
// the segment under a second name.
func (s *Spool) damage(g *segment, d stretch, cause error) {
	s.metrics.damaged.Add(float64(d.to - d.from))
	target, err := setAside(s.dir, g.name(), false)
	if err != nil {
		s.log.Error("spool: a damaged segment could not be kept for later", "segment", g.name(), "error", err)
	}
	s.log.Error("spool: records are lost: a part of a segment can't be read, the rest of it is delivered",
		"dir", s.dir.Name(), "segment", g.name(), "from_byte", g.at(d.from), "to_byte", g.at(d.to), "kept_as", target, "error", cause)
}

// goOnAt moves the log's end to a position behind it, where a loss of power or
// damage has taken what was delivered: a place that is used twice would be passed by
// the position of the first time.
func (s *Spool) goOnAt(place int64) {
	if place > s.end {
		s.end = place
		s.segments[len(s.segments)-1].end = place
	}
}

// findStart returns where reading begins: at the durable position, or, where
// that is not this log's, at what is there.
func (s *Spool) findStart() (int64, error) {
	first := s.end
	if len(s.segments) > 0 {
		first = s.segments[0].first
	}
	for _, c := range s.config.Saved {
		if c.Key != s.config.Key {
			continue
		}
		p, err := decodePosition(c.Value)
		var newer *newerError
		switch {
		case errors.As(err, &newer):
			return 0, fmt.Errorf("the position of %s %w", s.dir.Name(), err)
		case err != nil:
			s.log.Error("spool: the position is not usable: all that is there is delivered", "dir", s.dir.Name(), "error", err)
		case len(s.segments) == 0:
			if p.place > 0 {
				s.log.Warn("spool: it was emptied since it was used last: what was not delivered is lost", "dir", s.dir.Name(), "position", p.place)
			}
		case p.id != s.id:
			s.log.Warn("spool: the position is not of what is there: all of it is delivered", "dir", s.dir.Name(), "position", p.place, "end", s.end)
		case p.place > s.end:
			s.log.Warn("spool: the end of the log is missing: it was delivered, and the log goes on behind it", "dir", s.dir.Name(), "position", p.place, "end", s.end)
			return p.place, nil
		case p.place < first:
			s.log.Error("spool: segments behind the position are missing", "dir", s.dir.Name(), "position", p.place, "first", first, "bytes", first-p.place)
			s.metrics.damaged.Add(float64(first - p.place))
		default:
			return p.place, nil
		}
	}
	return first, nil
}
