package pipeline

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// retryBlocked is how often a record that blocks its pipeline is tried again.
const retryBlocked = 10 * time.Second

// FailurePolicy says what becomes of a record that can never be delivered.
type FailurePolicy string

const (
	QuarantineRecord FailurePolicy = "quarantine"
	DropRecord       FailurePolicy = "drop"
	BlockPipeline    FailurePolicy = "block"
)

// mostReasons bounds the codes that a pipeline's metrics tell apart.
const mostReasons = 64

// refusal is one row that a stage or the broker refused.
type refusal struct {
	batch   *inflight
	failure record.Failure
}

// refusals carries out the pipeline's policy for rows that can't go on. Rows are
// added from any goroutine, also from the one that serves delivery reports, and
// handled by one worker, which may wait for a disk.
type refusals struct {
	pipeline *Pipeline
	retries  sync.WaitGroup      // goroutines of block, started by run alone
	reasons  map[string]struct{} // labels in use; owned by run

	mu      sync.Mutex
	waiting []refusal
	blocked int           // rows that block the pipeline
	open    chan struct{} // closed while nothing blocks
	added   chan struct{} // holds a token when waiting may not be empty
}

func newRefusals(p *Pipeline) *refusals {
	open := make(chan struct{})
	close(open)
	return &refusals{pipeline: p, open: open, added: make(chan struct{}, 1), reasons: make(map[string]struct{})}
}

// add takes a refused row. It does not block; the queue is bounded by the rows in flight.
func (r *refusals) add(f *inflight, failure record.Failure) {
	r.mu.Lock()
	r.waiting = append(r.waiting, refusal{batch: f, failure: failure})
	// Only the producer's refusals are subject to on_failure: a stage applies its own on_error.
	if r.pipeline.config.OnFailure == BlockPipeline && failure.Stage == record.StageProducer {
		if r.blocked == 0 {
			r.open = make(chan struct{})
		}
		r.blocked++
	}
	r.mu.Unlock()
	select {
	case r.added <- struct{}{}:
	default:
	}
}

// wait returns once no record blocks the pipeline.
func (r *refusals) wait(ctx context.Context) error {
	r.mu.Lock()
	open := r.open
	r.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run handles refused rows until ctx ends.
func (r *refusals) run(ctx context.Context) {
	defer r.retries.Wait()
	for {
		select {
		case <-r.added:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		batch := r.waiting
		r.waiting = nil
		r.mu.Unlock()
		r.handle(ctx, batch)
	}
}

func (r *refusals) handle(ctx context.Context, refused []refusal) {
	for start := 0; start < len(refused); {
		f := refused[start].batch
		end := start
		for end < len(refused) && refused[end].batch == f {
			end++
		}
		r.handleBatch(ctx, f, refused[start:end])
		start = end
	}
}

// handleBatch applies the policies to refused rows of one batch.
func (r *refusals) handleBatch(ctx context.Context, f *inflight, refused []refusal) {
	var keep, drop, block []record.Failure
	for _, one := range refused {
		switch {
		case one.failure.Stage != record.StageProducer:
			keep = append(keep, one.failure)
		case r.pipeline.config.OnFailure == DropRecord:
			drop = append(drop, one.failure)
		case r.pipeline.config.OnFailure == BlockPipeline:
			block = append(block, one.failure)
		default:
			keep = append(keep, one.failure)
		}
	}
	if len(block) > 0 {
		r.block(ctx, f, block)
	}
	if len(drop) > 0 {
		r.pipeline.log.Warn("records dropped: they can't be delivered, and on_failure is \"drop\"", "records", len(drop), first(drop))
		f.finish(rowsOf(drop))
	}
	if len(keep) > 0 {
		r.quarantine(ctx, f, keep)
	}
}

// rowsOf returns the rows of failures, in ascending order.
func rowsOf(failures []record.Failure) []uint32 {
	rows := make([]uint32, len(failures))
	for i, failure := range failures {
		rows[i] = failure.Row
	}
	slices.Sort(rows)
	return rows
}

// first describes one of several failures for the log.
func first(failures []record.Failure) slog.Attr {
	return slog.Group("first", "stage", failures[0].Stage, "code", failures[0].Code, "error", failures[0].Message)
}

// quarantine stores rows until that works: a position never passes a record that is nowhere.
func (r *refusals) quarantine(ctx context.Context, f *inflight, failures []record.Failure) {
	pause := 100 * time.Millisecond
	for {
		err := r.pipeline.quarantine.Put(ctx, f.batch, failures)
		if err == nil {
			break
		}
		r.pipeline.log.Error("quarantine can't be written: its records wait, and so do their positions", "error", err, "retry_in", pause)
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, 10*time.Second)
	}
	for _, failure := range failures {
		r.pipeline.metrics.QuarantinedRecords.WithLabelValues(r.pipeline.config.Name, r.reason(failure.Code)).Inc()
	}
	r.pipeline.log.Warn("records quarantined", "records", len(failures), first(failures))
	f.finish(rowsOf(failures))
}

// reason is the metrics' label for a code. Stages make codes up, so their number is bounded.
func (r *refusals) reason(code string) string {
	if _, known := r.reasons[code]; known {
		return code
	}
	if len(r.reasons) >= mostReasons {
		return "other"
	}
	r.reasons[code] = struct{}{}
	return code
}

// block holds the pipeline until the rows have been delivered after all.
func (r *refusals) block(ctx context.Context, f *inflight, failures []record.Failure) {
	r.pipeline.log.Error("pipeline blocked: records can't be delivered, and on_failure is \"block\"",
		"records", len(failures), first(failures), "retry_in", retryBlocked)
	rows := rowsOf(failures)
	r.retries.Go(func() {
		if sleep(ctx, retryBlocked) {
			// An error means that ctx has ended: the rows stay unresolved.
			_ = r.pipeline.producer.Send(ctx, f.batch, rows, &unblock{Resolution: f, refusals: r})
		}
	})
}

// unblock is the resolution of rows that block their pipeline.
type unblock struct {
	record.Resolution
	refusals *refusals
}

// Delivered opens the pipeline again.
func (u *unblock) Delivered(rows []uint32) {
	u.Resolution.Delivered(rows)
	u.refusals.unblocked(len(rows))
}

// Refused keeps it blocked.
func (u *unblock) Refused(f record.Failure) {
	u.Resolution.Refused(f)
	u.refusals.unblocked(1)
}

func (r *refusals) unblocked(rows int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blocked -= rows
	if r.blocked == 0 {
		close(r.open)
	}
}

// sleep waits for d; it returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
