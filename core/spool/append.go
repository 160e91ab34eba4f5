package spool

import (
	"context"
	"fmt"
	"time"
)

// Append takes entries in their order and returns once they are durable. It
// waits while the spool is full, or returns ErrFull where DropNewest is set.
// taken is how many are durable; those behind were not accepted. After another
// error than ErrFull and ErrTooLarge some of them may be durable nevertheless.
func (s *Spool) Append(ctx context.Context, entries []Entry) (taken int, err error) {
	n, end, err := s.take(ctx, entries, s.config.DropNewest)
	if failed := s.await(ctx, end); failed != nil {
		return 0, failed
	}
	return n, err
}

// Enqueue is Append for senders that nobody answers: it returns once the
// entries are taken, which is before they are durable. Those of a peer that
// uses both keep their order.
func (s *Spool) Enqueue(ctx context.Context, entries []Entry) (taken int, err error) {
	taken, _, err = s.take(ctx, entries, s.config.DropNewest)
	return taken, err
}

// Put is Enqueue for senders whose account is kept: what was taken is durable once
// Durable has reached end.
func (s *Spool) Put(ctx context.Context, entries []Entry) (taken int, end int64, err error) {
	return s.take(ctx, entries, s.config.DropNewest)
}

// Offer is Put for senders that nobody can have wait: a spool that is full or can't be
// written refuses with ErrFull, as if DropNewest were set.
func (s *Spool) Offer(ctx context.Context, entries []Entry) (taken int, end int64, err error) {
	return s.take(ctx, entries, true)
}

// Durable is the place in the log before which everything is durable.
func (s *Spool) Durable() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.durable
}

// take encodes entries for the writer and returns how many, and the place
// behind the last of them. Where drop is set it refuses what there is no room for.
func (s *Spool) take(ctx context.Context, entries []Entry, drop bool) (taken int, end int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range entries {
		e := &entries[i]
		if len(e.Value) > s.config.MaxEntry || len(e.Peer) > MaxPeer {
			return i, end, fmt.Errorf("%w: %d bytes of %d, from a peer with a name of %d", ErrTooLarge, len(e.Value), s.config.MaxEntry, len(e.Peer))
		}
		if err := s.makeRoom(ctx, frameSize(e), drop); err != nil {
			return i, end, err
		}
		s.pending = appendFrame(s.pending, s.marker, e)
		s.end += int64(frameSize(e))
		end = s.end
		s.wakeWriter()
	}
	return len(entries), end, nil
}

// makeRoom waits until a frame of size bytes may be taken, or refuses it. It is called with mu
// held, and gives it up while it waits.
func (s *Spool) makeRoom(ctx context.Context, size int, drop bool) error {
	for {
		fits := s.usedLocked()+int64(size) <= s.config.MaxSize
		switch {
		case s.closed:
			return ErrClosed
		case drop && (!fits || s.failing != ""):
			s.noteRoom(fits)
			return ErrFull
		case fits && (len(s.pending) == 0 || len(s.pending)+size <= s.limits.pending):
			return nil
		}
		s.noteRoom(fits)
		if err := s.waitLocked(ctx); err != nil {
			return err
		}
	}
}

// Room waits until so many records of so many bytes together fit, however full the
// spool was. A source that alone appends, and asks before it reads, never has
// something in its hands that it can't keep. Where DropNewest is set it never waits.
func (s *Spool) Room(ctx context.Context, records, bytes int) error {
	// What does not fit at all would wait for ever: it fits once the spool is empty.
	need := min(int64(records)*(frameHeader+MaxPeer)+int64(bytes), s.config.MaxSize/2)
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closed && !s.config.DropNewest && s.usedLocked()+need > s.config.MaxSize {
		s.noteRoom(false)
		if err := s.waitLocked(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// waitLocked waits for a different state or ctx's end, which alone is an error. It
// is called with mu held, and gives it up while it waits.
func (s *Spool) waitLocked(ctx context.Context) error {
	changed := s.changed
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fullEvery is how often at most the log tells that a spool is full: one that is
// freed at the pace of a slow broker is full again and again.
const fullEvery = time.Minute

// noteRoom keeps that somebody found no room. It is called with mu held.
func (s *Spool) noteRoom(fits bool) {
	if fits || s.full {
		return
	}
	s.full = true
	if time.Since(s.told) >= fullEvery {
		s.told = time.Now()
		s.log.Warn("the spool is full until records are delivered", "dir", s.config.Dir, "max_size", s.config.MaxSize, "newest_are_dropped", s.config.DropNewest)
	}
}

// await returns once the log is durable up to end.
func (s *Spool) await(ctx context.Context, end int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.durable < end {
		if s.finished {
			return ErrClosed
		}
		if err := s.waitLocked(ctx); err != nil {
			return err
		}
	}
	return nil
}

// wakeWriter tells the writer that something is pending.
func (s *Spool) wakeWriter() {
	select {
	case s.wake <- true:
	default:
	}
}

// usedLocked is what the log takes: frames that are not freed, on disk or on
// the way to it, and the headers of their segments.
func (s *Spool) usedLocked() int64 {
	if len(s.segments) == 0 {
		return s.end - s.durable
	}
	return s.end - s.segments[0].first + int64(len(s.segments))*segmentHeader
}
