package producer

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/barnabas-agent/barnabas/core/record"
)

// countdown is the cheapest resolution there can be: it counts.
type countdown struct {
	left atomic.Int64
	free chan *record.Batch
	of   *record.Batch
}

func (c *countdown) Accepted([]uint32)       {}
func (c *countdown) Refused(record.Failure)  { c.resolve(1) }
func (c *countdown) Delivered(rows []uint32) { c.resolve(int64(len(rows))) }

func (c *countdown) resolve(n int64) {
	if c.left.Add(-n) == 0 {
		c.free <- c.of
	}
}

// BenchmarkProduce sends batches that are made already to a broker that stores nothing.
func BenchmarkProduce(b *testing.B) {
	const rows, partitions, batches = 2048, 6, 16
	value := make([]byte, 200)
	for i := range value {
		value[i] = byte('a' + i%26)
	}
	for _, shape := range []string{"keyless", "keyed"} {
		b.Run(shape, func(b *testing.B) {
			br := startBroker(b, kfake.SeedTopics(partitions, "bench"), kfake.BlackholeProduce())
			var client *Client
			c := testConfig(br)
			c.BufferMemory = 256 << 20
			startProducer(b, c, func(p *Producer) { client = p.Client("bench", Async) })
			free := make(chan *record.Batch, batches)
			for n := range batches {
				all := make([]row, rows)
				for i := range all {
					all[i] = row{value: value, partition: record.PartitionAny}
					if shape == "keyed" {
						all[i].key = fmt.Appendf(nil, "key-%d", n*rows+i)
					}
				}
				free <- newBatch("bench", all...)
			}
			ctx := context.Background()
			if _, err := client.Partitions(ctx, "bench"); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for sent := 0; sent < b.N; sent += rows {
				batch := <-free
				r := &countdown{free: free, of: batch}
				r.left.Store(rows)
				if err := client.Send(ctx, batch, batch.Live, r); err != nil {
					b.Fatal(err)
				}
			}
			for range batches {
				<-free
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
