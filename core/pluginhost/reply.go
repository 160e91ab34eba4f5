package pluginhost

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
)

// answer takes the reply to the oldest frame, or the stream's end.
func (x *session) answer(ctx context.Context, frame *wire.ReplyFrame, ok bool) error {
	if !ok {
		return x.streamEnd()
	}
	if len(x.expected) == 0 {
		return brokenf(reasonReply, "reply breaks rule order: a reply to batch %d, and nothing was sent", frame.Reply.Id)
	}
	if err := x.awaitSent(ctx); err != nil {
		return err
	}
	took := time.Since(x.begin)
	oldest := x.pop()
	if oldest.canary {
		_, err := wire.ApplyReply(oldest.piece.batch, nil, &frame.Reply, x.rules)
		return x.refused(err)
	}
	x.busy = true
	if err := x.apply(oldest.piece, frame, took); err != nil {
		return x.notAnswered(oldest, x.refused(err))
	}
	x.retries.reset()
	x.reuse(frame)
	return nil
}

// salvage applies a reply that had come before the process broke, and reports whether it could.
func (x *session) salvage(frame *wire.ReplyFrame) bool {
	x.markAllSent()
	if len(x.expected) == 0 || !x.expected[0].sent {
		return false
	}
	took := time.Since(x.begin)
	oldest := x.pop()
	return oldest.canary || x.apply(oldest.piece, frame, took) == nil
}

// notAnswered keeps the frame whose reply broke the process as the one that was at work.
func (x *session) notAnswered(e expectation, err error) error {
	var broken *brokenError
	if errors.As(err, &broken) {
		x.expected = slices.Insert(x.expected, 0, e)
	}
	return err
}

// streamEnd is why the stream ended, where the receiver knows.
func (x *session) streamEnd() error {
	select {
	case err := <-x.failed:
		return err
	default:
		return brokenf(reasonStream, "the plugin ended the stream of lane %d", x.number)
	}
}

// awaitSent waits until the oldest frame is out of the encoder's hands: only
// then may its batch change. A plugin that answers before it has read waits.
func (x *session) awaitSent(ctx context.Context) error {
	for !x.expected[0].sent {
		select {
		case <-x.sent:
			x.markSent()
		case <-x.deadline.C:
			if err := x.overdue(); err != nil {
				return err
			}
		case err := <-x.failed:
			return err
		case <-x.instance.broken:
			return &retry{reason: "the process broke", now: true}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// apply changes the batch by the reply, whole or not at all, and does with
// refused records what on_error says.
func (x *session) apply(p *piece, frame *wire.ReplyFrame, took time.Duration) error {
	b := p.batch
	refusedBefore := len(b.Failures)
	rules := x.rules
	if len(p.counts) > 0 {
		rules.Partitions = p.partitions
	}
	outcome, err := wire.ApplyReply(b, p.rows, &frame.Reply, rules)
	if err != nil {
		return err
	}
	if outcome.Adopted > 0 {
		frame.LendTo(b)
	}
	p.rows = nil
	x.instance.answered.Store(true)
	x.supervisor.streak.Store(0)
	if x.stage.spec.OnError == DropRecord {
		dropFailures(b, refusedBefore)
	}
	x.stage.metrics.count(outcome, took)
	return nil
}

// dropFailures turns the failures from the n-th on into dropped rows.
func dropFailures(b *record.Batch, n int) {
	for _, f := range b.Failures[n:] {
		b.Dropped = append(b.Dropped, f.Row)
	}
	b.Failures = b.Failures[:n]
}

// refused sorts what ApplyReply says against a reply.
func (x *session) refused(err error) error {
	var rule *wire.RuleError
	var later *wire.RetryError
	var refused *wire.RefusedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &rule):
		return brokenf(reasonReply, "%w", err)
	case errors.As(err, &later):
		return &retry{reason: err.Error(), after: later.After}
	case errors.As(err, &refused):
		return &retry{reason: err.Error() + " (on_error = \"block\")"}
	default:
		return err
	}
}

// reuse gives a frame back to the receiver.
func (x *session) reuse(frame *wire.ReplyFrame) {
	select {
	case x.spare <- frame:
	default:
	}
}

// windDown lets the plugin finish what it has of a stream whose batches are
// going to come again, so that it never works on two copies at once.
func (x *session) windDown(ctx context.Context, why error) error {
	var again *retry
	if !errors.As(why, &again) || again.now {
		return why
	}
	// No frame is under way: a frame that was posted is sent, or its failure ends the wait below.
	for len(x.expected) > 0 {
		select {
		case <-x.sent:
			x.markSent()
		case frame, ok := <-x.replies:
			if !ok {
				return x.streamEnd()
			}
			x.pop()
			x.reuse(frame)
		case <-x.deadline.C:
			if len(x.replies) > 0 {
				x.deadline.Reset(slowAfter)
				continue
			}
			if err := x.overdue(); err != nil {
				return err
			}
		case err := <-x.failed:
			x.discardQueued()
			return err
		case <-x.instance.broken:
			return &retry{reason: "the process broke", now: true}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return why
}

// discardQueued passes over the replies that came before the stream failed, so
// that the oldest piece that is expected is the one that the failure is about.
func (x *session) discardQueued() {
	for len(x.replies) > 0 {
		frame, ok := <-x.replies
		if !ok {
			return
		}
		x.pop()
		x.reuse(frame)
	}
}

// oversized ends a session because a piece, or the reply to it, does not fit one frame.
type oversized struct {
	piece *piece // nil: the oldest one that is expected
	err   error
}

// Error says how large it is.
func (e *oversized) Error() string { return e.err.Error() }

// split halves a piece that is too large, so that it comes again in two frames;
// a single record that is too large is that record's error. Any other error
// passes. The session's goroutines have ended.
func (x *session) split(err error) error {
	var large *oversized
	if !errors.As(err, &large) {
		return err
	}
	p := large.piece
	if p == nil && len(x.expected) > 0 {
		p = x.expected[0].piece
	}
	at := slices.Index(x.pending, p)
	if at < 0 {
		return brokenf(reasonReply, "reply breaks rule size: %w", err)
	}
	again := &retry{reason: "a batch does not fit a frame", now: true}
	switch {
	case len(p.rows) > 1:
		x.halve(at)
	case x.rules.Block:
		return &retry{reason: large.Error() + " (on_error = \"block\")"}
	default:
		x.stage.reject(p.batch, p.rows, wire.CodeTooLarge, sanitize(large.Error(), maxProblem))
		p.rows = nil
	}
	return again
}
