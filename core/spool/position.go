package spool

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/barnabas-agent/barnabas/core/record"
)

const (
	positionVersion = 1
	positionSize    = 1 + 8 + 8
)

// position is the durable one: everything before the place is resolved.
type position struct {
	id    spoolID
	place int64
}

func (p position) encode() []byte {
	b := append(make([]byte, 0, positionSize), positionVersion)
	b = append(b, p.id[:]...)
	return binary.LittleEndian.AppendUint64(b, uint64(p.place))
}

// decodePosition takes any bytes.
func decodePosition(b []byte) (position, error) {
	switch {
	case len(b) > 0 && b[0] > positionVersion:
		return position{}, &newerError{uint32(b[0])}
	case len(b) != positionSize || b[0] != positionVersion || binary.LittleEndian.Uint64(b[9:]) > math.MaxInt64/2:
		return position{}, fmt.Errorf("%d bytes are no position", len(b))
	}
	return position{id: spoolID(b[1:9]), place: int64(binary.LittleEndian.Uint64(b[9:]))}, nil
}

// Checkpoint appends the spool's position where it has changed since the last
// call. It is safe to call while Run runs, and afterwards.
func (s *Spool) Checkpoint(dst []record.Checkpoint) []record.Checkpoint {
	s.checkpoints.Lock()
	defer s.checkpoints.Unlock()
	frontier := s.frontier()
	s.metrics.show(s)
	if frontier == s.given {
		return dst
	}
	s.given = frontier
	return append(dst, record.Checkpoint{Key: s.config.Key, Value: position{s.id, frontier}.encode()})
}

// Committed says that every position that Checkpoint gave out is durable. The
// writer frees the segments before it.
func (s *Spool) Committed() {
	s.checkpoints.Lock()
	defer s.checkpoints.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.committed != s.given {
		s.committed = s.given
		s.wakeWriter()
	}
}

// frontier is the place before which everything is resolved, over all lanes.
func (s *Spool) frontier() int64 {
	s.mu.Lock()
	readers := s.readers
	s.mu.Unlock()
	if len(readers) == 0 {
		return s.start
	}
	least := readers[0].progress.frontier()
	for _, r := range readers[1:] {
		least = min(least, r.progress.frontier())
	}
	return least
}
