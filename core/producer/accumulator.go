package producer

import (
	"context"
	"sync"
	"time"
)

// stalledAfter is how long a pipeline may go without a delivery before it
// borrows nothing from what the others leave unused.
const stalledAfter = time.Second

// accumulator shares buffer_memory out among the pipelines of a producer. Half
// of it is reserved in equal shares, so that a pipeline that is stuck can't take
// what the others need to go on; the other half is lent to whoever makes progress.
type accumulator struct {
	now   func() time.Time
	limit int64 // bytes

	mu       sync.Mutex
	accounts []*account
	turn     int // account that grant looks at next
}

// account is one pipeline's part of the accumulator.
type account struct {
	of       *accumulator
	used     int64
	progress time.Time // when a record was last delivered
	waiting  []*waiter // oldest first
}

type waiter struct {
	n     int64
	ready chan struct{} // closed by grant, under the accumulator's lock
}

func newAccumulator(limit int64, now func() time.Time) *accumulator {
	return &accumulator{limit: limit, now: now}
}

// open adds an account. All accounts are opened before the first is used.
func (a *accumulator) open() *account {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := &account{of: a, progress: a.now()}
	a.accounts = append(a.accounts, c)
	return c
}

// reserve waits until n bytes are free for this account, and takes them. Those
// who wait are served in their order.
func (c *account) reserve(ctx context.Context, n int64) error {
	a := c.of
	a.mu.Lock()
	if len(c.waiting) == 0 && a.fits(c, n) {
		c.used += n
		a.mu.Unlock()
		return nil
	}
	w := &waiter{n: n, ready: make(chan struct{})}
	c.waiting = append(c.waiting, w)
	a.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range c.waiting {
		if c.waiting[i] == w {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			a.grant() // who waited behind it may need less
			return ctx.Err()
		}
	}
	c.used -= n // granted meanwhile
	a.grant()
	return ctx.Err()
}

// adjust takes n bytes more without waiting, or gives -n bytes back.
func (c *account) adjust(n int64) {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.used += n
	if n < 0 {
		c.of.grant()
	}
}

// progressed says that a record of the account was delivered.
func (c *account) progressed() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.progress = c.of.now()
	if len(c.waiting) > 0 {
		c.of.grant()
	}
}

// fits says whether c may take n bytes more. An account that holds nothing
// always may: one batch must pass, however large. So the limit holds but for
// one batch of each pipeline that is larger than the pipeline's share.
func (a *accumulator) fits(c *account, n int64) bool {
	if c.used <= 0 {
		return true
	}
	share := a.limit / 2 / int64(len(a.accounts))
	if c.used+n <= share {
		return true
	}
	if a.now().Sub(c.progress) > stalledAfter {
		return false
	}
	borrowed := max(0, c.used+n-share)
	for _, other := range a.accounts {
		if other != c {
			borrowed += max(0, other.used-share)
		}
	}
	return borrowed <= a.limit-share*int64(len(a.accounts))
}

// grant serves those who wait and now fit, one of each account in turn, so that
// none borrows all that others give back.
func (a *accumulator) grant() {
	for passed := 0; passed < len(a.accounts); {
		c := a.accounts[a.turn]
		a.turn = (a.turn + 1) % len(a.accounts)
		if len(c.waiting) == 0 || !a.fits(c, c.waiting[0].n) {
			passed++
			continue
		}
		passed = 0
		c.used += c.waiting[0].n
		close(c.waiting[0].ready)
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
	}
}

// total returns the bytes that all accounts hold.
func (a *accumulator) total() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	var n int64
	for _, c := range a.accounts {
		n += c.used
	}
	return n
}
