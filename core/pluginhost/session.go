package pluginhost

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// session is one stream of a lane to one process. The lane's pieces outlive it.
// One goroutine sends, one receives; what they share with run are channels.
type session struct {
	*lane
	instance *instance
	stream   grpc.BidiStreamingClient[wirev1.Batch, wirev1.Reply]
	rules    wire.Rules

	frames  chan *piece           // to send; closed by run
	sent    chan struct{}         // from send, one per frame handed to the transport
	replies chan *wire.ReplyFrame // from receive, which closes it at the stream's end
	spare   chan *wire.ReplyFrame // frames to receive into
	failed  chan error            // from send and receive, at most one each

	// The rest belongs to run.
	expected []expectation // frames that have no reply yet, oldest first
	begin    time.Time     // when the oldest became the oldest: its time runs from here
	deadline *time.Timer   // of the oldest
	warned   bool          // the oldest has been reported as slow
	waiting  bool          // counted in the instance's busy lanes
	leaving  bool          // the instance retires: nothing more is sent
	sender   bool          // counted in the instance's senders
	hasTurn  bool          // holds the turn of a cautious instance
	usedTurn bool          // something was sent in this turn
	posted   int           // pieces of pending that were sent
	busy     bool          // since the last tick of the canary's clock
}

// expectation is a frame that the plugin has to answer.
type expectation struct {
	piece  *piece
	canary bool
	sent   bool
}

// session opens a stream, replays what is pending, and passes batches until
// everything is out (nil), the process breaks (a [*brokenError]), or the
// pending batches must come again (a [*retry]).
func (l *lane) session(ctx context.Context, i *instance) error {
	l.atWork = nil
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := i.dial(l.stage.host.transport)
	if err != nil {
		return brokenf(reasonStream, "open a connection: %w", err)
	}
	defer conn.Close()
	stream, err := wirev1.NewPluginClient(conn).Lane(ctx)
	if err != nil {
		return brokenf(reasonStream, "open the stream of lane %d: %w", l.number, err)
	}
	x := &session{
		lane: l, instance: i, stream: stream, rules: l.stage.rules(i),
		frames: make(chan *piece, window), sent: make(chan struct{}, window),
		replies: make(chan *wire.ReplyFrame, window), spare: make(chan *wire.ReplyFrame, window+2),
		failed: make(chan error, 2),
	}
	var both sync.WaitGroup
	both.Go(func() { x.send(ctx) })
	both.Go(func() { x.receive(ctx) })
	err = x.run(ctx)
	close(x.frames)
	x.hangUp(ctx, err)
	cancel()
	both.Wait()
	x.leave(err)
	return x.split(err) // not before: nobody encodes the pieces any more
}

// leave notes what was at the plugin when the session ended.
func (x *session) leave(err error) {
	x.markAllSent()
	for _, e := range x.expected {
		if e.sent && !e.canary {
			x.atWork = append(x.atWork, e.piece)
		}
	}
	x.alone = len(x.atWork) == 1 && (x.hasTurn || x.instance.senders.Load() == 1)
	x.rest()
	// The turn of an instance that breaks is kept: nobody else is to be blamed.
	var broken *brokenError
	if x.hasTurn && !errors.As(err, &broken) && !x.instance.isBroken() {
		<-x.instance.turn
	}
}

// hangUp lets the plugin end its side of the stream, so that it never sees two
// streams of one lane. What a process had answered before it broke counts.
func (x *session) hangUp(ctx context.Context, err error) {
	var broken *brokenError
	dying := x.instance.isBroken()
	if errors.As(err, &broken) {
		if broken.reason == reasonReply || broken.reason == reasonHang {
			return
		}
		dying = true
	}
	timer := time.NewTimer(hangUpTime)
	defer timer.Stop()
	for {
		select {
		case frame, ok := <-x.replies:
			if !ok || (dying && !x.salvage(frame)) {
				return
			}
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// send encodes and sends frames in order.
func (x *session) send(ctx context.Context) {
	// What became of the stream only the receiver learns.
	defer func() { _ = x.stream.CloseSend() }()
	encoder := wire.NewEncoder(rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	for p := range x.frames {
		if err := x.sendOne(ctx, encoder, p); err != nil {
			x.failed <- err
			return
		}
		x.sent <- struct{}{} // never blocks: run keeps no more frames than it has room for
	}
}

// sendOne tells the process what the piece needs it to know, then sends the piece.
func (x *session) sendOne(ctx context.Context, encoder *wire.Encoder, p *piece) error {
	limit := x.stage.spec.Timeout
	if len(p.counts) > 0 {
		if err := x.instance.tell(ctx, p.counts, limit); err != nil {
			return brokenf(reasonStream, "%w", err)
		}
	}
	frame, err := encoder.Encode(p.batch, p.rows, x.instance.reads, wire.Frame{Lane: x.number, Attempt: p.sends - 1, Timeout: limit})
	if err != nil {
		return &oversized{piece: p, err: err}
	}
	if err := x.stream.SendMsg(frame); err != nil && !errors.Is(err, io.EOF) { // end of file: the receiver gets the reason
		return brokenf(reasonStream, "send a batch: %w", err)
	}
	return nil
}

// receive reads replies until the stream ends.
func (x *session) receive(ctx context.Context) {
	defer close(x.replies)
	for {
		frame := x.spareFrame()
		if err := x.stream.RecvMsg(frame); err != nil {
			switch {
			case errors.Is(err, io.EOF):
			case exceedsLimit(err):
				x.failed <- &oversized{err: err}
			default:
				x.failed <- brokenf(reasonStream, "%w", err)
			}
			return
		}
		select {
		case x.replies <- frame:
		case <-ctx.Done():
			return
		}
	}
}

// exceedsLimit reports whether the transport, at either end, refused a reply for
// its size. gRPC has one code for this and for quotas of every kind, so its text decides.
func exceedsLimit(err error) bool {
	said := status.Convert(err)
	return said.Code() == codes.ResourceExhausted && strings.Contains(said.Message(), "message larger than max")
}

// spareFrame returns a frame that run is done with, or a new one.
func (x *session) spareFrame() *wire.ReplyFrame {
	select {
	case frame := <-x.spare:
		return frame
	default:
		return &wire.ReplyFrame{}
	}
}

// run is the session's loop: it alone touches the lane's state.
func (x *session) run(ctx context.Context) error {
	x.deadline = time.NewTimer(time.Hour)
	x.deadline.Stop()
	defer x.deadline.Stop()
	canary := time.NewTicker(canaryInterval)
	defer canary.Stop()
	for x.advance(); !x.finished(); x.advance() {
		if x.leaving && len(x.expected) == 0 {
			return &retry{reason: "the plugin is reloaded", now: true}
		}
		select {
		case p, ok := <-x.intake():
			x.accept(p, ok)
		case x.outlet() <- x.oldestDone():
			x.done = append(x.done[:0], x.done[1:]...)
		case <-x.sent:
			x.markSent()
		case frame, ok := <-x.replies:
			if err := x.answer(ctx, frame, ok); err != nil {
				return x.windDown(ctx, err)
			}
		case <-x.deadline.C:
			if len(x.replies) > 0 {
				x.deadline.Reset(slowAfter)
				continue // answered in time; its turn is next
			}
			if err := x.overdue(); err != nil {
				return err
			}
		case <-canary.C:
			x.probe()
		case x.turnstile() <- struct{}{}:
			x.hasTurn = true
		case <-x.retirement():
			x.leaving = true
		case err := <-x.failed:
			if earlier := x.answerQueued(ctx); earlier != nil {
				return earlier
			}
			return err
		case <-x.instance.broken:
			return &retry{reason: "the process broke", now: true}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// answerQueued applies the replies that came before the stream failed: only
// then is the oldest piece that is expected the one that the failure is about.
func (x *session) answerQueued(ctx context.Context) error {
	for len(x.replies) > 0 {
		frame, ok := <-x.replies
		if !ok {
			return nil
		}
		if err := x.answer(ctx, frame, ok); err != nil {
			return err
		}
	}
	return nil
}

// finished reports whether every batch is out.
func (x *session) finished() bool {
	return x.drained && len(x.pending) == 0 && len(x.done) == 0
}

// intake is the lane's input while there is room.
func (x *session) intake() <-chan *piece {
	if x.drained || len(x.pending)+len(x.done) >= window {
		return nil
	}
	return x.fed
}

// outlet is the lane's output while there is something for it.
func (x *session) outlet() chan<- *record.Batch {
	if len(x.done) == 0 {
		return nil
	}
	return x.out
}

// oldestDone is what outlet takes next; nil where outlet is.
func (x *session) oldestDone() *record.Batch {
	if len(x.done) == 0 {
		return nil
	}
	return x.done[0]
}

// accept takes a piece from the feeder, or its end.
func (x *session) accept(p *piece, ok bool) {
	if !ok {
		x.drained = true
		return
	}
	x.busy = true
	x.pending = append(x.pending, p)
}

// advance moves batches that need no reply any more from pending to done, and
// sends pieces while there is room.
func (x *session) advance() {
	for len(x.pending) > 0 && len(x.pending[0].rows) == 0 {
		if x.pending[0].last {
			x.done = append(x.done, x.pending[0].batch)
		}
		x.pending = append(x.pending[:0], x.pending[1:]...)
		x.posted = max(x.posted-1, 0)
		if x.questioned {
			x.recount()
		}
	}
	x.passTurn()
	for x.posted < len(x.pending) && len(x.expected) < x.room() {
		p := x.pending[x.posted]
		x.posted++
		if len(p.rows) > 0 {
			x.lastID = p.batch.ID
			x.countSender()
			x.post(expectation{piece: p})
		}
	}
}

// post sends a frame. There are never more of them than the channel has room for.
func (x *session) post(e expectation) {
	x.expected = append(x.expected, e)
	x.usedTurn = x.hasTurn
	if !x.waiting {
		x.waiting = true
		x.instance.busyLanes.Add(1)
		x.restartClock()
	}
	e.piece.sends++
	x.frames <- e.piece
}

// pop takes the oldest frame off, which has been answered.
func (x *session) pop() expectation {
	oldest := x.expected[0]
	x.expected = append(x.expected[:0], x.expected[1:]...)
	x.instance.lastReply.Store(int64(time.Since(x.instance.configured)))
	if len(x.expected) == 0 {
		x.rest()
	} else {
		x.restartClock()
	}
	return oldest
}

// restartClock gives the oldest expected frame its time.
func (x *session) restartClock() {
	x.begin, x.warned = time.Now(), false
	if limit := x.stage.spec.Timeout; limit > 0 {
		x.deadline.Reset(min(limit, slowAfter))
	}
}

// rest stops the clock of a lane that waits for nothing.
func (x *session) rest() {
	if x.deadline.Stop(); x.waiting {
		x.instance.busyLanes.Add(-1)
	}
	x.waiting = false
}

// overdue decides on the oldest frame when its time is up. A plugin that takes
// one batch at a time makes lanes wait for each other: while it answers other
// lanes, a lane's time is that of as many batches as lanes wait. Long before,
// the plugin is reported as slow.
func (x *session) overdue() error {
	limit := x.stage.spec.Timeout
	waited := time.Since(x.begin)
	if waited >= slowAfter && !x.warned {
		x.warned = true
		x.notices.Do(func() {
			x.stage.logger.Warn("the plugin is slow: a batch is not answered yet", "lane", x.number,
				"records", len(x.expected[0].piece.rows), "waited", waited.Round(time.Millisecond), "timeout", limit)
		})
	}
	now := time.Since(x.instance.configured)
	sinceAny := now - time.Duration(x.instance.lastReply.Load())
	most := limit * time.Duration(x.instance.busyLanes.Load())
	left := max(limit-waited, min(limit-sinceAny, most-waited))
	if left > 0 {
		x.deadline.Reset(left)
		return nil
	}
	what := "a batch"
	if x.expected[0].canary {
		what = "a canary"
	}
	return brokenf(reasonHang, "%s was not answered within %s", what, limit)
}

// probe sends a canary when nothing has happened since the last tick.
func (x *session) probe() {
	if idle := !x.busy && len(x.expected) == 0 && !x.leaving && !x.instance.cautious.Load(); idle && x.instance.debug == nil {
		x.post(expectation{piece: &piece{batch: &record.Batch{ID: x.lastID}}, canary: true})
	}
	x.busy = false
}

// markSent notes that the oldest unsent frame is out of the encoder's hands.
func (x *session) markSent() {
	for n := range x.expected {
		if !x.expected[n].sent {
			x.expected[n].sent = true
			return
		}
	}
}
