package quarantine

import (
	"context"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// Intake puts refused rows of a pipeline's batches into its store. It is safe
// for concurrent use.
type Intake struct {
	store    *Store // not owned
	pipeline string
	now      func() time.Time
}

// NewIntake makes the intake of a pipeline; now is the clock that entries are
// stamped by.
func NewIntake(store *Store, pipeline string, now func() time.Time) *Intake {
	return &Intake{store: store, pipeline: pipeline, now: now}
}

// Put returns once the rows that failures name are durable; see [Store.Append]
// for what an error means.
func (in *Intake) Put(ctx context.Context, b *record.Batch, failures []record.Failure) error {
	now := in.now()
	entries := make([]Entry, len(failures))
	for i, failure := range failures {
		entries[i] = FromBatch(in.pipeline, b, failure, now)
	}
	return in.store.Append(ctx, entries)
}
