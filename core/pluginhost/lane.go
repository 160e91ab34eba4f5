package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/barnabas-agent/barnabas/core/record"
)

const (
	window         = 3               // batches that a lane keeps between its input and its output
	canaryInterval = 5 * time.Second // idle time after which a lane asks whether the plugin still answers
	firstRetry     = time.Second     // before a batch is given to the plugin again without a restart
	mostRetry      = 30 * time.Second
	shortestRetry  = 100 * time.Millisecond // that a plugin can ask for
	longestRetry   = 5 * time.Minute        // likewise
	noticeInterval = 10 * time.Second
	hangUpTime     = time.Second // for the plugin to end its side of a stream
	slowAfter      = time.Second // after which a batch that is not answered is reported
)

// Run passes the batches of one lane from in to out, in order. A batch is the
// lane's until a complete, valid reply to it has been applied: it outlives any
// number of processes. Run returns nil when in is closed and all batches are
// out, else ctx's error. It is called once per lane, between Start and Close.
func (s *Stage) Run(ctx context.Context, number int, in <-chan *record.Batch, out chan<- *record.Batch) error {
	l := &lane{
		stage: s, supervisor: s.supervisors[number%len(s.supervisors)], number: uint32(number), fed: make(chan *piece), out: out,
		retries: doubling{first: firstRetry, most: mostRetry},
		notices: rate.Sometimes{First: 1, Interval: noticeInterval},
	}
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return l.feed(ctx, in) })
	both.Go(func() error { return l.pump(ctx) })
	return both.Wait()
}

// lane is one ordering domain of a stage.
type lane struct {
	stage      *Stage
	supervisor *supervisor // of the instance that the lane belongs to
	number     uint32
	fed        chan *piece          // from feed, which closes it
	out        chan<- *record.Batch // not owned

	// The rest belongs to pump and the session that it runs.
	pending []*piece        // not answered yet, oldest first
	done    []*record.Batch // answered, not handed over yet
	drained bool            // fed is closed: nothing follows pending
	lastID  uint64          // of the last batch sent; canaries repeat it
	retries doubling        // of batches that come again without a restart
	notices rate.Sometimes  // bounds what is logged about them

	questioned bool     // pieces of pending are in question, which the supervisor knows
	atWork     []*piece // what the plugin had got and not answered when the last session ended, oldest first
	alone      bool     // that was one piece, and no other lane had any there
}

// piece is what one frame carries: a batch, or a part of one that does not fit a frame.
type piece struct {
	batch  *record.Batch
	rows   []uint32     // for the plugin; none: the batch passes by
	counts []topicCount // that the plugin must know before
	last   bool         // the batch is done with this piece

	sends   uint32 // times that it was posted; only run writes it, and only before it posts
	crashes int    // processes that broke with it unanswered; such a piece is sent by itself
	suspect bool   // a record in it is taken to break the plugin
}

// feed makes a piece of each batch, decides what the host can decide alone, and
// waits for partition counts, so that replies keep flowing meanwhile.
func (l *lane) feed(ctx context.Context, in <-chan *record.Batch) error {
	defer close(l.fed)
	for {
		select {
		case b, ok := <-in:
			if !ok {
				return nil
			}
			p, err := l.stage.prepare(ctx, b)
			if err != nil {
				return err
			}
			select {
			case l.fed <- p:
			case <-ctx.Done():
				return ctx.Err()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pump runs sessions, one after the other, until everything is out.
func (l *lane) pump(ctx context.Context) error {
	defer l.giveUp()
	for {
		i, err := l.supervisor.acquire(ctx)
		if err != nil {
			return err
		}
		again, err := l.use(ctx, i)
		if again == nil || err != nil {
			return err
		}
		l.wait(ctx, again)
	}
}

// giveUp takes back what the supervisor knows of a lane that ends.
func (l *lane) giveUp() {
	if l.questioned {
		l.questioned = false
		l.supervisor.question(-1)
	}
}

// use runs one session. What is pending comes again where it returns a retry;
// neither a retry nor an error: everything is out.
func (l *lane) use(ctx context.Context, i *instance) (again *retry, err error) {
	defer i.users.Done()
	err = l.session(ctx, i)
	var broken *brokenError
	switch {
	case err == nil:
		return nil, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &broken):
		i.fail(broken.reason, broken.Error(), l)
	case !errors.As(err, &again):
		return nil, err
	}
	if i.isBroken() {
		select {
		case <-i.buried:
			l.conclude(i)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		again = &retry{reason: "the process broke", now: true}
	}
	return again, nil
}

// wait leaves the plugin alone for a while before the same batches come again.
func (l *lane) wait(ctx context.Context, r *retry) {
	if r.now {
		return
	}
	length := l.retries.next()
	if r.after > 0 {
		length = min(max(r.after, shortestRetry), longestRetry)
	}
	l.notices.Do(func() {
		l.stage.logger.Error("a batch waits and comes again", "lane", l.number, "reason", r.reason, "pause", length)
	})
	l.supervisor.note(r.reason)
	l.stage.waiting.Add(1)
	defer l.stage.waiting.Add(-1)
	l.stage.waits.Add(1)
	pause(ctx, length)
}

// retry ends a session whose process is well: what is pending comes again.
type retry struct {
	reason string
	after  time.Duration // 0: the lane's own backoff
	now    bool          // without a pause
}

// Error gives the reason.
func (r *retry) Error() string { return r.reason }

// brokenError ends a session whose process must be replaced.
type brokenError struct {
	reason string // label of the metric of restarts
	err    error
}

// Error says what broke.
func (e *brokenError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *brokenError) Unwrap() error { return e.err }

// brokenf makes a [*brokenError] with the label of its restart.
func brokenf(reason, format string, args ...any) error {
	return &brokenError{reason: reason, err: fmt.Errorf(format, args...)}
}
