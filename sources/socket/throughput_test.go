package socket

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/barnabas-agent/barnabas/core/record"
)

// drain is a lane that delivers what it gets at once.
type drain struct {
	batch   *record.Batch
	arrived chan<- int // number of records
}

func (d *drain) NewBatch(ctx context.Context, size int) (*record.Batch, error) {
	if d.batch == nil || cap(d.batch.Value.Blocks[0]) < size {
		d.batch = &record.Batch{}
		d.batch.Value.AddBlock(make([]byte, 0, size))
	}
	block := d.batch.Value.Blocks[0][:0]
	d.batch.Reset()
	d.batch.Topics = append(d.batch.Topics, "t")
	d.batch.Value.AddBlock(block)
	return d.batch, ctx.Err()
}

func (d *drain) Submit(ctx context.Context, b *record.Batch) error {
	for _, run := range b.Runs {
		run.Stream.Delivered(b.Ends[run.First+run.Count-1])
	}
	d.arrived <- b.Rows()
	return ctx.Err()
}

func (d *drain) Discard(*record.Batch) {}

// BenchmarkTCP takes records of 200 bytes over connections, through the spool, to
// two lanes that do nothing.
func BenchmarkTCP(b *testing.B) {
	for name, connections := range map[string]int{"1": 1, "8": 8} {
		b.Run(name, func(b *testing.B) {
			c := settings(b)
			sc := spoolSettings(&c, b.TempDir())
			sc.MaxSize, sc.NoSync = 1<<30, false
			s := open(b, c, sc)
			defer s.Close()
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			arrived := make(chan int, 100)
			go func() { ended <- s.Run(ctx, []record.Lane{&drain{arrived: arrived}, &drain{arrived: arrived}}) }()
			text := strings.Repeat(strings.Repeat("x", 199)+"\n", 1000)
			each := (b.N/connections/1000 + 1) * 1000
			for range connections {
				to := dial(b, s.Addresses()[0])
				go func() {
					for range each / 1000 {
						io.WriteString(to, text)
					}
				}()
			}
			b.SetBytes(200)
			for left := each * connections; left > 0; {
				left -= <-arrived
				s.Checkpoint(nil)
				s.Committed()
			}
			cancel()
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
		})
	}
}
