package quarantine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/barnabas-agent/barnabas/core/crashpoint"
)

const (
	// maxSegment is the size from which on a new segment is begun. A dropped
	// record's space is given back with its segment.
	maxSegment = 16 << 20
	// writeBuffer bounds what is encoded before it is written, one record apart.
	writeBuffer = 256 << 10
)

// Store is the writing side of one pipeline's quarantine. Its methods are safe
// for concurrent use. Only one process may have a directory open as a Store;
// the lock on the data directory sees to that.
type Store struct {
	dir string
	log *slog.Logger

	mu     sync.Mutex // guards what follows, and is held through an fsync
	next   uint64     // id of the next record; one that was tried is never given again
	active *os.File   // owned; nil until the first record, and after a failed write
	size   int64      // of active
	synced bool       // an Append into active has succeeded
	marker marker     // of active
	buffer []byte
}

// Open prepares the quarantine in dir, see [Dir], for appending. It reads the
// newest segment, logs what is damaged there, and changes nothing on disk.
func Open(dir string, log *slog.Logger) (*Store, error) {
	segments, err := listSegments(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, log: log, next: 1}
	if len(segments) == 0 {
		return s, nil
	}
	next, damages, err := segments[len(segments)-1].nextID(dir)
	if err != nil {
		return nil, err
	}
	for _, damage := range damages {
		log.Warn("quarantine is not whole", "dir", dir, "error", damage)
	}
	if next >= math.MaxInt64 {
		return nil, fmt.Errorf("quarantine %s: record ids are used up: segment %s can't be this agent's, move it away",
			dir, segments[len(segments)-1].name)
	}
	s.next = next
	return s, nil
}

// Reader reads what the store holds.
func (s *Store) Reader() Reader { return NewReader(s.dir) }

// Append makes the entries durable, in their order, and sets their ids. It
// returns nil only after an fsync that covers all of them. After an error none
// counts as kept and all must be appended again; some may then be there twice.
// ctx is looked at before anything is written: a write is not interrupted.
func (s *Store) Append(ctx context.Context, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	for i := range entries {
		if err := entries[i].check(); err != nil {
			return fmt.Errorf("quarantine %s: %w", s.dir, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.appendLocked(entries); err != nil {
		return errors.Join(fmt.Errorf("write to the quarantine: %w", err), s.abandonLocked())
	}
	return nil
}

func (s *Store) appendLocked(entries []Entry) error {
	if s.active != nil && s.size >= maxSegment {
		if err := s.closeLocked(); err != nil {
			return err
		}
	}
	if s.active == nil {
		if err := s.createLocked(); err != nil {
			return err
		}
	}
	s.buffer = s.buffer[:0]
	for i := range entries {
		entries[i].ID = s.next
		s.next++
		var err error
		if s.buffer, err = appendFrame(s.buffer, s.marker, &entries[i]); err != nil {
			return err
		}
		if len(s.buffer) >= writeBuffer {
			if err := s.flushLocked(); err != nil {
				return err
			}
		}
	}
	if err := s.flushLocked(); err != nil {
		return err
	}
	crashpoint.At("quarantine.append.written")
	if err := s.active.Sync(); err != nil {
		return err
	}
	crashpoint.At("quarantine.append.synced")
	s.synced = true
	return nil
}

// abandonLocked gives the active segment up after a failed write or fsync: what
// that left behind proves nothing, and a second fsync of the same file may
// succeed without writing. A segment in which no Append ever succeeded is
// removed, so that a full disk does not collect one per attempt.
func (s *Store) abandonLocked() error {
	if s.active == nil {
		return nil
	}
	name, keep := s.active.Name(), s.synced
	err := s.closeLocked()
	if keep {
		return err
	}
	return errors.Join(err, os.Remove(name))
}

// flushLocked writes the buffer, and lets go of it where one record made it large.
func (s *Store) flushLocked() error {
	n, err := s.active.Write(s.buffer)
	s.size += int64(n)
	s.buffer = s.buffer[:0]
	if cap(s.buffer) > 2*writeBuffer {
		s.buffer = nil
	}
	return err
}

// createLocked begins a new segment and makes its name durable.
func (s *Store) createLocked() error {
	if err := makeDir(s.dir); err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(s.dir, segmentName(s.next)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	crashpoint.At("quarantine.segment.created")
	s.active, s.size, s.synced = file, 0, false
	rand.Read(s.marker[:]) // never fails, see its documentation
	s.buffer = appendSegmentHeader(s.buffer[:0], s.marker)
	if err := s.flushLocked(); err != nil {
		return err
	}
	err = syncDir(s.dir)
	crashpoint.At("quarantine.segment.synced")
	return err
}

// Drop marks records as dropped, durably, and removes segments that hold
// nothing else. Ids that the quarantine does not hold are counted out: it
// returns how many were dropped.
func (s *Store) Drop(ctx context.Context, ids ...uint64) (int, error) {
	wanted := slices.Compact(slices.Sorted(slices.Values(ids)))
	s.mu.Lock()
	defer s.mu.Unlock()
	segments, err := listSegments(s.dir)
	if err != nil {
		return 0, err
	}
	total := 0
	for i, segment := range segments {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		last := uint64(math.MaxUint64)
		if i+1 < len(segments) {
			last = segments[i+1].first - 1
		}
		low, _ := slices.BinarySearch(wanted, segment.first)
		if low == len(wanted) || wanted[low] > last {
			continue
		}
		newest := i == len(segments)-1 // kept: its name says which ids are used
		n, err := s.dropInLocked(segment, wanted[low:], newest)
		total += n
		if err != nil {
			return total, fmt.Errorf("drop from the quarantine: %w", err)
		}
	}
	return total, nil
}

// dropInLocked drops those of the ascending ids that are in the segment.
func (s *Store) dropInLocked(g segment, ids []uint64, newest bool) (int, error) {
	path := filepath.Join(s.dir, g.name)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	dropped, kept, err := markDropped(file, g, ids)
	if err != nil {
		return 0, errors.Join(err, file.Close())
	}
	if dropped > 0 {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return 0, err
	}
	if kept || newest {
		return dropped, nil
	}
	if err := os.Remove(path); err != nil {
		return dropped, err
	}
	return dropped, syncDir(s.dir)
}

// markDropped sets the status of the frames with these ids. kept says that
// something else is left in the segment, a damaged stretch included.
func markDropped(file *os.File, g segment, ids []uint64) (dropped int, kept bool, err error) {
	scanner := &segmentScanner{name: g.name, input: file, size: g.size}
	if err := scanner.open(g.first); err != nil {
		return 0, true, ignoreDamage(err)
	}
	scanner.each(func(f frame, frameErr error) bool {
		if frameErr != nil {
			kept, err = true, ignoreDamage(frameErr)
			return err == nil
		}
		if f.dropped {
			return true
		}
		if _, ok := slices.BinarySearch(ids, f.id); !ok {
			kept = true
			return true
		}
		dropped++
		_, err = file.WriteAt([]byte{statusDropped}, f.offset+statusOffset)
		return err == nil
	})
	return dropped, kept, err
}

func ignoreDamage(err error) error {
	var damage *Damage
	if errors.As(err, &damage) {
		return nil
	}
	return err
}

// Close ends the store. Everything that was appended is durable already.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeLocked()
}

func (s *Store) closeLocked() error {
	if s.active == nil {
		return nil
	}
	err := s.active.Close()
	s.active = nil
	return err
}

// makeDir makes dir for the owner alone, and the names of new folders durable.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
