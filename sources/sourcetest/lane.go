// Package sourcetest holds the contract that every source keeps, as tests, and
// what tests of sources need: a lane, positions, waiting.
package sourcetest

import (
	"context"
	"sync"
	"testing"

	"github.com/barnabas-agent/barnabas/core/record"
)

// Record is one record that a lane got.
type Record struct {
	Stream    record.Stream
	Value     string
	Timestamp int64
	Offset    int64
	End       int64
	Code      string // of the source's failure; "": it goes on to the stages
}

// Lane is a record.Lane that keeps what it gets and checks it. It has credit for
// a number of undelivered records, which Deliver gives back.
type Lane struct {
	t testing.TB

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced at each change
	credit    int
	records   []Record
	delivered int                     // of records, in order
	batches   int                     // submitted
	open      map[*record.Batch]bool  // made and neither submitted nor discarded
	ends      map[record.Stream]int64 // where each stream's next record must begin

	transforms bool
}

// NewLane returns a lane with endless credit. At the test's end it checks that no
// batch was kept back.
func NewLane(t testing.TB) *Lane {
	l := &Lane{
		t: t, changed: make(chan struct{}), credit: 1 << 30,
		open: make(map[*record.Batch]bool), ends: make(map[record.Stream]int64),
	}
	t.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.open) > 0 {
			t.Errorf("%d batches were neither submitted nor discarded", len(l.open))
		}
	})
	return l
}

// Transforms says that values are not the bytes between a record's positions, and
// that bytes between records may belong to none.
func (l *Lane) Transforms() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.transforms = true
}

// Limit sets how many undelivered records the lane takes before it blocks.
func (l *Lane) Limit(credit int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.credit = credit
	l.change()
}

// NewBatch implements record.Lane.
func (l *Lane) NewBatch(ctx context.Context, size int) (*record.Batch, error) {
	for {
		l.mu.Lock()
		if len(l.records)-l.delivered < l.credit {
			b := &record.Batch{Topics: []string{"test"}}
			b.Value.AddBlock(make([]byte, 0, size))
			l.open[b] = true
			l.mu.Unlock()
			return b, nil
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// Submit implements record.Lane.
func (l *Lane) Submit(ctx context.Context, b *record.Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open[b] {
		l.t.Error("a batch was submitted that the lane did not make, or twice")
	}
	delete(l.open, b)
	if err := ctx.Err(); err != nil {
		return err
	}
	l.check(b)
	first := len(l.records)
	for i := range b.Rows() {
		l.records = append(l.records, Record{
			Stream: b.RunOf(i).Stream, Value: string(b.Value.Bytes(i)),
			Timestamp: b.Timestamps[i], Offset: b.Offsets[i], End: b.Ends[i],
		})
	}
	for _, f := range b.Failures {
		l.records[first+int(f.Row)].Code = f.Code
	}
	l.batches++
	l.change()
	return nil
}

// Discard implements record.Lane.
func (l *Lane) Discard(b *record.Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open[b] {
		l.t.Error("a batch was discarded that the lane did not make, or twice")
	}
	delete(l.open, b)
}

// check reports what breaks the contract of a batch.
func (l *Lane) check(b *record.Batch) {
	rows := b.Rows()
	if rows == 0 || rows > record.MaxRows || len(b.Value.Spans) != rows || len(b.Timestamps) != rows || len(b.Offsets) != rows || len(b.Live)+len(b.Failures) != rows {
		l.t.Errorf("a batch has %d rows, %d values, %d timestamps, %d offsets, %d live rows, %d failures",
			rows, len(b.Value.Spans), len(b.Timestamps), len(b.Offsets), len(b.Live), len(b.Failures))
		return
	}
	next := 0
	for _, run := range b.Runs {
		if run.First != next || run.Count < 1 {
			l.t.Errorf("a run begins at row %d with %d rows, row %d is next", run.First, run.Count, next)
		}
		next += run.Count
	}
	if next != rows {
		l.t.Errorf("runs cover %d of %d rows", next, rows)
	}
	for i := range rows {
		stream := b.RunOf(i).Stream
		// Streams that share a spool have other streams' records in between.
		alone := stream.Origin().Kind == "file" && !l.transforms
		if want, known := l.ends[stream]; known && (b.Offsets[i] < want || alone && b.Offsets[i] != want) {
			l.t.Errorf("a record of %v begins at %d, the one before ended at %d", stream.Origin(), b.Offsets[i], want)
		}
		if length := b.Ends[i] - b.Offsets[i]; length < int64(b.Value.Size(i)) && !l.transforms || length <= 0 && l.transforms {
			l.t.Errorf("a record of %d bytes reaches from %d to %d", b.Value.Size(i), b.Offsets[i], b.Ends[i])
		}
		l.ends[stream] = b.Ends[i]
	}
}

// Records returns all records so far, in the order of submission.
func (l *Lane) Records() []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Record(nil), l.records...)
}

// Values returns their values.
func (l *Lane) Values() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	values := make([]string, len(l.records))
	for i, r := range l.records {
		values[i] = r.Value
	}
	return values
}

// Batches returns how many batches were submitted.
func (l *Lane) Batches() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.batches
}

// Open returns how many batches were made and neither submitted nor discarded yet.
func (l *Lane) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// Undelivered returns how many records were submitted and not delivered.
func (l *Lane) Undelivered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.records) - l.delivered
}

// Deliver resolves the oldest n records that are not resolved yet, or all there are.
func (l *Lane) Deliver(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ; n > 0 && l.delivered < len(l.records); n-- {
		r := l.records[l.delivered]
		l.delivered++
		r.Stream.Delivered(r.End)
	}
	l.change()
}

// Wait returns all records once there are at least n.
func (l *Lane) Wait(n int) []Record {
	l.t.Helper()
	Eventually(l.t, func() bool { return len(l.Records()) >= n }, "%d records, there are %d", n, len(l.Records()))
	return l.Records()
}

// change wakes those who wait for a different lane. It is called with mu held.
func (l *Lane) change() {
	close(l.changed)
	l.changed = make(chan struct{})
}
