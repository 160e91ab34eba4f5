package socket

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/socket/framing"
)

// connection is one peer of a stream socket. Its goroutine reads, cuts and appends
// in turn, so that what it has accepted is a prefix of what was sent.
type connection struct {
	source *Source
	wire   *wire
	cutter *framing.Cutter
	peer   string

	account    account
	unfinished atomic.Bool // it waits for the rest of a frame

	// Owned by the connection's goroutine.
	taken    int64     // records that the spool has taken
	eager    bool      // there may be something to read, so read before waiting
	bulk     bool      // the last read filled its buffer
	permit   bool      // of turns
	active   time.Time // when something was read last, or the agent made it wait
	begun    time.Time // when the unfinished frame began, without what the agent made it wait
	leaving  bool      // the agent ends, and the peer was told
	left     time.Time // when it was
	refusing bool      // the socket takes nothing more, so its end is not the peer's
	deadline time.Time // as the socket knows it
}

// run reads until the peer or the agent ends it, and closes the socket.
func (c *connection) run(soft, hard context.Context) {
	defer c.wire.Close()
	if !c.secure(soft) {
		return
	}
	err := c.read(soft, hard)
	if c.permit {
		c.source.turns.returnPermit()
	}
	c.conclude(hard, err)
}

// secure does TLS's handshake.
func (c *connection) secure(soft context.Context) bool {
	if c.source.certificates == nil {
		return true
	}
	c.wire.waits = true
	secure := tls.Server(c.wire, c.source.certificates.config())
	ctx, cancel := context.WithTimeout(soft, c.source.patience.handshake)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		if soft.Err() == nil {
			c.source.meter.drop(dropHandshake, 1)
			c.source.notices.say(slog.LevelWarn, "tls handshake failed", "peer", c.peer, "error", err)
		}
		return false
	}
	c.wire.waits, c.wire.secure = false, secure
	c.eager = true // what came with the handshake is in the TLS connection's buffer
	return true
}

// read returns why the connection ends; never nil.
func (c *connection) read(soft, hard context.Context) error {
	c.active = time.Now()
	for {
		if err := c.wait(soft, hard); err != nil {
			return err
		}
		if err := c.takeTurn(hard); err != nil {
			return err
		}
	}
}

// Why a connection ends that its peer did not end.
var (
	errIdle    = errors.New("nothing was sent for idle_timeout")
	errSlow    = errors.New("a frame was not complete in time")
	errStopped = errors.New("the agent stops")
)

// wait returns when there may be something to read.
func (c *connection) wait(soft, hard context.Context) error {
	for {
		if soft.Err() != nil && !c.leaving {
			c.leave()
		}
		if c.leaving {
			c.refuse()
		}
		if hard.Err() != nil {
			return errStopped
		}
		now := time.Now()
		limit, why := c.limit()
		if !limit.IsZero() && !now.Before(limit) {
			return why
		}
		if c.eager {
			return nil
		}
		c.unfinished.Store(c.cutter.Begun() > 0)
		c.setDeadline(limit)
		if soft.Err() != nil && !c.leaving {
			continue // the deadline that was to wake it may have been replaced
		}
		if err := c.wire.wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

// limit returns until when the peer has to send something, and what it is if it does not.
func (c *connection) limit() (time.Time, error) {
	begun := c.cutter.Begun() > 0
	switch {
	case c.leaving:
		end := c.left.Add(c.source.patience.stop)
		if quiet := c.active.Add(c.source.patience.quiet); !begun && quiet.Before(end) {
			end = quiet
		}
		return end, errStopped
	case begun:
		return c.begun.Add(c.source.patience.frame), errSlow
	case c.source.config.IdleTimeout > 0:
		return c.active.Add(c.source.config.IdleTimeout), errIdle
	default:
		return time.Time{}, nil
	}
}

// setDeadline moves the socket's deadline, which costs a timer each time: where it
// stands a little too early, the loop of wait finds out.
func (c *connection) setDeadline(limit time.Time) {
	if limit.IsZero() && c.deadline.IsZero() {
		return
	}
	early := limit.Sub(c.deadline)
	if !c.deadline.IsZero() && !limit.IsZero() && time.Now().Before(c.deadline) && early >= 0 && early < c.source.config.IdleTimeout/8 && !c.leaving {
		return
	}
	c.deadline = limit
	_ = c.wire.SetReadDeadline(limit) // fails on a closed socket, which the next read says
}

// leave tells the peer that this end stops: a TCP peer sees the end of the stream.
func (c *connection) leave() {
	c.leaving, c.deadline, c.left = true, time.Time{}, time.Now()
	c.active = c.left
	if c.wire.secure != nil {
		_ = c.wire.secure.CloseWrite() // fails where the peer is gone, which the next read says
	} else if tcp, is := c.wire.Conn.(*net.TCPConn); is {
		_ = tcp.CloseWrite()
	}
}

// refuse lets a unix socket take nothing more, once no frame has begun. What it has
// taken is still read, so its peer knows exactly what it has not sent.
func (c *connection) refuse() {
	if local, is := c.wire.Conn.(*net.UnixConn); is && !c.refusing && c.cutter.Begun() == 0 {
		c.refusing = local.CloseRead() == nil
	}
}

// takeTurn reads once, cuts what came and appends it.
func (c *connection) takeTurn(hard context.Context) error {
	waited := time.Now()
	t, room, err := c.borrow(hard)
	if err != nil {
		return errStopped
	}
	defer t.giveBack()
	now := time.Now()
	c.excuse(now.Sub(waited))
	n, err := c.wire.next(t.buffer[:room])
	c.bulk = n == room
	// A full socket says nothing about its rest, and neither does TLS's record.
	c.eager = n == room || c.wire.secure != nil && n > 0
	if n > 0 {
		c.active = now
		if failed := c.take(hard, t.buffer[:n], t.entries, now); failed != nil {
			return failed
		}
	}
	if c.permit && c.cutter.Begun() <= smallBuffer {
		c.source.turns.returnPermit()
		c.permit = false
	}
	if errors.Is(err, errNothing) || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// excuse gives the peer the time that it waited for the agent.
func (c *connection) excuse(waited time.Duration) {
	c.begun = c.begun.Add(waited)
	c.active = c.active.Add(waited)
}

// borrow takes a turn and says how much of its buffer may be used: a large one for a
// connection that filled a small one or is in the midst of a frame that does not fit it.
func (c *connection) borrow(ctx context.Context) (t *turn, room int, err error) {
	turns, begun := c.source.turns, c.cutter.Begun()
	full := begun >= smallBuffer
	if !c.permit && (c.bulk || full) {
		c.permit = turns.permit(ctx, full)
		if full && !c.permit {
			return nil, 0, ctx.Err()
		}
	}
	if c.permit {
		t, err = turns.takeLarge(ctx)
		return t, largeBuffer, err
	}
	t, err = turns.takeSmall(ctx)
	return t, smallBuffer - begun, err
}

// take cuts what was read into frames and appends them, those before a broken one
// too. Behind a frame that was not taken none is: they are counted alone.
func (c *connection) take(ctx context.Context, chunk []byte, entries []spool.Entry, now time.Time) error {
	within := c.cutter.Begun() > 0
	var broken, failed error
	for more := true; more; {
		var frame []byte
		frame, chunk, more, broken = c.cutter.Next(chunk)
		if more {
			entries = append(entries, spool.Entry{Peer: c.peer, Time: now.UnixMilli(), Value: frame})
			within = false
		}
		if len(entries) == cap(entries) || !more && len(entries) > 0 {
			if failed == nil {
				failed = c.append(ctx, entries)
			} else {
				c.source.meter.drop(dropReason(failed), len(entries))
			}
			entries = entries[:0]
		}
	}
	if !within {
		c.begun = time.Now()
	}
	if failed != nil {
		return failed
	}
	return broken
}

// dropReason is what a record counts as that follows one which was not taken.
func dropReason(failed error) string {
	if errors.Is(failed, errStopped) {
		return dropStopped
	}
	return dropFailed
}

// append waits until the spool has taken the records.
func (c *connection) append(ctx context.Context, entries []spool.Entry) error {
	waited := time.Now()
	taken, end, err := c.source.keep(ctx, c.source.config.Spool.Put, entries)
	c.excuse(time.Since(waited))
	p := portion{end: end, records: int64(taken)}
	for _, e := range entries[:taken] {
		p.bytes += int64(len(e.Value))
	}
	if taken > 0 {
		c.taken += p.records
		c.account.settle(c.source.config.Spool.Durable())
		c.account.add(p)
	}
	return err
}

// conclude counts what the end leaves unfinished and says what the operator has to know.
func (c *connection) conclude(hard context.Context, why error) {
	if errors.Is(why, io.EOF) && !c.refusing {
		if frame, ok := c.cutter.Finish(); ok {
			if err := c.append(hard, []spool.Entry{{Peer: c.peer, Time: time.Now().UnixMilli(), Value: frame}}); err != nil {
				why = err
			}
		}
	}
	level, reason := slog.LevelDebug, ""
	if c.cutter.Begun() > 0 {
		reason = dropPartial
	}
	var broken *framing.Error
	switch {
	case errors.As(why, &broken):
		level, reason = slog.LevelWarn, string(broken.Reason)
	case errors.Is(why, errSlow):
		level, reason = slog.LevelWarn, dropSlow
	case reason != "":
		level = slog.LevelInfo
	}
	if reason != "" {
		c.source.meter.drop(reason, 1)
	}
	c.source.log.Debug("connection ended", "peer", c.peer, "why", why, "records", c.taken)
	if level > slog.LevelDebug {
		c.source.notices.say(level, "a connection ended within a frame, which is lost", "peer", c.peer,
			"why", why, "reason", reason, "records_before", c.taken)
	}
}
