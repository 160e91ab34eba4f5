package socket

import (
	"context"

	"github.com/barnabas-agent/barnabas/core/spool"
)

// Sizes of what connections hold while they read. With their numbers they bound
// the memory of a source, see docs/sockets.md.
const (
	smallBuffer  = 4 << 10 // for a connection of which little is known to be readable
	smallEntries = 64
	smallTurns   = 1024 // 4 MiB, and 3 MiB of entries

	largeBuffer  = 256 << 10 // for one that filled the small one
	largeEntries = 4096
	largeTurns   = 16 // 4 MiB, and 3 MiB of entries

	largeMemory = 64 << 20 // begun frames above smallBuffer, of all connections
)

// turns lends what connections read into. A connection has a turn only while it has
// something to read and until the spool has it, so 10,000 idle ones hold none. Who
// waits is served in order: a fast sender has one turn and stands behind the others again.
type turns struct {
	small, large chan *turn

	// permits are for reading in large pieces. Who is left with the beginning of a
	// frame that is longer than smallBuffer keeps his until the frame's end.
	permits chan struct{}
}

// turn is a buffer on loan, and room for the records in it.
type turn struct {
	buffer  []byte
	entries []spool.Entry // none; its capacity is what one append takes
	home    chan *turn
}

func newTurns(maxFrame int) *turns {
	t := &turns{
		small:   make(chan *turn, smallTurns),
		large:   make(chan *turn, largeTurns),
		permits: make(chan struct{}, max(2, largeMemory/max(1, maxFrame))),
	}
	for range smallTurns {
		t.small <- nil // made when first taken
	}
	for range largeTurns {
		t.large <- nil
	}
	return t
}

func (t *turns) takeSmall(ctx context.Context) (*turn, error) {
	return take(ctx, t.small, smallBuffer, smallEntries)
}

func (t *turns) takeLarge(ctx context.Context) (*turn, error) {
	return take(ctx, t.large, largeBuffer, largeEntries)
}

// take waits for a turn.
func take(ctx context.Context, home chan *turn, buffer, entries int) (*turn, error) {
	select {
	case t := <-home:
		if t == nil {
			t = &turn{buffer: make([]byte, buffer), entries: make([]spool.Entry, 0, entries), home: home}
		}
		return t, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// giveBack lets the next one have the turn. It keeps nothing of what was read.
func (t *turn) giveBack() {
	clear(t.entries[:cap(t.entries)])
	t.home <- t
}

// permit waits for a permit, or takes one if there is one and wait is false.
func (t *turns) permit(ctx context.Context, wait bool) bool {
	select {
	case t.permits <- struct{}{}:
		return true
	default:
	}
	if !wait {
		return false
	}
	select {
	case t.permits <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t *turns) returnPermit() { <-t.permits }
