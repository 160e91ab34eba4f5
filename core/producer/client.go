package producer

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// nearLimit is how close to max_request_size a record may come before it is a
// chunk of its own: whether it is too large, only the client can say exactly.
const nearLimit = 1024

// Client is one pipeline's share of a producer. It is safe for concurrent use
// by the lanes of its pipeline.
type Client struct {
	producer *Producer
	account  *account
	mode     SendMode
	log      *slog.Logger
}

// Reserve waits until n bytes of the accumulator are free for the pipeline, and takes them.
func (c *Client) Reserve(ctx context.Context, n int64) error { return c.account.reserve(ctx, n) }

// Adjust takes n bytes more without waiting, or gives -n bytes back.
func (c *Client) Adjust(n int64) { c.account.adjust(n) }

// Partitions returns a topic's number of partitions once it is known.
func (c *Client) Partitions(ctx context.Context, topic string) (int32, error) {
	return c.producer.topology.use(topic).wait(ctx)
}

// Send takes over the delivery of rows of b, in ascending order, and tells r
// what becomes of each. It blocks while the topic's partitions are unknown or
// the dispatcher is busy; in a sync pipeline, until every row is delivered. An
// error is ctx's; rows not taken by then are unresolved.
func (c *Client) Send(ctx context.Context, b *record.Batch, rows []uint32, r record.Resolution) error {
	routed, refused, err := c.route(ctx, b, rows)
	if err != nil {
		return err
	}
	if c.mode == Sync {
		err = c.sendEach(ctx, b, routed, r)
	} else if len(routed) > 0 {
		err = c.dispatch(ctx, c.chunks(b, routed, r))
	}
	// Refused last: they may be the batch's last rows, and then it is gone.
	for _, failure := range refused {
		r.Refused(failure)
	}
	return err
}

// destination is a row and where it goes.
type destination struct {
	row       uint32
	partition *partition
}

// route finds the partition of each row and sets aside those that no broker would take.
func (c *Client) route(ctx context.Context, b *record.Batch, rows []uint32) ([]destination, []record.Failure, error) {
	var refused []record.Failure
	routed := make([]destination, 0, len(rows))
	var t *topic
	var count, keyless int32
	turn := 0
	for _, row := range rows {
		i := int(row)
		if name := b.Topic(i); t == nil || t.name != name {
			t = c.producer.topology.use(name)
			var err error
			if count, err = t.wait(ctx); err != nil {
				return nil, nil, err
			}
			turn = 0
		}
		if failure, bad := refuse(t, count, b, i); bad {
			refused = append(refused, failure)
			continue
		}
		number := b.Partition(i)
		if number == record.PartitionAny {
			if key := b.Key.Bytes(i); key != nil {
				number = keyPartition(key, count)
			} else {
				if turn%chunkRows == 0 {
					keyless = t.turns.take(count)
				}
				turn++
				number = keyless
			}
		}
		routed = append(routed, destination{row: row, partition: t.partition(number)})
	}
	return routed, refused, nil
}

// refuse finds what is known to be refused before it is sent.
func refuse(t *topic, count int32, b *record.Batch, i int) (record.Failure, bool) {
	failure := record.Failure{Row: uint32(i), Stage: record.StageProducer}
	keyless := b.Key.Kind(i) == record.Null
	switch number := b.Partition(i); {
	case b.Key.Kind(i) == record.Object || b.Value.Kind(i) == record.Object:
		failure.Code = "NOT_SERIALIZED"
		failure.Message = "the key or value is an object: the pipeline needs a serializer for it"
	case keyless && b.Value.Kind(i) == record.Null:
		failure.Code = "NULL_WITHOUT_KEY"
		failure.Message = "a tombstone needs a key"
	case keyless && t.keyNeeded():
		failure.Code = "INVALID_RECORD"
		failure.Message = "topic " + t.name + " is compacted: its broker refuses records without key"
	case number != record.PartitionAny && (number < 0 || number >= count):
		failure.Code = "UNKNOWN_PARTITION"
		failure.Message = fmt.Sprintf("topic %s has no partition %d, only 0 to %d", t.name, number, count-1)
	default:
		return failure, false
	}
	return failure, true
}

// chunks groups rows by partition, in their order, and cuts the groups into chunks.
func (c *Client) chunks(b *record.Batch, routed []destination, r record.Resolution) []*chunk {
	limit := chunkRows
	if !c.producer.config.accountsInChunks() {
		limit = 1
	}
	groups := make(map[*partition][]uint32)
	var order []*partition
	for _, d := range routed {
		group, seen := groups[d.partition]
		if !seen {
			order = append(order, d.partition)
			group = make([]uint32, 0, 2*len(routed)/int(d.partition.topic.count())+1)
		}
		groups[d.partition] = append(group, d.row)
	}
	chunks := make([]*chunk, 0, len(routed)/limit+2*len(order))
	for _, p := range order {
		rows := groups[p]
		for len(rows) > 0 {
			n := c.cut(b, rows, limit)
			chunks = append(chunks, &chunk{partition: p, client: c, batch: b, resolution: r, rows: rows[:n:n]})
			rows = rows[n:]
		}
	}
	return chunks
}

// cut returns how many of rows make the next chunk.
func (c *Client) cut(b *record.Batch, rows []uint32, limit int) int {
	most := c.producer.config.MaxRequestSize - nearLimit
	for n, row := range rows[:min(limit, len(rows))] {
		if b.Size(int(row)) > most {
			return max(1, n)
		}
	}
	return min(limit, len(rows))
}

func (c *Client) dispatch(ctx context.Context, chunks []*chunk) error {
	select {
	case c.producer.deliveries <- chunks:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sendEach delivers one row after the other, each awaited.
func (c *Client) sendEach(ctx context.Context, b *record.Batch, routed []destination, r record.Resolution) error {
	for n, d := range routed {
		// The last row frees the batch: nothing of it is used after that.
		topic := d.partition.topic.name
		offset, failure, err := c.producer.deliverAlone(ctx, d.partition, b, int(d.row))
		if err != nil {
			return err
		}
		if failure != nil {
			r.Refused(*failure)
			continue
		}
		c.log.Debug("record delivered", "at", topic+"-"+strconv.Itoa(int(d.partition.number))+"@"+strconv.FormatInt(offset, 10))
		r.Delivered([]uint32{routed[n].row})
	}
	return nil
}

// deliverAlone sends one record in a batch of its own and awaits its report. It
// returns a failure where the broker refuses the record for good; everything
// else is tried until ctx ends.
func (p *Producer) deliverAlone(ctx context.Context, part *partition, b *record.Batch, i int) (int64, *record.Failure, error) {
	pause := retryFirst
	for {
		offset, err := p.single.deliver(ctx, part, b, i)
		if err == nil {
			return offset, nil, nil
		}
		if ctx.Err() != nil {
			return 0, nil, ctx.Err()
		}
		code := codeOf(err)
		p.metrics.DeliveryErrors.WithLabelValues(part.topic.name, codeName(code)).Inc()
		if verdictOf(code) == suspect {
			return 0, &record.Failure{Row: uint32(i), Stage: record.StageProducer, Code: codeName(code), Message: err.Error()}, nil
		}
		part.setReason(code, err.Error())
		p.log.Warn("record not delivered yet", "topic", part.topic.name, "partition", part.number, "error", err, "retry_in", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return 0, nil, ctx.Err()
		}
		pause = min(2*pause, retryMost)
	}
}
