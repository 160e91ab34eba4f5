package producer

import (
	"context"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/barnabas-agent/barnabas/core/record"
)

// sendAlone delivers the records of suspects one by one, each awaited, and
// hands the partition back to the dispatcher. Only a record that is refused by
// itself is known to be at fault. It ends early with ctx.
func (p *Producer) sendAlone(ctx context.Context, part *partition, suspects []*chunk) {
	compaction := compactionCheck{producer: p, topic: part.topic}
	for _, c := range suspects {
		for n, row := range c.rows {
			if c.batch.Key.Kind(int(row)) == record.Null && compaction.refuses(ctx) {
				code, message := refusalWithoutKey(part.topic.name)
				c.client.refuse(c.batch, c.resolution, record.Failure{Row: row, Stage: record.StageProducer, Code: code, Message: message})
				continue
			}
			offset, failure, err := p.deliverAlone(ctx, part, c.batch, int(row))
			if err != nil {
				return
			}
			if failure != nil {
				c.client.refuse(c.batch, c.resolution, *failure)
				continue
			}
			c.client.account.progressed()
			c.client.deliveredAlone(ctx, part, offset)
			c.resolution.Delivered(c.rows[n : n+1])
		}
	}
	part.suspectsResolved()
	p.mu.Lock()
	p.resolved = append(p.resolved, part)
	p.mu.Unlock()
	p.signal()
}

// compactionCheck asks once whether a topic is compacted, which is why its
// brokers refuse records without key: each of them need not be tried then.
type compactionCheck struct {
	producer *Producer
	topic    *topic
	asked    bool
}

func (c *compactionCheck) refuses(ctx context.Context) bool {
	if c.asked {
		return c.topic.keyNeeded()
	}
	c.asked = true
	c.producer.mainInstance().query(func(client *kafka.Producer) {
		if err := c.topic.learnKeyNeeded(ctx, client); err != nil {
			c.producer.log.Debug("the topic's configuration is not known", "topic", c.topic.name, "error", err)
		}
	})
	return c.topic.keyNeeded()
}

// deliverAlone sends one record in a batch of its own and awaits its report. It
// returns a failure where the record is refused for good; everything else is
// tried until ctx ends.
func (p *Producer) deliverAlone(ctx context.Context, part *partition, b *record.Batch, i int) (offset int64, refused *record.Failure, err error) {
	for attempts := 0; ; attempts++ {
		offset, err := p.single.deliver(ctx, part, b, i)
		if err == nil {
			if attempts > 0 {
				part.setWaiting("")
			}
			return offset, nil, nil
		}
		if ctx.Err() != nil {
			return 0, nil, ctx.Err()
		}
		code := codeOf(err)
		p.countError(part.topic.name, code)
		if verdictOf(code) == suspect {
			part.setWaiting("")
			return 0, &record.Failure{Row: uint32(i), Stage: record.StageProducer, Code: codeName(code), Message: err.Error()}, nil
		}
		part.setWaiting(err.Error())
		p.log.Warn("record not delivered yet", "topic", part.topic.name, "partition", part.number, "error", err, "retry_in", backoff(attempts))
		if !pause(ctx, backoff(attempts)) {
			return 0, nil, ctx.Err()
		}
	}
}
