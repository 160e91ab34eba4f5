package producer

import (
	"context"
	"log/slog"

	"github.com/barnabas-agent/barnabas/core/record"
)

// Client is one pipeline's share of a producer. It is safe for concurrent use
// by the lanes of its pipeline.
type Client struct {
	producer *Producer
	account  *account
	mode     SendMode
	log      *slog.Logger
	observer Observer // nil: nobody is curious; set before the producer runs
}

// Reserve waits until n bytes of the accumulator are free for the pipeline, and takes them.
func (c *Client) Reserve(ctx context.Context, n int64) error { return c.account.reserve(ctx, n) }

// Adjust takes n bytes more without waiting, or gives -n bytes back.
func (c *Client) Adjust(n int64) { c.account.adjust(n) }

// Partitions returns a topic's number of partitions once it is known.
func (c *Client) Partitions(ctx context.Context, topic string) (int32, error) {
	partitions, err := c.producer.topology.use(topic).wait(ctx)
	return int32(len(partitions)), err
}

// Send takes over the delivery of rows of b, in ascending order, and tells r
// what becomes of each. It blocks while the topic's partitions are unknown or
// the dispatcher is busy; in a sync pipeline, until every row is delivered. An
// error is ctx's; rows not taken by then are unresolved.
func (c *Client) Send(ctx context.Context, b *record.Batch, rows []uint32, r record.Resolution) error {
	to, err := c.route(ctx, b, rows)
	if err != nil {
		return err
	}
	if c.mode == Sync {
		err = c.sendEach(ctx, b, to, r)
	} else if len(to.rows) > 0 {
		err = c.dispatch(ctx, c.chunks(b, to, r))
	}
	// Refused last: they may be the batch's last rows, and then it is gone.
	for _, failure := range to.refused {
		c.refuse(b, r, failure)
	}
	return err
}

// chunks groups rows by partition, in their order, and cuts the groups into chunks.
func (c *Client) chunks(b *record.Batch, to *routing, r record.Resolution) []*chunk {
	limit := chunkRows
	if !c.producer.config.accountsInChunks() {
		limit = 1
	}
	grouped, ends := to.group()
	total, start := 0, 0
	for _, end := range ends {
		total += (end - start + limit - 1) / limit
		start = end
	}
	made, chunks := make([]chunk, total), make([]*chunk, 0, total)
	start = 0
	for slot, end := range ends {
		for start < end {
			next := min(start+limit, end)
			one := &made[len(chunks)]
			*one = chunk{partition: to.partitions[slot], client: c, batch: b, resolution: r, rows: grouped[start:next:next]}
			chunks = append(chunks, one)
			start = next
		}
	}
	return chunks
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
func (c *Client) sendEach(ctx context.Context, b *record.Batch, to *routing, r record.Resolution) error {
	for n, row := range to.rows {
		part := to.partitions[to.slots[n]]
		offset, refused, err := c.producer.deliverAlone(ctx, part, b, int(row))
		if err != nil {
			return err
		}
		if refused != nil {
			c.refuse(b, r, *refused)
			continue
		}
		c.account.progressed()
		c.deliveredAlone(ctx, part, offset)
		r.Delivered(to.rows[n : n+1])
	}
	return nil
}
