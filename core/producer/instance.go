package producer

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/barnabas-agent/barnabas/core/watchdog"
)

const (
	// landingTime is how long messages in flight may still be answered before they are given up and sent again.
	landingTime = 2 * time.Second
	// purgeTime bounds the wait for the reports of purged messages.
	purgeTime = 5 * time.Second
)

// instance is one librdkafka client and the goroutine that serves its events.
// Flush is never called: it polls beside that goroutine, and the order of the
// reports would be lost.
type instance struct {
	client      *kafka.Producer
	alive       sync.RWMutex // held for reading while anyone but the owner uses client; for writing by close
	closed      bool         // under alive
	log         *slog.Logger
	events      instanceEvents
	pulse       *watchdog.Pulse // of serve
	outstanding atomic.Int64    // messages handed over and not reported
	landed      atomic.Int64    // messages reported as delivered
	fatal       atomic.Bool
	problem     atomic.Pointer[string] // why no broker is reached; nil: one answers
	served      chan struct{}          // closed when the serving goroutine has ended
	logged      chan struct{}          // likewise for the one that takes the library's log
}

// instanceEvents is what an instance calls; none of it may block.
type instanceEvents struct {
	report func(*instance, *kafka.Message) // by the serving goroutine, in the order of the reports
	fatal  func()                          // by any goroutine, once
}

// startInstance creates a client and serves its events until close.
func startInstance(properties kafka.ConfigMap, log *slog.Logger, pulse *watchdog.Pulse, events instanceEvents) (*instance, error) {
	client, err := kafka.NewProducer(&properties)
	if err != nil {
		return nil, err
	}
	i := &instance{
		client: client, log: log, events: events, pulse: pulse,
		served: make(chan struct{}), logged: make(chan struct{}),
	}
	go i.serve()
	go i.serveLog()
	return i, nil
}

func (i *instance) serve() {
	defer close(i.served)
	defer i.pulse.Begin()()
	for {
		event, ok := i.next()
		if !ok {
			return
		}
		switch e := event.(type) {
		case *kafka.Message:
			i.outstanding.Add(-1)
			if e.TopicPartition.Error == nil {
				i.landed.Add(1)
				i.connected()
			}
			i.events.report(i, e)
		case kafka.Error:
			i.takeError(e)
		}
	}
}

// next returns the next event, false after the last one. Between events it
// answers for the loop: a select of two channels costs more than a receive.
func (i *instance) next() (event kafka.Event, ok bool) {
	events := i.client.Events()
	select {
	case event, ok = <-events:
		return event, ok
	default:
	}
	for {
		select {
		case event, ok = <-events:
			return event, ok
		case <-i.pulse.Asked():
		}
	}
}

// takeError keeps what the client says of its connections.
func (i *instance) takeError(e kafka.Error) {
	if e.IsFatal() {
		i.fail(e.Error())
		return
	}
	i.log.Debug("kafka client", "error", e.Error())
	if code := e.Code(); code == kafka.ErrAllBrokersDown || verdictOf(code) == configuration {
		reason := e.Error()
		i.problem.Store(&reason)
	}
}

// connected says that a broker has answered.
func (i *instance) connected() {
	if i.problem.Load() != nil {
		i.problem.Store(nil)
	}
}

// trouble says why no broker is reached, "" when one answers.
func (i *instance) trouble() string {
	if reason := i.problem.Load(); reason != nil {
		return *reason
	}
	return ""
}

// fail marks the instance as one that delivers nothing any more.
func (i *instance) fail(reason string) {
	if i.fatal.CompareAndSwap(false, true) {
		i.log.Warn("kafka client is to be replaced", "reason", reason)
		i.events.fatal()
	}
}

// serveLog passes the library's log on until its channel is closed with the
// client, without its opinion on the settings, which are ours, and without
// fatal errors, which fail tells.
func (i *instance) serveLog() {
	defer close(i.logged)
	limit := newLogLimit(time.Now)
	for {
		select {
		case line, ok := <-i.client.Logs():
			if !ok {
				return
			}
			if line.Tag != "CONFWARN" && line.Tag != "FATAL" && limit.allow(line.Tag) {
				i.log.Log(context.Background(), logLevel(line.Level), "librdkafka", "tag", line.Tag, "message", line.Message)
			}
		case <-i.served:
			return
		}
	}
}

// logLevel maps syslog's severities, of which the library's errors are no more than a connection that it will try again.
func logLevel(severity int) slog.Level {
	switch {
	case severity <= 2:
		return slog.LevelError
	case severity <= 4:
		return slog.LevelWarn
	case severity == 5:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

// settle waits until every message handed over is reported. What is queued is
// purged at once, what is in flight after landingTime. It returns false where reports are still missing.
func (i *instance) settle(ctx context.Context) bool {
	// The errors of Purge mean a closed client or wrong flags.
	_ = i.client.Purge(kafka.PurgeQueue | kafka.PurgeNonBlocking)
	if i.reported(ctx, landingTime) {
		return true
	}
	_ = i.client.Purge(kafka.PurgeQueue | kafka.PurgeInFlight | kafka.PurgeNonBlocking)
	return i.reported(ctx, purgeTime)
}

func (i *instance) reported(ctx context.Context, d time.Duration) bool {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i.outstanding.Load() > 0 {
		select {
		case <-tick.C:
		case <-deadline.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// query runs f with the client, unless that is closed. f must be short: close waits for it.
func (i *instance) query(f func(*kafka.Producer)) {
	i.alive.RLock()
	defer i.alive.RUnlock()
	if !i.closed {
		f(i.client)
	}
}

// close ends the client and its goroutines, once. Reports that have not come are lost: their records are unresolved.
func (i *instance) close() {
	i.alive.Lock()
	again := i.closed
	i.closed = true
	i.alive.Unlock()
	if again {
		<-i.served
		<-i.logged
		return
	}
	_ = i.client.Purge(kafka.PurgeQueue | kafka.PurgeInFlight | kafka.PurgeNonBlocking)
	i.client.Close()
	<-i.served
	<-i.logged
}

// logLimit lets one line per tag pass in ten seconds: an outage makes many.
type logLimit struct {
	now  func() time.Time
	last map[string]time.Time
}

func newLogLimit(now func() time.Time) *logLimit {
	return &logLimit{now: now, last: make(map[string]time.Time)}
}

func (l *logLimit) allow(tag string) bool {
	now := l.now()
	if last, seen := l.last[tag]; seen && now.Sub(last) < 10*time.Second {
		return false
	}
	l.last[tag] = now
	return true
}
