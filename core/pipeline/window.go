package pipeline

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// UnstoredWindow is how long sources go on reading while delivered positions
// can't be made durable. After a crash, all that was delivered in it comes again.
// A commit is two syncs, which on a disk in trouble may take five seconds each.
const UnstoredWindow = 15 * time.Second

// Window stops sources from reading once a delivered position has not been
// durable for its limit, and lets them go on when all are. What is read already
// is still delivered. Safe for concurrent use; a nil Window never stops anybody.
type Window struct {
	limit time.Duration
	log   *slog.Logger
	gate  *gate

	mu    sync.Mutex
	since time.Time // the oldest position that is not durable was taken; zero: there is none
	held  bool      // the gate is held
}

// NewWindow makes a window that is open.
func NewWindow(limit time.Duration, log *slog.Logger) *Window {
	return &Window{limit: limit, log: log, gate: newGate()}
}

// begin says that there are positions which are not durable yet.
func (w *Window) begin() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		w.since = time.Now()
		// A commit that hangs must stop the sources too, so its end is not waited for.
		time.AfterFunc(w.limit, w.expire)
	}
}

// end says that all positions taken before are durable.
func (w *Window) end() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = time.Time{}
	if w.held {
		w.held = false
		w.gate.release(1)
		w.log.Info("reading goes on: positions are stored again")
	}
}

// expire stops the sources, unless what its timer was set for has ended.
func (w *Window) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() || w.held || time.Since(w.since) < w.limit {
		return
	}
	w.held = true
	w.gate.hold("positions can't be stored")
	w.log.Error("reading has stopped: positions could not be stored for too long, and all that is delivered meanwhile would come again after a crash", "limit", w.limit)
}

// Closed reports that reading has stopped.
func (w *Window) Closed() bool {
	_, held := w.state()
	return held
}

// wait returns once reading is allowed.
func (w *Window) wait(ctx context.Context) error {
	if w == nil {
		return nil
	}
	return w.gate.wait(ctx)
}

// state returns how long a position has not been durable, and whether reading has stopped.
func (w *Window) state() (age time.Duration, held bool) {
	if w == nil {
		return 0, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.since.IsZero() {
		age = time.Since(w.since)
	}
	return age, w.held
}
