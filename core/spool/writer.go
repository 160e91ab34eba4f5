package spool

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/crashpoint"
	"github.com/barnabas-agent/barnabas/core/watchdog"
)

// Pauses after a write that failed, the first and the longest: the disk may be
// full, and be given room by others.
const (
	firstRetry = 20 * time.Millisecond
	retryAfter = time.Second
)

// maxIdle is what a spool whose records are all delivered may take on disk.
const maxIdle = 1 << 20

// group is what one write and one sync make durable.
type group struct {
	frames []byte
	end    int64 // place behind them
}

// write makes durable what is pending until ended is closed and nothing is left.
// What fails is tried again as long as it takes; once ended, only once.
func (s *Spool) write(ended <-chan struct{}) error {
	var spare []byte // the other half of a double buffer
	pulse := s.config.pulse("writer of the spool", false)
	defer pulse.Begin()()
	for {
		pulse.Answer()
		s.free()
		g := s.nextGroup(spare)
		if len(g.frames) == 0 {
			spare = g.frames
			s.shrink()
			select {
			case <-s.wake:
				continue
			case <-pulse.Asked():
				continue
			case <-ended:
			}
			if s.stop() {
				return nil
			}
			continue
		}
		if err := s.commit(g, ended, pulse); err != nil {
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
func (s *Spool) commit(g group, ended <-chan struct{}, pulse *watchdog.Pulse) error {
	for pause := firstRetry; ; pause = min(2*pause, retryAfter) {
		start := time.Now()
		err := s.writeGroup(g)
		if err == nil {
			s.metrics.sync.Observe(time.Since(start).Seconds())
			s.accept(g)
			return nil
		}
		s.fail(err)
		pulse.Answer() // a disk that is full is not the writer's standstill
		select {
		case <-ended:
			return fmt.Errorf("spool: %d bytes of records that were not accepted yet are given up: %w", len(g.frames), err)
		default:
		}
		retry := time.NewTimer(pause)
		select {
		case <-retry.C:
		case <-s.wake: // space may be free
			s.free()
		case <-ended:
		}
		retry.Stop()
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
	if isFull(err) {
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

// isFull says that a write may work in the same place once others free space.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// writeGroup writes behind what is durable, and syncs.
func (s *Spool) writeGroup(g group) error {
	begin := g.end - int64(len(g.frames))
	if err := s.roll(begin, int64(len(g.frames))); err != nil {
		return err
	}
	newest := s.newest()
	at := newest.at(begin)
	crashpoint.At("spool.write")
	// An earlier attempt may have left a part of it: it is written over.
	if _, err := s.active.WriteAt(g.frames, at); err != nil {
		if isFull(err) {
			return err
		}
		return errors.Join(err, s.abandon())
	}
	crashpoint.At("spool.written")
	if s.config.NoSync {
		return nil
	}
	if err := s.sync(s.active); err != nil {
		// What a failed sync leaves behind proves nothing, and a second one may
		// succeed without writing: the group goes into a new segment.
		return errors.Join(fmt.Errorf("sync: %w", err), s.abandon())
	}
	crashpoint.At("spool.synced")
	return nil
}

// roll begins a new segment where there is none or the group would make it too long.
func (s *Spool) roll(begin, size int64) error {
	if s.active != nil {
		used := begin - s.newest().first
		switch {
		case removed(s.active):
			s.log.Error("the segment that is written was removed: what it held and was not delivered is lost with a crash", "segment", s.active.Name())
			return errors.Join(s.abandon(), s.roll(begin, size))
		case used == 0 || used+size <= s.limits.segment:
			return nil
		}
		file := s.active
		s.active = nil
		if err := file.Close(); err != nil {
			return err
		}
	}
	return s.begin(begin)
}

// begin makes the segment that a place is the first of.
func (s *Spool) begin(begin int64) error {
	if err := s.replaceEmpty(begin); err != nil {
		return err
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

// replaceEmpty removes the newest segment where it is another process's and holds
// nothing: its name is the next one's.
func (s *Spool) replaceEmpty(begin int64) error {
	s.mu.Lock()
	last := len(s.segments) - 1
	empty := last >= 0 && s.segments[last].first == begin
	s.mu.Unlock()
	if !empty {
		return nil
	}
	if err := remove(s.dir, segmentName(begin)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = s.segments[:last]
	return nil
}

// newest is the segment that is written.
func (s *Spool) newest() segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.segments[len(s.segments)-1]
}

// removed says that somebody has taken a file's name away.
func removed(f *os.File) bool {
	var stat unix.Stat_t
	return unix.Fstat(int(f.Fd()), &stat) == nil && stat.Nlink == 0
}

// abandon closes the active segment for good, and removes it where nothing in
// it was ever accepted: the next one then has its name.
func (s *Spool) abandon() error {
	file := s.active
	s.active = nil
	err := file.Close()
	s.mu.Lock()
	last := s.segments[len(s.segments)-1]
	keep := last.end > last.first
	if !keep {
		s.segments = s.segments[:len(s.segments)-1]
	}
	s.mu.Unlock()
	if keep {
		return err
	}
	if failed := remove(s.dir, last.name()); !errors.Is(failed, os.ErrNotExist) {
		err = errors.Join(err, failed)
	}
	return errors.Join(err, s.dir.Sync())
}

// free removes the segments that lie wholly before the durable position. The
// newest stays: it says where the log ends. Nobody else removes any at that time.
func (s *Spool) free() {
	for {
		s.mu.Lock()
		if len(s.segments) < 2 || s.segments[0].end > s.committed {
			s.mu.Unlock()
			return
		}
		name := s.segments[0].name()
		s.mu.Unlock()
		crashpoint.At("spool.free")
		if err := remove(s.dir, name); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.log.Error("a delivered segment of the spool can't be removed", "segment", name, "error", err)
			return
		}
		crashpoint.At("spool.freed")
		s.mu.Lock()
		s.segments = s.segments[1:]
		s.full = false
		s.change()
		s.mu.Unlock()
	}
}

// shrink begins a new segment where all of a large one is delivered, so that it
// can be freed. A failure costs nothing: the next record tries again.
func (s *Spool) shrink() {
	s.mu.Lock()
	last := len(s.segments) - 1
	idle := s.active != nil && s.committed == s.end && s.durable == s.end && s.end-s.segments[last].first >= min(s.limits.segment/2, maxIdle)
	end := s.end
	s.mu.Unlock()
	if !idle {
		return
	}
	old := s.active
	if err := s.begin(end); err != nil {
		s.log.Warn("the spool could not be made smaller", "error", err)
		return
	}
	// It alone says from now on which spool this is, and where it goes on.
	if err := s.sync(s.active); err != nil {
		s.log.Warn("the spool could not be made smaller", "error", errors.Join(err, s.abandon()))
	}
	if err := old.Close(); err != nil {
		s.log.Warn("a delivered segment of the spool did not close", "error", err)
	}
	s.free()
}
