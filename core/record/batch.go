package record

import "context"

// MaxRows bounds the records of one batch.
const MaxRows = 4096

// Batch is a set of records of one lane, in columns. A row is a record's index;
// rows never move, so that a row's position stays its own whatever plugins do.
// A batch has one owner at a time: source, stage, producer, in this order.
type Batch struct {
	ID uint64 // counts up by one per lane; the same on a replay

	Value      Column
	Key        Column     // no spans: every key is null
	Headers    [][]Header // per row; nil: no record has any
	Timestamps []int64    // milliseconds since the Unix epoch, per row
	Topics     []string   // the distinct topics of the batch; Topics[0] is the pipeline's
	TopicIndex []uint16   // per row, into Topics; nil: all are Topics[0]
	Partitions []int32    // per row; nil: PartitionAny for all

	Runs    []Run
	Offsets []int64 // where each record begins in its stream
	Ends    []int64 // the position once the record is resolved: where the next one begins

	// Live lists the rows that go on to the next stage, in ascending order.
	// Stages remove rows from it; nothing adds one.
	Live []uint32
	// Dropped and Failures collect the rows that stages took out of Live, and
	// Failures also those that the source did.
	Dropped  []uint32
	Failures []Failure

	releases []func() // see OnReset
}

// Rows returns how many records the source put in.
func (b *Batch) Rows() int { return len(b.Ends) }

// Append adds one record of a stream: its value is the span in block 0 of Value, its
// position ends at end. Rows of one stream must be appended in the stream's order.
func (b *Batch) Append(s Stream, value Span, timestamp, offset, end int64) {
	row := len(b.Ends)
	if n := len(b.Runs); n > 0 && b.Runs[n-1].Stream == s {
		b.Runs[n-1].Count++
	} else {
		b.Runs = append(b.Runs, Run{Stream: s, First: row, Count: 1})
	}
	b.Value.Spans = append(b.Value.Spans, value)
	b.Timestamps = append(b.Timestamps, timestamp)
	b.Offsets = append(b.Offsets, offset)
	b.Ends = append(b.Ends, end)
	b.Live = append(b.Live, uint32(row))
}

// Refuse has the last row fail before any stage sees it: its source can make it
// out, but not as a record that may be delivered.
func (b *Batch) Refuse(code, message string) {
	row := b.Live[len(b.Live)-1]
	b.Live = b.Live[:len(b.Live)-1]
	b.Failures = append(b.Failures, Failure{Row: row, Stage: StageSource, Code: code, Message: message})
}

// Topic returns the topic of row i.
func (b *Batch) Topic(i int) string {
	if b.TopicIndex == nil {
		return b.Topics[0]
	}
	return b.Topics[b.TopicIndex[i]]
}

// Partition returns the partition of row i, or PartitionAny.
func (b *Batch) Partition(i int) int32 {
	if b.Partitions == nil {
		return PartitionAny
	}
	return b.Partitions[i]
}

// RowHeaders returns the headers of row i, which belong to the batch.
func (b *Batch) RowHeaders(i int) []Header {
	if b.Headers == nil {
		return nil
	}
	return b.Headers[i]
}

// SetTopic changes the topic of row i.
func (b *Batch) SetTopic(i int, topic string) {
	if b.TopicIndex == nil {
		if topic == b.Topics[0] {
			return
		}
		b.TopicIndex = make([]uint16, b.Rows())
	}
	for n, t := range b.Topics {
		if t == topic {
			b.TopicIndex[i] = uint16(n)
			return
		}
	}
	b.Topics = append(b.Topics, topic)
	b.TopicIndex[i] = uint16(len(b.Topics) - 1)
}

// SetPartition changes the partition of row i.
func (b *Batch) SetPartition(i int, partition int32) {
	if b.Partitions == nil {
		b.Partitions = make([]int32, b.Rows())
		for r := range b.Partitions {
			b.Partitions[r] = PartitionAny
		}
	}
	b.Partitions[i] = partition
}

// SetHeaders replaces the headers of row i; the batch keeps the slice.
func (b *Batch) SetHeaders(i int, headers []Header) {
	if b.Headers == nil {
		b.Headers = make([][]Header, b.Rows())
	}
	b.Headers[i] = headers
}

// Size returns the bytes of row i that a broker would get: key, value and headers.
func (b *Batch) Size(i int) int {
	n := b.Value.Size(i) + b.Key.Size(i)
	for _, h := range b.RowHeaders(i) {
		n += len(h.Name) + len(h.Value)
	}
	return n
}

// RunOf returns the run that row i belongs to.
func (b *Batch) RunOf(i int) *Run {
	low, high := 0, len(b.Runs)-1
	for low < high {
		mid := (low + high + 1) / 2
		if b.Runs[mid].First <= i {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return &b.Runs[low]
}

// OnReset has Reset call release once: the owner of memory that a column refers
// to gets it back there.
func (b *Batch) OnReset(release func()) { b.releases = append(b.releases, release) }

// Reset empties the batch for a new owner, keeping the memory of its columns.
// Nothing may refer to the bytes of its records any more.
func (b *Batch) Reset() {
	for _, release := range b.releases {
		release()
	}
	clear(b.releases)
	b.releases = b.releases[:0]
	b.ID = 0
	b.Value.reset()
	b.Key = Column{}
	b.Headers, b.TopicIndex, b.Partitions = nil, nil, nil
	b.Topics = b.Topics[:0]
	b.Timestamps, b.Offsets, b.Ends = b.Timestamps[:0], b.Offsets[:0], b.Ends[:0]
	clear(b.Runs)
	b.Runs, b.Live, b.Dropped = b.Runs[:0], b.Live[:0], b.Dropped[:0]
	b.Failures = nil
}

// Lane is where a source puts its records: one ordering domain of a pipeline.
// A stream belongs to one lane for its life. Each lane is used by one goroutine
// of a source at a time; several sources may share a lane.
type Lane interface {
	// NewBatch waits until the accumulator has room, then returns an empty batch
	// whose Value.Blocks[0] has length 0 and room for at least size bytes. It ends early with ctx's error.
	// The batch belongs to the caller until Submit or Discard, soon: a caller that
	// waits for data holds none, because what it reserved is missing to the other lanes.
	NewBatch(ctx context.Context, size int) (*Batch, error)
	// Submit hands the batch over; its records are tracked from here on. It
	// blocks while the lane is busy. On ctx's end the batch is discarded and
	// its records must be read again.
	Submit(ctx context.Context, b *Batch) error
	// Discard returns a batch that the source does not want to submit.
	Discard(b *Batch)
}
