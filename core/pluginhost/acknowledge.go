package pluginhost

import (
	"context"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"

	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

const (
	// acknowledgedKept is how many ranges wait for the plugin; what comes above is dropped and counted.
	acknowledgedKept = 4096
	// acknowledgedAtOnce is how many ranges one message has at most.
	acknowledgedAtOnce = 1024
	// acknowledgeInterval is the least time between two messages: what comes meanwhile is joined.
	acknowledgeInterval = 50 * time.Millisecond
	// lastAcknowledgements bounds the time for what is left at the end of a process or stage.
	lastAcknowledgements = time.Second
	// maxReason bounds, in bytes, why a record was refused.
	maxReason = 1 << 10
)

// acknowledgement is what became of some records of one partition.
type acknowledgement struct {
	topic     string
	partition int32
	first     int64 // offset; -1: not known
	count     uint32
	reason    string // why they were refused; "": delivered
}

// follows reports whether a is the continuation of before.
func (a *acknowledgement) follows(before *acknowledgement) bool {
	if a.topic != before.topic || a.partition != before.partition || a.reason != before.reason || before.count > math.MaxUint32-a.count {
		return false
	}
	if a.first < 0 {
		return before.first < 0
	}
	return before.first >= 0 && a.first == before.first+int64(before.count)
}

// place is a partition of a topic.
type place struct {
	topic     string
	partition int32
}

// acknowledgements keeps what became of records until a process takes it: a
// bounded queue between the producer, which never waits, and the plugin. It is
// safe for concurrent use.
type acknowledgements struct {
	ready chan struct{} // holds a token when there may be something to take

	mu      sync.Mutex
	waiting []acknowledgement // guarded by mu: oldest first
	last    map[place]int     // guarded by mu: index in waiting of each partition's newest
	dropped uint64            // guarded by mu: records since the last take
}

func newAcknowledgements() *acknowledgements {
	return &acknowledgements{ready: make(chan struct{}, 1), last: make(map[place]int)}
}

// add queues a, joined to the newest of its partition where it continues that.
// It returns how many records had to be dropped.
func (q *acknowledgements) add(a acknowledgement) (dropped uint32) {
	at := place{topic: a.topic, partition: a.partition}
	q.mu.Lock()
	defer q.mu.Unlock()
	if n, known := q.last[at]; known && a.follows(&q.waiting[n]) {
		q.waiting[n].count += a.count
		return 0
	}
	if len(q.waiting) == acknowledgedKept {
		q.dropped += uint64(a.count)
		return a.count
	}
	q.last[at] = len(q.waiting)
	q.waiting = append(q.waiting, a)
	q.signal()
	return 0
}

// signal says that there may be something to take.
func (q *acknowledgements) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take returns the oldest and what was dropped since the last call; nil: there is nothing.
func (q *acknowledgements) take() *wirev1.Acknowledgements {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 && q.dropped == 0 {
		return nil
	}
	n := min(len(q.waiting), acknowledgedAtOnce)
	m := &wirev1.Acknowledgements{Dropped: q.dropped, Ranges: make([]*wirev1.Acknowledgement, n)}
	for i, a := range q.waiting[:n] {
		m.Ranges[i] = &wirev1.Acknowledgement{
			Topic: a.topic, Partition: a.partition, FirstOffset: a.first, Count: a.count, Error: a.reason,
		}
	}
	q.waiting, q.dropped = append(q.waiting[:0], q.waiting[n:]...), 0
	clear(q.last)
	for i := range q.waiting {
		q.last[place{topic: q.waiting[i].topic, partition: q.waiting[i].partition}] = i
	}
	if len(q.waiting) > 0 {
		q.signal()
	}
	return m
}

// WantsAcknowledgements reports whether the plugin wants to be told what became
// of records; Start has returned.
func (s *Stage) WantsAcknowledgements() bool { return s.describedAs().GetWantsAcknowledgements() }

// Delivered tells the plugin that a partition has count more records, at
// consecutive offsets from first on; -1: their offsets are not known. It never
// waits: what the plugin does not take in time is dropped and counted.
func (s *Stage) Delivered(topic string, partition int32, first int64, count int) {
	s.acknowledge(acknowledgement{topic: topic, partition: partition, first: first, count: uint32(count)})
}

// Refused tells the plugin that a record can never be delivered. It never waits.
func (s *Stage) Refused(topic string, partition int32, reason string) {
	s.acknowledge(acknowledgement{topic: topic, partition: partition, first: -1, count: 1, reason: sanitize(reason, maxReason)})
}

func (s *Stage) acknowledge(a acknowledgement) {
	if dropped := s.acknowledged.add(a); dropped > 0 {
		s.metrics.acknowledgementsDropped.Add(float64(dropped))
	}
}

// tellAcknowledgements passes what is queued to the supervisor's process, and to
// the next one when it breaks, until ctx ends. What a process took and did not
// handle is not told again. Where a stage has several instances, one of them is
// told of each range.
func (v *supervisor) tellAcknowledgements(ctx context.Context) {
	pauses := doubling{first: firstRetry, most: mostRetry}
	for v.stage.acknowledged.await(ctx) {
		i, err := v.acquire(ctx)
		if err != nil {
			return
		}
		err = v.tellInstance(ctx, i)
		i.users.Done()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil || i.isBroken():
			pauses.reset()
			continue
		}
		v.logger.Warn("the plugin can't be told what became of records", "error", err)
		if !pause(ctx, pauses.next()) {
			return
		}
	}
}

// await waits until there may be something to take, which it leaves to the
// taker. It returns false at ctx's end, unless there is still something.
func (q *acknowledgements) await(ctx context.Context) bool {
	select {
	case <-q.ready:
	case <-ctx.Done():
		select {
		case <-q.ready:
		default:
			return false
		}
	}
	q.signal()
	return true
}

// tellInstance opens a stream and sends on it until the process breaks or is replaced, or ctx ends.
func (v *supervisor) tellInstance(ctx context.Context, i *instance) error {
	conn, err := i.dial(v.stage.host.transport)
	if err != nil {
		return err
	}
	defer conn.Close()
	streaming, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	ending := make(chan struct{}) // closed when what is left is to be sent at once
	watching.Go(func() {
		defer cancel()
		select {
		case <-i.broken:
			return
		case <-streaming.Done():
			return
		case <-i.retiring:
		case <-ctx.Done():
		}
		close(ending)
		// A plugin that takes nothing must not hold back the end.
		timer := time.NewTimer(lastAcknowledgements)
		defer timer.Stop()
		select {
		case <-i.broken:
		case <-streaming.Done():
		case <-timer.C:
		}
	})
	stream, err := wirev1.NewPluginClient(conn).Acknowledge(streaming)
	if err != nil {
		return err
	}
	return v.stage.acknowledged.send(stream, ending)
}

// send sends what is queued until ending is closed or the stream ends.
func (q *acknowledgements) send(stream grpc.ClientStreamingClient[wirev1.Acknowledgements, wirev1.Empty], ending <-chan struct{}) error {
	tick := time.NewTicker(acknowledgeInterval)
	defer tick.Stop()
	for last := false; ; {
		if m := q.take(); m != nil {
			if err := stream.Send(m); err != nil {
				_, err = stream.CloseAndRecv() // which knows why
				return err
			}
			select {
			case <-tick.C:
			case <-ending:
			case <-stream.Context().Done():
			}
			continue
		}
		if last {
			_, err := stream.CloseAndRecv()
			return err
		}
		select {
		case <-q.ready:
		case <-ending:
			last = true
		case <-stream.Context().Done():
			last = true
		}
	}
}
