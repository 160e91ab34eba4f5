package spool

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// retryAfter is the pause after a write that failed: the disk may be full, and
// be given room by others.
const retryAfter = time.Second

// group is what one write and one sync make durable.
type group struct {
	frames []byte
	end    int64 // place behind them
}

// write makes durable what is pending until ended is closed and nothing is left.
// What fails is tried again as long as it takes; once ended, only once.
func (s *Spool) write(ended <-chan struct{}) error {
	var spare []byte // the other half of a double buffer
	for {
		g := s.nextGroup(spare)
		if len(g.frames) == 0 {
			spare = g.frames
			select {
			case <-s.wake:
				continue
			case <-ended:
			}
			if s.stop() {
				return nil
			}
			continue
		}
		if err := s.commit(g, ended); err != nil {
			return err
		}
		spare = g.frames[:0]
	}
}

// stop ends the taking of entries, and says whether none is left to be written.
func (s *Spool) stop() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.change()
	return len(s.pending) == 0
}

// nextGroup takes over what is pending and leaves an empty buffer in its place.
func (s *Spool) nextGroup(spare []byte) group {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := group{frames: s.pending, end: s.end}
	if cap(spare) > 2*maxPending {
		spare = nil // one long record made it large
	}
	s.pending = spare
	if len(g.frames) > 0 {
		s.change() // there is room for those who wait for the writer
	}
	return g
}

// commit makes a group durable. After ended, what fails is given up.
func (s *Spool) commit(g group, ended <-chan struct{}) error {
	for {
		start := time.Now()
		err := s.writeGroup(g)
		if err == nil {
			s.metrics.sync.Observe(time.Since(start).Seconds())
			s.accept(g)
			return nil
		}
		s.fail(err)
		select {
		case <-ended:
			return fmt.Errorf("spool: %d bytes of records that were not accepted yet are given up: %w", len(g.frames), err)
		default:
		}
		retry := time.NewTimer(retryAfter)
		select {
		case <-retry.C:
		case <-ended:
			retry.Stop()
		}
	}
}

// accept lets callers and readers know that the group is durable.
func (s *Spool) accept(g group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing != "" {
		s.log.Info("the spool can be written again")
		s.failing = ""
	}
	s.durable = g.end
	s.segments[len(s.segments)-1].end = g.end
	s.change()
}

// fail tells why nothing is accepted, the first time the log as well.
func (s *Spool) fail(err error) {
	problem := fmt.Sprintf("the spool can't be written: %v", err)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		problem += ": senders wait until there is room"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing == "" {
		s.log.Error("nothing is accepted: the spool can't be written", "dir", s.config.Dir, "error", err)
	}
	s.failing = problem
	s.change()
}

// writeGroup writes behind what is durable, and syncs.
func (s *Spool) writeGroup(g group) error {
	begin := g.end - int64(len(g.frames))
	if err := s.roll(begin, int64(len(g.frames))); err != nil {
		return err
	}
	s.mu.Lock()
	at := s.segments[len(s.segments)-1].at(begin)
	s.mu.Unlock()
	// An earlier attempt may have left a part of it: it is written over.
	if _, err := s.active.WriteAt(g.frames, at); err != nil {
		return err
	}
	if s.config.NoSync {
		return nil
	}
	if err := fdatasync(s.active); err != nil {
		// What a failed sync leaves behind proves nothing, and a second one may
		// succeed without writing: the group goes into a new segment.
		return errors.Join(fmt.Errorf("sync: %w", err), s.abandon())
	}
	return nil
}

// roll begins a new segment where there is none or the group would make it too long.
func (s *Spool) roll(begin, size int64) error {
	if s.active != nil {
		s.mu.Lock()
		used := begin - s.segments[len(s.segments)-1].first
		s.mu.Unlock()
		if used == 0 || used+size <= s.limits.segment {
			return nil
		}
		file := s.active
		s.active = nil
		if err := file.Close(); err != nil {
			return err
		}
	}
	h := header{id: s.id, marker: s.marker, first: begin, maxEntry: s.config.MaxEntry}
	file, err := createSegment(s.dir, &h)
	if err != nil {
		return err
	}
	s.active = file
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = append(s.segments, segment{header: h, end: begin})
	return nil
}

// abandon closes the active segment for good, and removes it where nothing in
// it was ever accepted: the next one then has its name.
func (s *Spool) abandon() error {
	file := s.active
	s.active = nil
	err := file.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.segments) - 1
	if s.segments[last].end > s.segments[last].first {
		return err
	}
	s.segments = s.segments[:last]
	return errors.Join(err, unlinkAt(s.dir, segmentName(s.durable)), s.dir.Sync())
}

// free removes the segments that lie wholly before a durable position. The
// newest stays: it says where the log ends.
func (s *Spool) free(committed int64) {
	for {
		s.mu.Lock()
		if len(s.segments) < 2 || s.segments[0].end > committed {
			s.mu.Unlock()
			return
		}
		name := s.segments[0].name()
		s.mu.Unlock()
		if err := unlinkAt(s.dir, name); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.log.Error("a delivered segment of the spool can't be removed", "segment", name, "error", err)
			return
		}
		s.mu.Lock()
		s.segments = s.segments[1:]
		s.full = false
		s.change()
		s.mu.Unlock()
	}
}
