package socket

import (
	"context"
	"time"
)

// backoff spaces what is tried again.
type backoff struct{ last time.Duration }

const (
	firstPause = 5 * time.Millisecond
	mostPause  = time.Second
)

func (b *backoff) next() time.Duration {
	b.last = min(mostPause, max(firstPause, 2*b.last))
	return b.last
}

func (b *backoff) reset() { b.last = 0 }

// pause waits for the next try; false says that ctx has ended.
func pause(ctx context.Context, b *backoff) bool {
	timer := time.NewTimer(b.next())
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
