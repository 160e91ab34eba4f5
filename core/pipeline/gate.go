package pipeline

import (
	"context"
	"sync"
)

// gate keeps a pipeline's lanes from sending while something holds it. Safe for
// concurrent use.
type gate struct {
	mu      sync.Mutex
	holds   int
	problem string        // why it was held last
	open    chan struct{} // closed while nothing holds
}

func newGate() *gate {
	open := make(chan struct{})
	close(open)
	return &gate{open: open}
}

// hold closes the gate until as many releases.
func (g *gate) hold(problem string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.holds == 0 {
		g.open = make(chan struct{})
	}
	g.holds++
	g.problem = problem
}

// release takes n holds back.
func (g *gate) release(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holds -= n
	if g.holds == 0 {
		close(g.open)
	}
}

// wait returns once nothing holds the gate.
func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reason says why the gate is closed, "" when it is open.
func (g *gate) reason() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.holds == 0 {
		return ""
	}
	return g.problem
}
