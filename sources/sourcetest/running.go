package sourcetest

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// deadline bounds every wait of a test.
const deadline = 20 * time.Second

// Eventually waits until met returns true, and fails the test after a deadline.
func Eventually(t testing.TB, met func() bool, format string, args ...any) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timeout := time.NewTimer(deadline)
	defer timeout.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-timeout.C:
			t.Fatalf("waited in vain for "+format, args...)
		}
	}
}

// Source is what the agent drives: a pipeline's source, with the descriptors it
// holds until the last checkpoint is taken.
type Source interface {
	Run(ctx context.Context, lanes []record.Lane) error
	Checkpoint(dst []record.Checkpoint) []record.Checkpoint
	Close() error
}

// Running is a source whose Run goes on.
type Running struct {
	t      testing.TB
	source Source
	cancel context.CancelFunc
	ended  chan error // of one element
	done   bool
	err    error
}

// Start runs the source until Stop, or the test's end.
func Start(t testing.TB, s Source, lanes ...record.Lane) *Running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Running{t: t, source: s, cancel: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- s.Run(ctx, lanes) }()
	t.Cleanup(func() {
		r.Stop()
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return r
}

// Stop ends Run softly and fails the test if that is an error or takes too long.
func (r *Running) Stop() {
	r.t.Helper()
	r.cancel()
	if err := r.Wait(); err != nil {
		r.t.Errorf("Run: %v", err)
	}
}

// Wait returns what Run returns.
func (r *Running) Wait() error {
	r.t.Helper()
	if !r.done {
		timeout := time.NewTimer(deadline)
		defer timeout.Stop()
		select {
		case r.err = <-r.ended:
			r.done = true
		case <-timeout.C:
			r.t.Fatal("Run does not return")
		}
	}
	return r.err
}

// Positions stand in for the durable store.
type Positions map[string][]byte

// Commit takes what changed in the source, and tells a source that wants to know.
func (p Positions) Commit(s Source) {
	for _, c := range s.Checkpoint(nil) {
		if c.Value == nil {
			delete(p, c.Key)
		} else {
			p[c.Key] = c.Value
		}
	}
	if told, ok := s.(interface{ Committed() }); ok {
		told.Committed()
	}
}

// Saved returns all positions, ordered by key.
func (p Positions) Saved() []record.Checkpoint {
	saved := make([]record.Checkpoint, 0, len(p))
	for key, value := range p {
		saved = append(saved, record.Checkpoint{Key: key, Value: value})
	}
	slices.SortFunc(saved, func(a, b record.Checkpoint) int { return strings.Compare(a.Key, b.Key) })
	return saved
}
