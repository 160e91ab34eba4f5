package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/barnabas-agent/barnabas/core/crashpoint"
	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/watchdog"
)

// CheckpointInterval is the most time that a delivered position stays only in
// memory; after a crash, what was delivered in it is delivered again.
const CheckpointInterval = time.Second

// PositionStore makes positions durable.
type PositionStore interface {
	// Commit returns once all of the positions are durable, or none is.
	Commit(ctx context.Context, positions []record.Checkpoint) error
}

// Committer is a source that acts on what is durable, as one that removes what it
// has delivered.
type Committer interface {
	// Committed says that everything which Checkpoint returned so far is durable. It
	// is called by the goroutine that calls Checkpoint, and must not wait.
	Committed()
}

// Checkpointer commits the positions of sources, in one batch for all of them.
type Checkpointer struct {
	store   PositionStore
	sources []Source
	window  *Window
	metrics CheckpointMetrics
	log     *slog.Logger
	problem atomic.Pointer[string] // why the last commit failed; nil: it did not
	pulse   *watchdog.Pulse        // of Run; nil: nobody asks

	pending map[string]record.Checkpoint // what a failed commit left; owned by Run, then Flush
}

// CheckpointMetrics is what a Checkpointer reports.
type CheckpointMetrics struct {
	Seconds  prometheus.Observer // of each commit that worked
	Failures prometheus.Counter  // commits that did not
	Unstored prometheus.Gauge    // seconds since the oldest position that is not durable was taken
}

// NewCheckpointer makes a checkpointer over all sources of the agent. It opens
// and closes the window, which may be nil.
func NewCheckpointer(store PositionStore, sources []Source, window *Window, metrics CheckpointMetrics, log *slog.Logger) *Checkpointer {
	return &Checkpointer{store: store, sources: sources, window: window, metrics: metrics, log: log, pending: make(map[string]record.Checkpoint)}
}

// Watch sets the pulse of Run; it is called before Run.
func (c *Checkpointer) Watch(p *watchdog.Pulse) { c.pulse = p }

// Run commits once per CheckpointInterval until ctx ends. A commit that fails is
// logged once and tried again with the next.
func (c *Checkpointer) Run(ctx context.Context) {
	defer c.pulse.Begin()()
	var reporting sync.WaitGroup
	defer reporting.Wait()
	reporting.Go(func() { c.report(ctx) })
	tick := time.NewTicker(CheckpointInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.pulse.Asked():
			continue
		case <-ctx.Done():
			return
		}
		err := c.Flush(ctx)
		if ctx.Err() != nil {
			return // what is left is the last Flush's
		}
		c.note(err)
	}
}

// report keeps the gauge, also while a commit hangs.
func (c *Checkpointer) report(ctx context.Context) {
	tick := time.NewTicker(CheckpointInterval)
	defer tick.Stop()
	for {
		age, _ := c.window.state()
		c.metrics.Unstored.Set(age.Seconds())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// note tells the log of the first failure and of the end of it.
func (c *Checkpointer) note(err error) {
	failing := c.problem.Load() != nil
	switch {
	case err != nil:
		text := err.Error()
		c.problem.Store(&text)
		c.metrics.Failures.Inc()
		if !failing {
			c.log.Error("positions can't be stored: after a crash, records would be delivered again from the last stored ones", "error", err)
		}
	case failing:
		c.problem.Store(nil)
		c.log.Info("positions are stored again")
	}
}

// Problem says why positions can't be stored, and whether that keeps sources from
// reading; "" when they can. Safe for concurrent use.
func (c *Checkpointer) Problem() string {
	age, held := c.window.state()
	text := c.problem.Load()
	switch {
	case held && text != nil:
		return fmt.Sprintf("nothing more is read until it works again, which it has not for %s: %s", age.Round(time.Second), *text)
	case held:
		return fmt.Sprintf("nothing more is read until the disk answers, which it has not for %s", age.Round(time.Second))
	case text != nil:
		return *text
	}
	return ""
}

// Flush commits what changed since the last commit. It must not run beside Run.
func (c *Checkpointer) Flush(ctx context.Context) error {
	var changed []record.Checkpoint
	for _, s := range c.sources {
		changed = s.Checkpoint(changed)
	}
	for _, one := range changed {
		c.pending[one.Key] = one
	}
	if len(c.pending) == 0 {
		c.committed()
		return nil
	}
	batch := make([]record.Checkpoint, 0, len(c.pending))
	for _, one := range c.pending {
		batch = append(batch, one)
	}
	start := time.Now()
	c.window.begin()
	crashpoint.At("pipeline.positions.collected")
	if err := c.store.Commit(ctx, batch); err != nil {
		return err
	}
	crashpoint.At("pipeline.positions.stored")
	c.window.end()
	c.metrics.Seconds.Observe(time.Since(start).Seconds())
	clear(c.pending)
	c.committed()
	return nil
}

// committed tells the sources that want to know.
func (c *Checkpointer) committed() {
	for _, s := range c.sources {
		if s, asks := s.(Committer); asks {
			s.Committed()
		}
	}
}
