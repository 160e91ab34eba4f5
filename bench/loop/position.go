package main

import (
	"context"
	"math"
	"sync"
)

// position knows up to which byte of the file everything is delivered. Reports
// of one partition come in the order in which its records were sent, so a queue
// per partition says which record a report is for. Its methods may be called
// concurrently.
type position struct {
	moved chan struct{} // holds a token after a report

	mu      sync.Mutex
	pending []queue // by partition
	reports int64
	end     int64 // offset behind the last record that was sent
}

// queue holds the offsets of the records in flight, oldest first.
type queue struct {
	offsets []int64
	first   int
}

func newPosition(partitions int) *position {
	return &position{moved: make(chan struct{}, 1), pending: make([]queue, partitions)}
}

// sent notes the record in flight that begins at offset and ends before end.
func (p *position) sent(partition int32, offset, end int64) {
	p.mu.Lock()
	q := &p.pending[partition]
	if q.first > 1<<12 && q.first > len(q.offsets)/2 {
		q.offsets = q.offsets[:copy(q.offsets, q.offsets[q.first:])]
		q.first = 0
	}
	q.offsets = append(q.offsets, offset)
	p.end = end
	p.mu.Unlock()
}

func (p *position) delivered(partition int32) {
	p.mu.Lock()
	p.pending[partition].first++
	p.reports++
	p.mu.Unlock()
	select {
	case p.moved <- struct{}{}:
	default:
	}
}

// committed is the offset before which everything is delivered: that of the
// oldest record in flight, or the end of the last one if there is none.
func (p *position) committed() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	oldest := int64(math.MaxInt64)
	for _, q := range p.pending {
		if q.first < len(q.offsets) {
			oldest = min(oldest, q.offsets[q.first])
		}
	}
	if oldest == math.MaxInt64 {
		return p.end
	}
	return oldest
}

// await waits until as many records are delivered.
func (p *position) await(ctx context.Context, records int64) error {
	for {
		p.mu.Lock()
		done := p.reports >= records
		p.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-p.moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
