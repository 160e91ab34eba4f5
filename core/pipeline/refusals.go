package pipeline

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/barnabas-agent/barnabas/core/crashpoint"
	"github.com/barnabas-agent/barnabas/core/record"
)

const (
	// retryBlocked is how often a record that blocks its pipeline is tried again.
	retryBlocked = 10 * time.Second
	// mostReasons bounds the codes that a pipeline's metrics tell apart.
	mostReasons = 64
)

// FailurePolicy says what becomes of a record that can never be delivered.
type FailurePolicy string

const (
	QuarantineRecord FailurePolicy = "quarantine"
	DropRecord       FailurePolicy = "drop"
	BlockPipeline    FailurePolicy = "block"
)

// refusal is one row that a stage or the broker refused.
type refusal struct {
	batch   *inflight
	failure record.Failure
}

// refusals carries out the pipeline's policy for rows that can't go on. Rows are
// added from any goroutine, also from the one that serves delivery reports, and
// handled by one worker, which may wait for a disk.
type refusals struct {
	pipeline    *Pipeline
	gate        *gate
	retries     sync.WaitGroup      // goroutines of block, started by run alone
	reasons     map[string]struct{} // labels in use; owned by run
	dropped     notice              // owned by run
	quarantined notice              // likewise

	mu      sync.Mutex
	waiting []refusal
	added   chan struct{} // holds a token when waiting may not be empty
}

func newRefusals(p *Pipeline) *refusals {
	return &refusals{
		pipeline: p, gate: newGate(), added: make(chan struct{}, 1), reasons: make(map[string]struct{}),
		dropped:     notice{log: p.log, text: "records dropped: they can't be delivered, and on_failure is \"drop\""},
		quarantined: notice{log: p.log, text: "records quarantined"},
	}
}

// add takes a refused row. It does not block; the queue is bounded by the rows in flight.
func (r *refusals) add(f *inflight, failure record.Failure) {
	// Before anybody can open it again.
	if r.policy(failure) == BlockPipeline {
		r.gate.hold("on_failure is \"block\", and a record can't be delivered: " + failure.Code + ": " + failure.Message)
	}
	r.mu.Lock()
	r.waiting = append(r.waiting, refusal{batch: f, failure: failure})
	r.mu.Unlock()
	select {
	case r.added <- struct{}{}:
	default:
	}
}

// policy is what becomes of a refused row. Only the producer's refusals are
// subject to on_failure: a stage has applied its own on_error before.
func (r *refusals) policy(failure record.Failure) FailurePolicy {
	if failure.Stage != record.StageProducer {
		return QuarantineRecord
	}
	return r.pipeline.config.OnFailure
}

// run handles refused rows until ctx ends.
func (r *refusals) run(ctx context.Context) {
	defer r.retries.Wait()
	defer r.dropped.flush()
	defer r.quarantined.flush()
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
		switch r.policy(one.failure) {
		case DropRecord:
			drop = append(drop, one.failure)
		case BlockPipeline:
			block = append(block, one.failure)
		default:
			keep = append(keep, one.failure)
		}
	}
	if len(block) > 0 {
		r.block(ctx, f, block)
	}
	if len(drop) > 0 {
		r.drop(f, drop)
	}
	if len(keep) > 0 {
		r.quarantine(ctx, f, keep)
	}
}

// drop resolves rows that the configuration gives up.
func (r *refusals) drop(f *inflight, failures []record.Failure) {
	r.pipeline.metrics.StageRecords.
		WithLabelValues(r.pipeline.config.Name, record.StageProducer, record.Drop.String()).Add(float64(len(failures)))
	r.dropped.tell(failures)
	f.finish(rowsOf(failures))
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

// quarantine stores rows until that works: a position never passes a record that
// is nowhere. Until then the pipeline is held, since all that it delivers
// meanwhile would be delivered again after a crash.
func (r *refusals) quarantine(ctx context.Context, f *inflight, failures []record.Failure) {
	pause, held := 100*time.Millisecond, false
	for {
		crashpoint.At("pipeline.quarantine")
		err := r.pipeline.quarantine.Put(ctx, f.batch, failures)
		if err == nil {
			crashpoint.At("pipeline.quarantined")
			break
		}
		if ctx.Err() != nil {
			return
		}
		if !held {
			held = true
			r.gate.hold("the quarantine can't be written: " + err.Error())
			defer r.gate.release(1)
		}
		r.pipeline.log.Error("quarantine can't be written: the pipeline waits", "records", len(failures), "error", err, "retry_in", pause)
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, 10*time.Second)
	}
	for _, failure := range failures {
		r.pipeline.metrics.QuarantinedRecords.WithLabelValues(r.pipeline.config.Name, r.reason(failure.Code)).Inc()
	}
	r.quarantined.tell(failures)
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
		"records", len(failures), example(failures[0]), "retry_in", retryBlocked)
	rows := rowsOf(failures)
	r.retries.Go(func() {
		if sleep(ctx, retryBlocked) {
			// An error means that ctx has ended: the rows stay unresolved.
			_ = r.pipeline.producer.Send(ctx, f.batch, rows, &unblock{Resolution: f, gate: r.gate})
		}
	})
}

// unblock is the resolution of rows that block their pipeline.
type unblock struct {
	record.Resolution
	gate *gate
}

// Delivered opens the pipeline again.
func (u *unblock) Delivered(rows []uint32) {
	u.Resolution.Delivered(rows)
	u.gate.release(len(rows))
}

// Refused keeps it blocked: the refusal holds the gate anew before this lets go.
func (u *unblock) Refused(f record.Failure) {
	u.Resolution.Refused(f)
	u.gate.release(1)
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
