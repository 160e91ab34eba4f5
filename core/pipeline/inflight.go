package pipeline

import (
	"container/list"
	"sort"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/barnabas-agent/barnabas/core/crashpoint"
	"github.com/barnabas-agent/barnabas/core/record"
)

// RecordOverhead is what one record costs beside its bytes: librdkafka's
// message, the row in the batch, the delivery report (contract: 256 bytes).
const RecordOverhead = 256

// inflight is one batch between its submission and its last row's resolution.
// It implements record.Resolution for the producer.
type inflight struct {
	lane  *lane
	batch *record.Batch
	block []byte // the slab block that backs batch.Value.Blocks[0]
	read  int64  // bytes of the values as the source read them

	// owned by the tracker, under its lock
	since      time.Time
	ordinal    int64 // rows of the lane that were added before
	runs       []pendingRun
	resolved   []uint64 // bit per row
	unresolved int
	tracked    *list.Element // nil once all rows are resolved

	charge   int64        // bytes of the accumulator that the batch was charged; constant once it is sent
	held     atomic.Int64 // rows whose memory is still in use
	returned atomic.Int64 // bytes given back row by row
}

func (f *inflight) isResolved(row int) bool {
	return f.resolved[row/64]&(1<<(row%64)) != 0
}

// runIndex returns the index of the run that holds row.
func (f *inflight) runIndex(row int) int {
	return sort.Search(len(f.runs), func(i int) bool { return f.runs[i].end > row })
}

// rowCharge is what row i gives back when it is delivered: librdkafka's copy and the overhead.
func rowCharge(b *record.Batch, i int) int64 {
	return int64(b.Size(i)) + RecordOverhead
}

// valueBytes is the size of all values of b.
func valueBytes(b *record.Batch) int64 {
	var n int64
	for i := range b.Value.Spans {
		n += int64(b.Value.Spans[i].Length)
	}
	return n
}

// cost is what the batch takes as it is: its blocks and headers, and for each
// row librdkafka's copy and the overhead.
func (f *inflight) cost() int64 {
	n := int64(cap(f.block))
	for _, block := range f.batch.Value.Blocks[1:] {
		n += int64(cap(block))
	}
	for _, block := range f.batch.Key.Blocks {
		n += int64(cap(block))
	}
	for _, headers := range f.batch.Headers {
		n += headerBytes(headers)
	}
	for i := range f.batch.Rows() {
		n += rowCharge(f.batch, i)
	}
	return n
}

// headerBytes is what headers take in the agent.
func headerBytes(headers []record.Header) int64 {
	n := int64(unsafe.Sizeof(record.Header{})) * int64(len(headers))
	for i := range headers {
		n += int64(len(headers[i].Name) + len(headers[i].Value))
	}
	return n
}

// Accepted moves the positions of rows that nobody waits for; they stay in memory.
func (f *inflight) Accepted(rows []uint32) {
	f.lane.accepts.Store(true)
	f.lane.tracker.resolve(f, rows)
}

// Delivered resolves rows that the broker has.
func (f *inflight) Delivered(rows []uint32) {
	crashpoint.At("pipeline.delivered")
	f.lane.delivered(f, rows)
	f.finish(rows)
	crashpoint.At("pipeline.resolved")
}

// Refused hands a row that can't be delivered to the pipeline's policy.
func (f *inflight) Refused(failure record.Failure) {
	f.lane.pipeline.refusals.add(f, failure)
}

// finish resolves rows, gives back what they were charged, and frees the batch
// after the last one.
func (f *inflight) finish(rows []uint32) {
	var bytes int64
	for _, row := range rows {
		bytes += rowCharge(f.batch, int(row))
	}
	f.lane.tracker.resolve(f, rows)
	f.returned.Add(bytes) // before held, so that the last one finds what all others gave back
	// From here on the batch may be another's: whoever takes held to zero frees it.
	if f.held.Add(-int64(len(rows))) > 0 {
		f.lane.pipeline.producer.Adjust(-bytes)
	} else {
		f.lane.pipeline.producer.Adjust(-(f.charge - f.returned.Load() + bytes))
		f.lane.free(f)
	}
	f.lane.held.Add(-int64(len(rows)))
}
