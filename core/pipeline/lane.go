package pipeline

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-agent/barnabas/core/crashpoint"
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
	input    chan *inflight // written by sources, read by head; closed by Pipeline.Run after the sources have ended
	held     atomic.Int64   // records submitted whose memory is in use
	accepts  atomic.Bool    // positions have moved before delivery (fire and forget)

	mu      sync.Mutex
	spare   []*record.Batch             // empty batches
	open    map[*record.Batch]*inflight // made by NewBatch, not yet submitted
	passing []*inflight                 // inside the stages, oldest first
	average int                         // bytes of a record as read: a moving average, or less
	growth  float64                     // bytes sent per byte read: a moving average, or more
	nextID  uint64
}

func newLane(number int, p *Pipeline) *lane {
	return &lane{
		number:   number,
		pipeline: p,
		tracker:  newTracker(),
		input:    make(chan *inflight),
		open:     make(map[*record.Batch]*inflight),
		average:  firstAverage,
		growth:   1,
	}
}

// NewBatch implements record.Lane. What it reserves is an estimate of the whole
// cost of delivery, so that a batch once begun never waits for memory again: it
// could wait for itself.
func (l *lane) NewBatch(ctx context.Context, size int) (*record.Batch, error) {
	if size > l.pipeline.config.MaxBlock {
		return nil, fmt.Errorf("pipeline %s: a block of %d bytes was asked for, %d is the most", l.pipeline.config.Name, size, l.pipeline.config.MaxBlock)
	}
	if err := l.pipeline.config.Window.wait(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	rows := min(record.MaxRows, size/l.average+1)
	estimate := int64(blockSize(size)) + int64(float64(size)*l.growth) + int64(rows)*RecordOverhead
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

// Submit implements record.Lane. What the batch is expected to cost is known
// before its source reserves the next one.
func (l *lane) Submit(ctx context.Context, b *record.Batch) error {
	f := l.close(b)
	if b.Rows() == 0 {
		l.discard(f)
		return ctx.Err()
	}
	l.estimate(f)
	select {
	case l.input <- f:
		return nil
	case <-ctx.Done():
		l.discard(f)
		return ctx.Err()
	}
}

// Discard implements record.Lane.
func (l *lane) Discard(b *record.Batch) { l.discard(l.close(b)) }

func (l *lane) discard(f *inflight) {
	l.pipeline.producer.Adjust(-f.charge)
	l.free(f)
}

// close ends the source's ownership of a batch.
func (l *lane) close(b *record.Batch) *inflight {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.open[b]
	if f == nil {
		panic("BUG: a source handed over a batch that is not its own")
	}
	delete(l.open, b)
	return f
}

// head takes submitted batches in flight and passes them to out, which it closes at the end of input.
func (l *lane) head(ctx context.Context, out chan<- *record.Batch) error {
	defer close(out)
	for f := range l.input {
		b := f.batch
		l.held.Add(int64(b.Rows()))
		f.held.Store(int64(b.Rows()))
		l.tracker.add(f, time.Now())
		l.mu.Lock()
		l.nextID++
		b.ID = l.nextID
		l.passing = append(l.passing, f)
		l.mu.Unlock()
		if err := l.tracker.waitTurn(ctx, f, l.pipeline.config.MaxAhead); err != nil {
			return err
		}
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

// send resolves what the stages took out of a batch and hands the rest to the producer.
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
	live, dropped, failures := slices.Clone(b.Live), slices.Clone(b.Dropped), b.Failures
	if len(live)+len(dropped)+len(failures) != b.Rows() {
		panic("BUG: a stage lost or repeated records")
	}
	l.settle(f)
	if len(dropped) > 0 {
		f.finish(dropped)
	}
	for _, failure := range failures {
		l.pipeline.refusals.add(f, failure)
	}
	if len(live) == 0 {
		return nil
	}
	if err := l.pipeline.refusals.gate.wait(ctx); err != nil {
		return err
	}
	crashpoint.At("pipeline.send")
	return l.pipeline.producer.Send(ctx, b, live, f)
}

// estimate replaces what NewBatch reserved for any batch by what this one is
// expected to cost when the stages have changed it.
func (l *lane) estimate(f *inflight) {
	f.read = valueBytes(f.batch)
	l.mu.Lock()
	// What makes a batch dear is believed at once, what makes it cheap by and by.
	average := int(f.read) / f.batch.Rows()
	l.average = max(1, min(average, (7*l.average+average)/8))
	cost := f.cost() + int64(float64(f.read)*(l.growth-1))
	l.mu.Unlock()
	l.charge(f, cost)
}

// settle replaces the estimate by what the batch costs.
func (l *lane) settle(f *inflight) {
	cost := f.cost()
	if f.read > 0 {
		now := float64(cost-int64(cap(f.block))-int64(f.batch.Rows())*RecordOverhead) / float64(f.read)
		l.mu.Lock()
		l.growth = max(1, now, (7*l.growth+now)/8)
		l.mu.Unlock()
	}
	l.charge(f, cost)
}

func (l *lane) charge(f *inflight, cost int64) {
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
		l.pipeline.observe(topic, end-start, bytes, f.since)
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
