package pluginhost

import "time"

// Clock is the time by which a host decides when to start a process again.
// It is used by several goroutines at once.
type Clock interface {
	Now() time.Time
	// After returns a channel that gets one value once d has passed, and a
	// function that ends the wait early; it must be called.
	After(d time.Duration) (elapsed <-chan time.Time, stop func())
}

// systemClock is the machine's own clock.
type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) After(d time.Duration) (<-chan time.Time, func()) {
	timer := time.NewTimer(d)
	return timer.C, func() { timer.Stop() }
}
