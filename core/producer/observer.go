package producer

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/barnabas-agent/barnabas/core/record"
)

// Observer is told what became of a pipeline's records, for whoever is curious:
// positions follow record.Resolution alone. Calls come from any goroutine and
// must not block. A record that is produced again by a doubt is told again.
type Observer interface {
	// Delivered says that a partition has count more records, at consecutive
	// offsets from first on; first is -1 where the offsets are not known.
	Delivered(topic string, partition int32, first int64, count int)
	// Refused says that a record can never be delivered as it is. The partition
	// is record.PartitionAny where none was chosen.
	Refused(topic string, partition int32, reason string)
}

// Observe has o told of the client's records. It is called before the producer
// runs; without it nothing is spent on offsets.
func (c *Client) Observe(o Observer) {
	c.observer = o
	c.producer.observed = true
}

// mostRuns bounds the stretches of offsets that are kept of one chunk. Another
// producer's records or a transaction's markers lie between them.
const mostRuns = 4

// offsetRun is a stretch of consecutive offsets.
type offsetRun struct {
	first int64
	count int
}

// offsetRuns are the offsets of delivered records, in the order of their reports.
type offsetRuns struct {
	runs    [mostRuns]offsetRun
	used    int
	unknown int // records without an offset, or of further stretches
}

// add takes the offset of one more record; negative: librdkafka knows none.
func (o *offsetRuns) add(offset int64) {
	switch {
	case offset < 0:
		o.unknown++
	case o.used > 0 && offset == o.runs[o.used-1].first+int64(o.runs[o.used-1].count):
		o.runs[o.used-1].count++
	case o.used == mostRuns:
		o.unknown++
	default:
		o.runs[o.used] = offsetRun{first: offset, count: 1}
		o.used++
	}
}

// tellDelivered passes the offsets of a chunk on that the reports have shown to be delivered.
func (c *chunk) tellDelivered() {
	o := c.client.observer
	if o == nil || c.landed == nil {
		return
	}
	topic, number := c.partition.topic.name, c.partition.number
	for _, run := range c.landed.runs[:c.landed.used] {
		o.Delivered(topic, number, run.first, run.count)
	}
	if c.landed.unknown > 0 {
		o.Delivered(topic, number, -1, c.landed.unknown)
	}
}

// deliveredAlone tells and logs one record that was delivered by itself, at
// topic-partition@offset as Kafka's own clients write it.
func (c *Client) deliveredAlone(ctx context.Context, part *partition, offset int64) {
	if c.log.Enabled(ctx, slog.LevelDebug) {
		c.log.Debug("record delivered", "at", fmt.Sprintf("%s-%d@%d", part.topic.name, part.number, offset))
	}
	if c.observer != nil {
		c.observer.Delivered(part.topic.name, part.number, max(offset, -1), 1)
	}
}

// refuse tells r that a record can't be delivered, and the observer. The batch may be gone afterwards.
func (c *Client) refuse(b *record.Batch, r record.Resolution, f record.Failure) {
	if c.observer != nil {
		row := int(f.Row)
		c.observer.Refused(b.Topic(row), b.Partition(row), f.Code+": "+f.Message)
	}
	r.Refused(f)
}
