package pipeline

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// tracker moves the positions of one lane's streams: a stream's position passes
// a record only when that record and all before it in the stream are resolved.
// A row that nobody reports stays unresolved, always.
//
// What it keeps is bounded by the rows that are not resolved, however much
// passes them: batches leave it with their last row, and a run that is resolved
// leaves its end to the one before it.
//
// Lock order: tracker.mu, then whatever record.Stream.Delivered takes.
type tracker struct {
	mu      sync.Mutex
	newest  map[record.Stream]*pendingRun // of the streams that have rows in flight
	batches list.List                     // of *inflight that are not resolved, in the order of submission
	records int                           // rows in flight
	added   int64                         // rows that were ever added
	freed   chan struct{}                 // holds a token when a batch has left batches
}

// pendingRun is the rows [first, end) of one run, not all of them resolved. The
// runs of a stream are linked in its order; the oldest stands at the stream's position.
type pendingRun struct {
	stream           record.Stream
	first, next, end int         // next is the first row that is not resolved
	position         int64       // where the stream is once row next-1 is passed
	behind           int64       // where it is once row end-1 is: past the resolved runs that follow
	older, newer     *pendingRun // nil: none
}

func newTracker() *tracker {
	return &tracker{newest: make(map[record.Stream]*pendingRun), freed: make(chan struct{}, 1)}
}

// add takes the batch's rows in flight. Batches of a lane are added in the
// order in which their sources submitted them.
func (t *tracker) add(f *inflight, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.since = now
	f.runs = make([]pendingRun, len(f.batch.Runs))
	for i, r := range f.batch.Runs {
		end := r.First + r.Count
		older := t.newest[r.Stream]
		f.runs[i] = pendingRun{stream: r.Stream, first: r.First, next: r.First, end: end, behind: f.batch.Ends[end-1], older: older}
		if older != nil {
			older.newer = &f.runs[i]
		}
		t.newest[r.Stream] = &f.runs[i]
	}
	f.unresolved = f.batch.Rows()
	f.resolved = make([]uint64, (f.unresolved+63)/64)
	t.records += f.unresolved
	f.ordinal = t.added
	t.added += int64(f.unresolved)
	f.tracked = t.batches.PushBack(f)
}

// waitTurn waits while more than most rows lie between f and the oldest batch
// that is not resolved. What passes a row that waits is delivered again after a
// crash, so it has to be bounded. One goroutine at a time may wait.
func (t *tracker) waitTurn(ctx context.Context, f *inflight, most int64) error {
	for t.ahead(f) > most {
		select {
		case <-t.freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// ahead returns how many rows f is ahead of the oldest batch that is not resolved.
func (t *tracker) ahead(f *inflight) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if front := t.batches.Front(); front != nil {
		return f.ordinal - front.Value.(*inflight).ordinal
	}
	return 0
}

// resolve marks rows and moves the positions that this frees. Rows that are
// resolved already are left alone. The rows of a run should follow one another.
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
	if f.unresolved == 0 && f.tracked != nil {
		t.batches.Remove(f.tracked)
		f.tracked = nil
		select {
		case t.freed <- struct{}{}:
		default:
		}
	}
}

// advance moves a run over what is resolved at its head, and the position of its
// stream where nothing older is in the way.
func (t *tracker) advance(f *inflight, run int) {
	r := &f.runs[run]
	before := r.next
	for r.next < r.end && f.isResolved(r.next) {
		r.next++
	}
	if r.next == before {
		return
	}
	r.position = f.batch.Ends[r.next-1]
	switch {
	case r.next < r.end:
		if r.older == nil {
			r.stream.Delivered(r.position)
		}
	case r.older != nil:
		r.older.behind = r.behind
		t.unlink(r)
	default:
		position, next := r.behind, r.newer
		if next != nil && next.next > next.first {
			position = next.position
		}
		t.unlink(r)
		r.stream.Delivered(position)
	}
}

// unlink takes a run that is resolved out of its stream. It keeps no links, which
// would keep the runs of other batches in memory.
func (t *tracker) unlink(r *pendingRun) {
	switch {
	case r.newer != nil:
		r.newer.older = r.older
	case r.older != nil:
		t.newest[r.stream] = r.older
	default:
		delete(t.newest, r.stream)
	}
	if r.older != nil {
		r.older.newer = r.newer
	}
	r.older, r.newer = nil, nil
}

// state returns the rows in flight and the age of the oldest, zero when there is none.
func (t *tracker) state(now time.Time) (records int, oldest time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if front := t.batches.Front(); front != nil {
		oldest = now.Sub(front.Value.(*inflight).since)
	}
	return t.records, oldest
}
