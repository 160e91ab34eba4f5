package pipeline

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

const (
	// stageDepth is how many batches may wait in front of each stage.
	stageDepth = 2
	// firstAverage is the record size that a lane assumes before it has seen one.
	firstAverage = 200
)

// lane is one ordering domain: what its sources submit passes the stages and
// reaches the producer in the order of submission.
type lane struct {
	number   int
	pipeline *Pipeline
	tracker  *tracker
	input    chan *record.Batch // written by sources, read by head; closed by Pipeline.Run after the sources have ended

	mu      sync.Mutex
	spare   []*record.Batch             // empty batches
	open    map[*record.Batch]*inflight // made by NewBatch, not yet submitted
	passing []*inflight                 // inside the stages, oldest first
	average int                         // moving average of a record's bytes
	growth  float64                     // moving average of bytes sent per byte read
	nextID  uint64
}

func newLane(number int, p *Pipeline) *lane {
	return &lane{
		number:   number,
		pipeline: p,
		tracker:  newTracker(),
		input:    make(chan *record.Batch),
		open:     make(map[*record.Batch]*inflight),
		average:  firstAverage,
		growth:   1,
	}
}

// NewBatch implements record.Lane. What it reserves is an estimate of the whole
// cost of delivery, so that a batch once begun never waits for memory again.
func (l *lane) NewBatch(ctx context.Context, size int) (*record.Batch, error) {
	if size > l.pipeline.config.MaxBlock {
		return nil, fmt.Errorf("pipeline %s: a block of %d bytes was asked for, %d is the most", l.pipeline.config.Name, size, l.pipeline.config.MaxBlock)
	}
	l.mu.Lock()
	rows := min(record.MaxRows, size/l.average+1)
	estimate := int64(blockSize(size)) + int64(float64(size)*l.growth) + int64(rows)*recordOverhead
	l.mu.Unlock()
	if err := l.pipeline.producer.Reserve(ctx, estimate); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &record.Batch{}
	if n := len(l.spare); n > 0 {
		b, l.spare = l.spare[n-1], l.spare[:n-1]
	}
	block := l.pipeline.slab.get(size)
	b.Topics = append(b.Topics, l.pipeline.config.Topic)
	b.Value.AddBlock(block)
	l.open[b] = &inflight{lane: l, batch: b, block: block, charge: estimate}
	return b, nil
}

// Submit implements record.Lane.
func (l *lane) Submit(ctx context.Context, b *record.Batch) error {
	if b.Rows() == 0 {
		l.Discard(b)
		return ctx.Err()
	}
	select {
	case l.input <- b:
		return nil
	case <-ctx.Done():
		l.Discard(b)
		return ctx.Err()
	}
}

// Discard implements record.Lane.
func (l *lane) Discard(b *record.Batch) {
	l.mu.Lock()
	f := l.open[b]
	delete(l.open, b)
	l.mu.Unlock()
	l.pipeline.producer.Adjust(-f.charge)
	l.free(f)
}

// head takes submitted batches in flight and passes them to out, which it closes at the end of input.
func (l *lane) head(ctx context.Context, out chan<- *record.Batch) error {
	defer close(out)
	for b := range l.input {
		l.mu.Lock()
		f := l.open[b]
		delete(l.open, b)
		l.nextID++
		b.ID = l.nextID
		l.passing = append(l.passing, f)
		l.mu.Unlock()
		l.recharge(f, nil)
		l.tracker.add(f, time.Now())
		f.held.Store(int64(b.Rows()))
		select {
		case out <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// tail takes batches from the last stage, resolves what the stages took out and sends the rest.
func (l *lane) tail(ctx context.Context, in <-chan *record.Batch) error {
	for {
		select {
		case b, ok := <-in:
			if !ok {
				return nil
			}
			if err := l.send(ctx, b); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *lane) send(ctx context.Context, b *record.Batch) error {
	l.mu.Lock()
	f := l.passing[0]
	l.passing[0] = nil
	l.passing = l.passing[1:]
	l.mu.Unlock()
	if f.batch != b {
		panic("BUG: a stage changed the order of batches")
	}
	// The rows are copied: whoever resolves the last of them frees the batch.
	live := append([]uint32(nil), b.Live...)
	dropped, failures := b.Dropped, b.Failures
	l.recharge(f, live)
	if len(dropped) > 0 {
		f.finish(append([]uint32(nil), dropped...))
	}
	for _, failure := range failures {
		l.pipeline.refusals.add(f, failure)
	}
	if len(live) == 0 {
		return nil
	}
	if err := l.pipeline.refusals.wait(ctx); err != nil {
		return err
	}
	return l.pipeline.producer.Send(ctx, b, live, f)
}

// recharge replaces the estimate of NewBatch by what the batch costs: its
// blocks, and for each row librdkafka's copy and the overhead. live is nil before the stages.
func (l *lane) recharge(f *inflight, live []uint32) {
	b := f.batch
	var read, cost int64
	for i := range b.Rows() {
		read += int64(b.Value.Spans[i].Length)
		cost += rowCharge(b, i)
	}
	sent := cost - int64(b.Rows())*recordOverhead
	cost += int64(cap(f.block))
	for _, block := range b.Value.Blocks[1:] {
		cost += int64(cap(block))
	}
	for _, block := range b.Key.Blocks {
		cost += int64(cap(block))
	}
	l.mu.Lock()
	if live == nil {
		l.average = max(1, (7*l.average+int(read)/b.Rows())/8)
		cost += int64(float64(read) * (l.growth - 1))
	} else if read > 0 {
		l.growth = (7*l.growth + max(1, float64(sent)/float64(read))) / 8
	}
	l.mu.Unlock()
	l.pipeline.producer.Adjust(cost - f.charge)
	f.charge = cost
}

// delivered counts what the broker has taken.
func (l *lane) delivered(f *inflight, rows []uint32) {
	b := f.batch
	for start := 0; start < len(rows); {
		topic := b.Topic(int(rows[start]))
		end, bytes := start, 0
		for end < len(rows) && b.Topic(int(rows[end])) == topic {
			bytes += b.Size(int(rows[end]))
			end++
		}
		l.pipeline.observe(topic, end-start, bytes, b.Timestamps[rows[start]])
		start = end
	}
}

// free gives the batch's memory back for the next one.
func (l *lane) free(f *inflight) {
	l.pipeline.slab.put(f.block)
	f.batch.Reset()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.spare) < 4*stageDepth {
		l.spare = append(l.spare, f.batch)
	}
}
