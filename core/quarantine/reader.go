package quarantine

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// ErrNotFound is returned for an id that the quarantine does not hold (any more).
var ErrNotFound = errors.New("no such record in the quarantine")

// Reader reads a pipeline's quarantine and changes nothing in it. It keeps no
// state, so it works beside a running agent as well as without one, and is
// safe for concurrent use. The zero value is not usable; see NewReader.
type Reader struct {
	dir string
}

// NewReader reads the quarantine in dir, see [Dir]. A directory that does not
// exist is an empty quarantine.
func NewReader(dir string) Reader { return Reader{dir: dir} }

// All yields the records whose id is above after, in ascending order, without
// those that were dropped. A *[Damage] is yielded for each unreadable stretch,
// and reading goes on behind it; any other error ends the sequence. A record
// that is being appended at this moment shows as torn damage or not at all.
func (r Reader) All(after uint64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		segments, err := listSegments(r.dir)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		for i, s := range segments {
			if i+1 < len(segments) && segments[i+1].first-1 <= after {
				continue // all of its ids are at or below after
			}
			for f, err := range s.frames(r.dir) {
				switch {
				case err != nil:
					if !yield(Entry{}, err) {
						return
					}
				case f.dropped || f.id <= after:
				case !yield(f.entry, nil):
					return
				}
			}
		}
	}
}

// Get returns the record with this id, or ErrNotFound; where the record may lie
// in a damaged stretch, the error says so as well.
func (r Reader) Get(id uint64) (Entry, error) {
	if id == 0 {
		return Entry{}, ErrNotFound
	}
	var damages []error
	for entry, err := range r.All(id - 1) {
		switch {
		case err != nil:
			damages = append(damages, err)
		case entry.ID == id:
			return entry, nil
		case entry.ID > id:
			return Entry{}, notFound(id, damages)
		}
	}
	return Entry{}, notFound(id, damages)
}

func notFound(id uint64, damages []error) error {
	err := fmt.Errorf("record %d: %w", id, ErrNotFound)
	return errors.Join(append([]error{err}, damages...)...)
}

// segment is one file of a quarantine.
type segment struct {
	name  string
	first uint64 // the id that its name gives
	size  int64
}

// segmentName is the inverse of parseSegmentName.
func segmentName(first uint64) string { return fmt.Sprintf("%020d", first) }

func parseSegmentName(name string) (uint64, bool) {
	first, err := strconv.ParseUint(name, 10, 64)
	return first, err == nil && 0 < first && first < math.MaxInt64 && segmentName(first) == name
}

// listSegments returns the segments of dir in the order of their ids. Files
// that are no segments are not the quarantine's business.
func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the quarantine: %w", err)
	}
	var segments []segment
	for _, entry := range entries {
		first, ok := parseSegmentName(entry.Name())
		if !ok || !entry.Type().IsRegular() {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped since
		}
		if err != nil {
			return nil, fmt.Errorf("list the quarantine: %w", err)
		}
		segments = append(segments, segment{name: entry.Name(), first: first, size: info.Size()})
	}
	slices.SortFunc(segments, func(a, b segment) int {
		if a.first < b.first {
			return -1
		}
		return 1 // names are unique
	})
	return segments, nil
}

// frames yields the frames of a segment in dir, dropped ones included, and a
// *Damage between them; any other error is the last thing that it yields.
func (s segment) frames(dir string) iter.Seq2[frame, error] {
	return func(yield func(frame, error) bool) {
		file, err := os.Open(filepath.Join(dir, s.name))
		if errors.Is(err, fs.ErrNotExist) {
			return // dropped since
		}
		if err != nil {
			yield(frame{}, fmt.Errorf("open a quarantine segment: %w", err))
			return
		}
		defer file.Close() // read only: nothing to lose
		scanner := &segmentScanner{name: s.name, input: file, size: s.size}
		if err := scanner.open(s.first); err != nil && !yield(frame{}, err) {
			return
		}
		scanner.each(yield)
	}
}

// each yields what next returns until the segment's end or a failure to read.
func (s *segmentScanner) each(yield func(frame, error) bool) {
	for {
		f, err := s.next()
		var damage *Damage
		switch {
		case err == nil || errors.As(err, &damage):
			if !yield(f, err) {
				return
			}
		case errors.Is(err, io.EOF):
			return
		default:
			yield(frame{}, err)
			return
		}
	}
}

// nextID returns an id that no record of the segment can have, damaged ones included.
func (s segment) nextID(dir string) (uint64, []error, error) {
	next, clean := s.first+1, true // the name is used up even where no record came
	var found []error
	for f, err := range s.frames(dir) {
		var damage *Damage
		switch {
		case err == nil:
			next = f.id + 1
		case errors.As(err, &damage):
			clean = false
			found = append(found, damage)
		default:
			return 0, nil, err
		}
	}
	if !clean {
		// Ids ascend by one inside a segment, so its size bounds those that can't be read.
		next = max(next, s.first+uint64(s.size/minFrame)+1)
	}
	return next, found, nil
}
