// Package pipeline moves batches from sources through stages to a producer,
// and positions back: a source's position follows the delivery reports and
// nothing else. It declares what it needs of its neighbours as interfaces.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
)

// Source reads records into the lanes of a pipeline.
type Source interface {
	// Run reads until ctx ends or, for a source that has an end, until all is
	// submitted. It returns when all its goroutines have ended. Each lane is
	// used by one goroutine of the source at a time.
	Run(ctx context.Context, lanes []record.Lane) error
	// Checkpoint appends the positions that changed since the last call. It is
	// safe to call while Run runs, and afterwards.
	Checkpoint(dst []record.Checkpoint) []record.Checkpoint
}

// Stage is one configured plugin.
type Stage interface {
	// Name is the stage's name in the configuration.
	Name() string
	// Run passes the batches of one lane from in to out, in order, each applied
	// whole. It returns nil when in is closed and everything is out, else ctx's
	// error. It never closes out. Lanes run concurrently.
	Run(ctx context.Context, lane int, in <-chan *record.Batch, out chan<- *record.Batch) error
}

// Producer is a pipeline's own share of a producer.
type Producer interface {
	// Reserve waits until n bytes of the accumulator are free, and takes them.
	Reserve(ctx context.Context, n int64) error
	// Adjust takes n more bytes, or gives -n back, without waiting.
	Adjust(n int64)
	// Send takes over the delivery of rows of b. Every row is delivered or
	// refused once, through r; until then b must not change. An error is ctx's: the rows that were not taken stay unresolved.
	Send(ctx context.Context, b *record.Batch, rows []uint32, r record.Resolution) error
}

// Quarantine keeps records that can't be delivered.
type Quarantine interface {
	// Put returns once the rows that failures name are durable.
	Put(ctx context.Context, b *record.Batch, failures []record.Failure) error
}

// Config is what a pipeline needs to know.
type Config struct {
	Name      string
	Topic     string // where records go unless an interceptor says otherwise
	Lanes     int    // ordering domains; at least 1
	MaxBlock  int    // bytes of the largest block that a source may ask for
	OnFailure FailurePolicy
	MaxAhead  int64   // records of a lane that may pass one that is not resolved; at least record.MaxRows
	Window    *Window // stops the sources while positions can't be stored; shared with the Checkpointer
}

// Pipeline is one configured pipeline. Its parts start and end with Run.
type Pipeline struct {
	config     Config
	sources    []Source
	stages     []Stage
	producer   Producer
	quarantine Quarantine
	metrics    *metric.Table
	log        *slog.Logger

	slab     slab
	lanes    []*lane
	refusals *refusals
}

// New puts a pipeline together and starts nothing.
func New(c Config, sources []Source, stages []Stage, producer Producer, quarantine Quarantine, metrics *metric.Table, log *slog.Logger) *Pipeline {
	p := &Pipeline{
		config: c, sources: sources, stages: stages, producer: producer,
		quarantine: quarantine, metrics: metrics, log: log.With("pipeline", c.Name),
	}
	p.refusals = newRefusals(p)
	for n := range max(1, c.Lanes) {
		p.lanes = append(p.lanes, newLane(n, p))
	}
	return p
}

// Run moves records until soft ends or every source has ended; what is in
// flight then is still delivered, as long as hard does not end. It returns nil when nothing is left in flight.
func (p *Pipeline) Run(soft, hard context.Context) error {
	work, stopWork := context.WithCancel(hard)
	defer stopWork()
	group, work := errgroup.WithContext(work)
	group.Go(func() error { p.refusals.run(work); return nil })
	group.Go(func() error { p.report(work); return nil })

	moving, moveContext := errgroup.WithContext(work)
	for _, l := range p.lanes {
		p.runLane(moveContext, moving, l)
	}
	moving.Go(func() error {
		defer p.closeInputs()
		return p.runSources(soft, moveContext)
	})
	err := moving.Wait()
	if err == nil {
		err = p.drain(hard)
	}
	stopWork()
	if end := group.Wait(); err == nil {
		err = end
	}
	if lost := p.unawaited(); err != nil && lost > 0 {
		p.log.Warn("records may be lost: the end came before a broker had them, and send is \"fire_and_forget\"", "records", lost)
	}
	if hard.Err() != nil && errors.Is(err, hard.Err()) {
		return fmt.Errorf("pipeline %s: stopped with %d records not acknowledged: %w", p.config.Name, p.InFlight(), context.Cause(hard))
	}
	return err
}

// runLane starts the goroutines of a lane, each feeding the next.
func (p *Pipeline) runLane(ctx context.Context, group *errgroup.Group, l *lane) {
	in := make(chan *record.Batch, stageDepth)
	first := in
	group.Go(func() error { return l.head(ctx, first) })
	for _, s := range p.stages {
		out := make(chan *record.Batch, stageDepth)
		from := in
		group.Go(func() error {
			defer close(out)
			return s.Run(ctx, l.number, from, out)
		})
		in = out
	}
	last := in
	group.Go(func() error { return l.tail(ctx, last) })
}

// runSources runs all sources until soft or work ends.
func (p *Pipeline) runSources(soft, work context.Context) error {
	ctx, cancel := context.WithCancel(soft)
	defer cancel()
	defer context.AfterFunc(work, cancel)()
	lanes := make([]record.Lane, len(p.lanes))
	for i, l := range p.lanes {
		lanes[i] = l
	}
	var group errgroup.Group
	for _, s := range p.sources {
		group.Go(func() error {
			err := s.Run(ctx, lanes)
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return nil
			}
			return err
		})
	}
	return group.Wait()
}

func (p *Pipeline) closeInputs() {
	for _, l := range p.lanes {
		close(l.input)
	}
}

// drain waits until every record is resolved and out of the producer's hands,
// which comes later where positions move before delivery.
func (p *Pipeline) drain(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for p.held() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// held returns how many records are in memory.
func (p *Pipeline) held() int64 {
	var n int64
	for _, l := range p.lanes {
		n += l.held.Load()
	}
	return n
}

// unawaited returns how many records are in memory whose positions have moved.
func (p *Pipeline) unawaited() int64 {
	for _, l := range p.lanes {
		if l.accepts.Load() {
			return p.held() - int64(p.InFlight())
		}
	}
	return 0
}

// InFlight returns how many records are read and not resolved. Safe for
// concurrent use.
func (p *Pipeline) InFlight() int {
	records, _ := p.state()
	return records
}

func (p *Pipeline) state() (records int, oldest time.Duration) {
	now := time.Now()
	for _, l := range p.lanes {
		n, age := l.tracker.state(now)
		records += n
		oldest = max(oldest, age)
	}
	return records, oldest
}

// Name is the pipeline's name in the configuration.
func (p *Pipeline) Name() string { return p.config.Name }

// Problem says why the pipeline holds its records back, "" when it does not. It
// may quote a broker or a plugin. Safe for concurrent use.
func (p *Pipeline) Problem() string { return p.refusals.gate.reason() }

// OldestUnacknowledged is the age of the oldest record in flight, 0 when there
// is none. Safe for concurrent use.
func (p *Pipeline) OldestUnacknowledged() time.Duration {
	_, oldest := p.state()
	return oldest
}

// report keeps the gauges of the pipeline.
func (p *Pipeline) report(ctx context.Context) {
	inflight := p.metrics.InflightRecords.WithLabelValues(p.config.Name)
	oldest := p.metrics.OldestUnackedSeconds.WithLabelValues(p.config.Name)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	set := func() {
		records, age := p.state()
		inflight.Set(float64(records))
		oldest.Set(age.Seconds())
	}
	defer set()
	for {
		set()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// observe counts records that a broker has taken, which were submitted at a time.
func (p *Pipeline) observe(topic string, records, bytes int, submitted time.Time) {
	label := p.metrics.TopicLabel(p.config.Name, topic)
	p.metrics.DeliveredRecords.WithLabelValues(p.config.Name, label).Add(float64(records))
	p.metrics.DeliveredBytes.WithLabelValues(p.config.Name, label).Add(float64(bytes))
	p.metrics.DeliverySeconds.WithLabelValues(p.config.Name).Observe(time.Since(submitted).Seconds())
}
