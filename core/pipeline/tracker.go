package pipeline

import (
	"sync"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// tracker moves the positions of one lane's streams: a stream's position passes
// a record only when that record and all before it in the stream are resolved.
// A row that nobody reports stays unresolved, always.
//
// Lock order: tracker.mu, then whatever record.Stream.Delivered takes.
type tracker struct {
	mu      sync.Mutex
	streams map[record.Stream][]*pendingRun // in flight, oldest first
	oldest  []*inflight                     // batches in the order of submission; heads are removed once resolved
	records int                             // rows in flight
}

// pendingRun is the rows [first, end) of one run in flight. It may outlive its
// batch: rows that are resolved wait here for those before them in the stream.
type pendingRun struct {
	stream           record.Stream
	first, next, end int   // next is the first row that is not resolved
	position         int64 // where the stream is once row next-1 is passed
}

func newTracker() *tracker {
	return &tracker{streams: make(map[record.Stream][]*pendingRun)}
}

// add takes the batch's rows in flight. Batches of a lane are added in the
// order in which their sources submitted them.
func (t *tracker) add(f *inflight, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.since = now
	f.runs = make([]pendingRun, len(f.batch.Runs))
	for i, r := range f.batch.Runs {
		f.runs[i] = pendingRun{stream: r.Stream, first: r.First, next: r.First, end: r.First + r.Count}
		t.streams[r.Stream] = append(t.streams[r.Stream], &f.runs[i])
	}
	f.unresolved = f.batch.Rows()
	f.resolved = make([]uint64, (f.unresolved+63)/64)
	t.records += f.unresolved
	t.oldest = append(t.oldest, f)
}

// resolve marks rows, in ascending order within each call, and moves the
// positions that this frees. Rows that are resolved already are left alone.
func (t *tracker) resolve(f *inflight, rows []uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	run := -1
	for _, row := range rows {
		word, bit := &f.resolved[row/64], uint64(1)<<(row%64)
		if *word&bit != 0 {
			continue
		}
		*word |= bit
		f.unresolved--
		t.records--
		if run < 0 || int(row) < f.runs[run].first || int(row) >= f.runs[run].end {
			if run >= 0 {
				t.advance(f, run)
			}
			run = f.runIndex(int(row))
		}
	}
	if run >= 0 {
		t.advance(f, run)
	}
	for len(t.oldest) > 0 && t.oldest[0].unresolved == 0 {
		t.oldest[0] = nil
		t.oldest = t.oldest[1:]
	}
}

// advance moves the position of a run's stream over what is resolved at its head.
func (t *tracker) advance(f *inflight, run int) {
	r := &f.runs[run]
	before := r.next
	for r.next < r.end && f.isResolved(r.next) {
		r.next++
	}
	queue := t.streams[r.stream]
	if r.next == before {
		return
	}
	r.position = f.batch.Ends[r.next-1]
	if queue[0] != r {
		return
	}
	var position int64
	for len(queue) > 0 && queue[0].next > queue[0].first {
		head := queue[0]
		position = head.position
		if head.next < head.end {
			break
		}
		queue[0] = nil
		queue = queue[1:]
	}
	if len(queue) == 0 {
		delete(t.streams, r.stream)
	} else {
		t.streams[r.stream] = queue
	}
	r.stream.Delivered(position)
}

// state returns the rows in flight and the age of the oldest, zero when there is none.
func (t *tracker) state(now time.Time) (records int, oldest time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.oldest) > 0 {
		oldest = now.Sub(t.oldest[0].since)
	}
	return t.records, oldest
}
