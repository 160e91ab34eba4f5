package producer

import (
	"context"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/barnabas-agent/barnabas/core/record"
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
type dispatcher struct {
	producer *Producer
	message  kafka.Message           // reused: Produce keeps nothing of it
	broken   map[*partition]struct{} // produce nothing until recovered
	replaced int                     // instances in a row that delivered nothing
}

// run produces deliveries until ctx ends.
func (d *dispatcher) run(ctx context.Context) {
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
		case <-ctx.Done():
			return
		}
	}
}

// produce hands a chunk to the client, or leaves it queued where its partition is broken.
func (d *dispatcher) produce(ctx context.Context, c *chunk) {
	if !c.partition.enqueue(c) {
		d.accepted(c)
		return
	}
	inst := d.producer.mainInstance()
	inst.outstanding.Add(int64(len(c.rows)))
	m := &d.message
	m.TopicPartition = kafka.TopicPartition{Topic: &c.partition.topic.name, Partition: c.partition.number}
	last := len(c.rows) - 1
	for n, row := range c.rows {
		message(m, c.batch, int(row))
		m.Opaque = nil
		if n == last {
			m.Opaque = c
		}
		if err := d.handOver(ctx, inst, m); err != nil {
			inst.outstanding.Add(-int64(len(c.rows) - n))
			d.notTaken(inst, c, n, err)
			break
		}
	}
	d.accepted(c)
}

// handOver calls Produce, again while the client's queue is full.
func (d *dispatcher) handOver(ctx context.Context, inst *instance, m *kafka.Message) error {
	for {
		err := inst.client.Produce(m, nil)
		if err == nil || codeOf(err) != kafka.ErrQueueFull || inst.fatal.Load() {
			return err
		}
		pause := time.NewTimer(fullPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

// notTaken deals with a chunk of which the client took only n records.
func (d *dispatcher) notTaken(inst *instance, c *chunk, n int, err error) {
	code := codeOf(err)
	if code == kafka.ErrMsgSizeTooLarge && len(c.rows) == 1 {
		c.partition.withdraw(c)
		c.resolution.Refused(record.Failure{Row: c.rows[0], Stage: record.StageProducer, Code: codeName(code), Message: err.Error()})
		return
	}
	c.partition.unproduced(len(c.rows)-n, code, err.Error())
	d.broken[c.partition] = struct{}{}
	if verdictOf(code) == replace {
		inst.fail(err.Error())
	}
}

// accepted moves the positions of a chunk that nobody waits for.
func (d *dispatcher) accepted(c *chunk) {
	if c.client.mode == FireAndForget && !c.accepted {
		c.accepted = true
		c.resolution.Accepted(c.rows)
	}
}

// heal replaces the instance if it failed, and recovers the partitions whose time has come.
func (d *dispatcher) heal(ctx context.Context) {
	if d.producer.mainInstance().fatal.Load() {
		d.replace(ctx)
		return
	}
	for _, p := range d.producer.takeBroken() {
		d.broken[p] = struct{}{}
	}
	now := time.Now()
	for p := range d.broken {
		if p.postpone(now) {
			d.recover(ctx, p)
			if ctx.Err() != nil || d.producer.mainInstance().fatal.Load() {
				return
			}
		}
	}
}

// replace gives the instance up and produces everything unresolved again with a new one, oldest first.
func (d *dispatcher) replace(ctx context.Context) {
	old := d.producer.mainInstance()
	if !old.settle(ctx) {
		d.producer.log.Warn("reports are missing from the client that is replaced: their records are sent again", "records", old.outstanding.Load())
	}
	d.replaced++
	if old.landed.Load() > 0 {
		d.replaced = 0
	}
	old.close()
	for {
		if d.replaced > 0 && !pause(ctx, min(retryFirst<<min(d.replaced, 10), retryMost)) {
			return
		}
		next, err := d.producer.startMain()
		if err == nil {
			d.producer.setMain(next)
			break
		}
		d.replaced++
		d.producer.log.Error("kafka client can't be created", "error", err)
	}
	d.producer.takeBroken()
	clear(d.broken)
	for _, t := range d.producer.topology.list() {
		for _, p := range t.all() {
			d.recover(ctx, p)
		}
	}
}

// recover produces the unresolved records of a partition again, in order. Up to
// the last suspect among them each is sent alone and awaited.
func (d *dispatcher) recover(ctx context.Context, p *partition) {
	delete(d.broken, p)
	tired := p.tired()
	again, delivered := p.unresolved()
	for _, c := range delivered {
		c.resolution.Delivered(c.rows)
	}
	if len(again) == 0 && p.trouble() == "" {
		return
	}
	alone := lastSuspect(again)
	if tired && alone < 0 && len(again) > 0 {
		alone = 0
	}
	for n, c := range again {
		c.codes = nil
		if n > alone {
			continue
		}
		if err := d.deliverEach(ctx, c); err != nil {
			return
		}
	}
	perRecord := p.mend()
	if perRecord {
		d.producer.log.Error("delivery reports of a partition did not fit: its records are sent again and accounted for one by one",
			"topic", p.topic.name, "partition", p.number)
	}
	for _, c := range again[alone+1:] {
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

// deliverEach sends the rows of a chunk one by one.
func (d *dispatcher) deliverEach(ctx context.Context, c *chunk) error {
	for n, row := range c.rows {
		if c.batch.Key.Kind(int(row)) == record.Null {
			if failure, bad := d.keyNeeded(ctx, c, int(row)); bad {
				c.resolution.Refused(failure)
				continue
			}
		}
		_, failure, err := d.producer.deliverAlone(ctx, c.partition, c.batch, int(row))
		if err != nil {
			return err
		}
		if failure != nil {
			c.resolution.Refused(*failure)
			continue
		}
		c.resolution.Delivered(c.rows[n : n+1])
	}
	return nil
}

// keyNeeded finds out whether a record without key was refused because of the topic's compaction.
func (d *dispatcher) keyNeeded(ctx context.Context, c *chunk, i int) (record.Failure, bool) {
	var needed bool
	var err error
	d.producer.mainInstance().query(func(client *kafka.Producer) {
		needed, err = c.partition.topic.learnKeyNeeded(ctx, client)
	})
	if err != nil {
		d.producer.log.Debug("the topic's configuration is not known", "topic", c.partition.topic.name, "error", err)
	}
	if !needed {
		return record.Failure{}, false
	}
	return refuse(c.partition.topic, int32(c.partition.topic.count()), c.batch, i)
}

// lastSuspect returns the index of the last chunk that holds a suspect, -1 when none does.
func lastSuspect(chunks []*chunk) int {
	for n := len(chunks) - 1; n >= 0; n-- {
		for _, code := range chunks[n].codes {
			if verdictOf(code) == suspect {
				return n
			}
		}
	}
	return -1
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
