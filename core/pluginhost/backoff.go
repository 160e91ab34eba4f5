package pluginhost

import (
	"context"
	"math/rand/v2"
	"time"
)

// doubling is a backoff: pauses from first to most, each twice the last, 20 % up or down by chance
// and never above most, so that stages that failed together don't come back together. One goroutine uses it.
type doubling struct {
	first, most time.Duration
	tries       int
}

const maxDoublings = 20 // keeps the shift in range; every pause is at its most long before

// next returns the pause before the next attempt.
func (b *doubling) next() time.Duration {
	pause := min(b.first<<min(b.tries, maxDoublings), b.most)
	b.tries++
	return min(time.Duration(float64(pause)*(0.8+0.4*rand.Float64())), b.most)
}

// reset makes the next pause the first again.
func (b *doubling) reset() { b.tries = 0 }

// pause waits, and reports whether it was not ended early by ctx.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
