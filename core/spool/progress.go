package spool

import (
	"sync"

	"github.com/barnabas-agent/barnabas/core/record"
)

// stream is the records of one peer while some of them are not delivered. A
// record begins where its frame does and ends where its frame does.
type stream struct {
	progress *progress
	origin   record.Origin

	// guarded by progress.mu
	listed bool
	bound  int64 // no record before it is unresolved
	last   int64 // end of the newest record
}

// Origin implements record.Stream.
func (s *stream) Origin() record.Origin { return s.origin }

// Delivered implements record.Stream.
func (s *stream) Delivered(position int64) {
	p := s.progress
	p.mu.Lock()
	defer p.mu.Unlock()
	s.bound = max(s.bound, position)
	if s.listed && s.bound >= s.last {
		s.listed = false
		delete(p.streams, s.origin.Peer)
	}
}

// progress turns the positions of a lane's streams into one place of the log:
// before it everything that belongs to the lane is resolved.
type progress struct {
	mu      sync.Mutex
	streams map[string]*stream // with records in flight, by peer
	scanned int64              // everything of the lane before it is in streams, or resolved
	passed  int64              // the last frontier: it only grows
}

func newProgress(start int64) *progress {
	return &progress{streams: make(map[string]*stream), scanned: start, passed: start}
}

// find returns the stream of a peer that has records in flight, or nil.
func (p *progress) find(peer []byte) *stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.streams[string(peer)]
}

// flight is what one batch adds to a stream.
type flight struct {
	stream      *stream
	first, last int64 // where its first record begins, and its last ends
}

// begin takes records in flight and moves on to scanned. It comes before they
// are submitted, so that none is delivered before it is known.
func (p *progress) begin(flights []flight, scanned int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range flights {
		s := f.stream
		if !s.listed {
			s.listed, s.bound = true, f.first
			p.streams[s.origin.Peer] = s
		}
		s.last = f.last
	}
	p.scanned = scanned
}

// frontier is the place before which everything of the lane is resolved.
func (p *progress) frontier() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	least := p.scanned
	for _, s := range p.streams {
		least = min(least, s.bound)
	}
	p.passed = max(p.passed, least)
	return p.passed
}
