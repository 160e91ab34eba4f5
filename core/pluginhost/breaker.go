package pluginhost

import (
	"slices"
	"time"
)

const (
	crashLimit  = 5                // unexplained crashes in crashWindow that open the breaker
	crashWindow = 10 * time.Minute // likewise
	halfOpen    = time.Minute      // how long an open breaker waits before it lets a process try
	// mostInARow is how many single records one after the other may be blamed
	// for crashes: a plugin that takes no record between them is at fault itself.
	mostInARow = 16
)

// breaker counts the crashes that no record explains. The zero breaker is
// closed; one goroutine uses it.
type breaker struct {
	crashes []time.Time // within crashWindow of the last one
	trial   bool        // half open: the next crash opens it again
}

// crash counts a crash and reports whether the breaker is open now.
func (b *breaker) crash(now time.Time) bool {
	b.crashes = slices.DeleteFunc(b.crashes, func(at time.Time) bool { return now.Sub(at) >= crashWindow })
	b.crashes = append(b.crashes, now)
	return b.trial || len(b.crashes) >= crashLimit
}

// explain takes the last crash back: a record turned out to be at fault.
func (b *breaker) explain() {
	b.crashes = b.crashes[:max(0, len(b.crashes)-1)]
}

// try makes an open breaker half open.
func (b *breaker) try() { b.trial = true }

// steady closes a half-open breaker: its process has lasted.
func (b *breaker) steady() {
	if b.trial {
		*b = breaker{}
	}
}
