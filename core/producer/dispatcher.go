package producer

import (
	"context"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/barnabas-agent/barnabas/core/crashpoint"
	"github.com/barnabas-agent/barnabas/core/watchdog"
)

const (
	// healEvery is how often partitions that wait for their recovery are looked at.
	healEvery = 10 * time.Millisecond
	// fullPause is the wait for room in librdkafka's queue.
	fullPause = time.Millisecond
)

// dispatcher is the one goroutine that calls Produce, so that the order in which
// a partition's records are handed over is their order, over all lanes and
// pipelines. It also puts right what failed.
//
// A partition that is broken queues what comes for it. It is in broken until
// all that was handed over for it is reported and its pause is over, or in
// recovering while its suspects are sent one by one; the others go on meanwhile.
type dispatcher struct {
	producer *Producer
	message  kafka.Message // reused: Produce keeps nothing of it
	pulse    *watchdog.Pulse

	broken     map[*partition]struct{}
	recovering map[*partition]struct{}
	recoveries sync.WaitGroup
	replaced   int // clients in a row that delivered nothing
}

func newDispatcher(p *Producer) *dispatcher {
	return &dispatcher{producer: p, pulse: p.config.pulse("dispatcher"), broken: make(map[*partition]struct{}), recovering: make(map[*partition]struct{})}
}

// run produces deliveries until ctx ends.
func (d *dispatcher) run(ctx context.Context) {
	defer d.recoveries.Wait()
	defer d.pulse.Begin()()
	tick := time.NewTicker(healEvery)
	defer tick.Stop()
	for {
		var heal <-chan time.Time
		if len(d.broken) > 0 {
			heal = tick.C
		}
		select {
		case chunks := <-d.producer.deliveries:
			for _, c := range chunks {
				d.produce(ctx, c)
			}
		case <-d.producer.wake:
			d.heal(ctx)
		case <-heal:
			d.heal(ctx)
		case <-d.pulse.Asked():
		case <-ctx.Done():
			return
		}
	}
}

// produce hands a chunk to the client, or leaves it queued where its partition is broken.
func (d *dispatcher) produce(ctx context.Context, c *chunk) {
	rows := c.rows // the chunk is not ours any more once its last record is handed over
	if c.partition.enqueue(c) {
		crashpoint.At("producer.produce")
		d.handOver(ctx, c, rows)
		crashpoint.At("producer.produced")
	}
	// The reports may have come by now: a resolution takes Accepted after Delivered,
	// and reports do not look at accepted.
	if c.client.mode == FireAndForget && !c.accepted {
		c.accepted = true
		c.resolution.Accepted(rows)
	}
}

// handOver produces the records of a chunk; the last one carries the marker.
func (d *dispatcher) handOver(ctx context.Context, c *chunk, rows []uint32) {
	inst := d.producer.mainInstance()
	inst.outstanding.Add(int64(len(rows)))
	m := &d.message
	m.TopicPartition = kafka.TopicPartition{Topic: &c.partition.topic.name, Partition: c.partition.number}
	m.Opaque = nil
	last := len(rows) - 1
	for n, row := range rows {
		message(m, c.batch, int(row))
		if n == last {
			m.Opaque = c
		}
		if err := d.handOverRecord(ctx, inst, m); err != nil {
			code := codeOf(err)
			inst.outstanding.Add(-int64(len(rows) - n))
			c.partition.unproduced(c, len(rows)-n, code, err.Error())
			d.broken[c.partition] = struct{}{}
			if verdictOf(code) == replace {
				inst.fail(err.Error())
			}
			return
		}
	}
}

// handOverRecord calls Produce, again while the client's queue is full.
func (d *dispatcher) handOverRecord(ctx context.Context, inst *instance, m *kafka.Message) error {
	for {
		err := inst.client.Produce(m, nil)
		if err == nil || codeOf(err) != kafka.ErrQueueFull || inst.fatal.Load() {
			return err
		}
		d.pulse.Answer() // the queue stays full as long as no broker takes anything
		if !pause(ctx, fullPause) {
			return ctx.Err()
		}
	}
}

// heal replaces the instance if it failed, and recovers the partitions whose time has come.
func (d *dispatcher) heal(ctx context.Context) {
	d.collect()
	if d.producer.mainInstance().fatal.Load() {
		d.replace(ctx)
		return
	}
	now := time.Now()
	for p := range d.broken {
		if p.due(now) {
			d.recover(ctx, p)
			if ctx.Err() != nil || d.producer.mainInstance().fatal.Load() {
				return
			}
		}
	}
}

// collect takes the partitions that broke, and those whose suspects are resolved.
func (d *dispatcher) collect() {
	broken, resolved := d.producer.takeBroken()
	for _, p := range resolved {
		delete(d.recovering, p)
		d.broken[p] = struct{}{}
	}
	for _, p := range broken {
		if _, busy := d.recovering[p]; !busy {
			d.broken[p] = struct{}{}
		}
	}
}

// replace gives the instance up and produces everything unresolved again with a
// new one, oldest first. Partitions whose records failed by an error of their
// own, of which one ends the instance for all, wait as after any other error.
func (d *dispatcher) replace(ctx context.Context) {
	old := d.producer.mainInstance()
	if !old.settle(ctx) && ctx.Err() == nil {
		d.producer.log.Warn("reports are missing from the client that is replaced: their records are sent again", "records", old.outstanding.Load())
	}
	old.close()
	d.collect()
	innocent, explained := d.abandon()
	if explained || old.landed.Load() > 0 {
		d.replaced = 0
	}
	if !d.startAnew(ctx) {
		return
	}
	for _, p := range innocent {
		d.recover(ctx, p)
	}
}

// abandon takes back what the instance did not deliver. The partitions at fault
// are broken from here on; the others are returned. explained says that there were any at fault.
func (d *dispatcher) abandon() (innocent []*partition, explained bool) {
	clear(d.broken)
	for _, t := range d.producer.topology.list() {
		for _, p := range t.all() {
			if _, busy := d.recovering[p]; busy {
				continue
			}
			if p.abandon() {
				d.broken[p] = struct{}{}
				explained = true
			} else {
				innocent = append(innocent, p)
			}
		}
	}
	return innocent, explained
}

// startAnew starts an instance, after a pause where the last one delivered
// nothing and no partition explains why. It returns false when ctx ends first.
func (d *dispatcher) startAnew(ctx context.Context) bool {
	for {
		d.pulse.Answer()
		if d.replaced > 0 && !pause(ctx, backoff(d.replaced-1)) {
			return false
		}
		d.replaced++
		next, err := d.producer.startMain()
		if err == nil {
			d.producer.setMain(next)
			return true
		}
		d.producer.log.Error("kafka client can't be created", "error", err)
	}
}

// recover produces the unresolved records of a partition again, in order. Where
// there are suspects among them, a recovery sends all up to the last suspect
// one by one, and only then is the rest produced.
func (d *dispatcher) recover(ctx context.Context, p *partition) {
	delete(d.broken, p)
	if suspects := p.takeSuspects(); len(suspects) > 0 {
		d.recovering[p] = struct{}{}
		d.recoveries.Go(func() { d.producer.sendAlone(ctx, p, suspects) })
		return
	}
	again, perRecord := p.restart()
	if perRecord && len(again) > 0 {
		d.producer.log.Error("delivery reports of a partition did not fit: its records are sent again and accounted for one by one",
			"topic", p.topic.name, "partition", p.number)
	}
	for _, c := range again {
		if !perRecord {
			d.produce(ctx, c)
			continue
		}
		for n := range c.rows {
			one := *c
			one.rows = c.rows[n : n+1 : n+1]
			d.produce(ctx, &one)
		}
	}
}

// pause waits for t; it returns false when ctx ends first.
func pause(ctx context.Context, t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
