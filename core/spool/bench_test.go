package spool_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/spool"
)

// benchSpool opens a spool on the disk under the working folder: that of the
// temporary folder may be memory.
func benchSpool(b *testing.B, noSync bool) *spool.Spool {
	b.Helper()
	dir, err := os.MkdirTemp(".", "bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	c := configOf(dir)
	c.MaxSize, c.NoSync = 64<<30, noSync
	return open(b, c)
}

func benchEntries(peer, n int) []spool.Entry {
	entries := make([]spool.Entry, n)
	for i := range entries {
		entries[i] = spool.Entry{Peer: fmt.Sprint("192.0.2.1:", 50_000+peer), Time: 1, Value: []byte(strings.Repeat("x", 200))}
	}
	return entries
}

// BenchmarkAppend measures the acceptance of records of 200 bytes, per record.
func BenchmarkAppend(b *testing.B) {
	for _, sync := range []string{"batch", "none"} {
		for _, shape := range []struct{ callers, entries int }{{1, 1}, {1, 16}, {1, 256}, {1, 4096}, {50, 20}, {50, 300}} {
			b.Run(fmt.Sprintf("sync=%s/callers=%d/records=%d", sync, shape.callers, shape.entries), func(b *testing.B) {
				s := benchSpool(b, sync == "none")
				err := s.Run(b.Context(), []record.Lane{}, func(ctx context.Context) error {
					b.ResetTimer()
					appendAll(ctx, b, s, shape.callers, shape.entries)
					b.StopTimer()
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
				s.Close()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// appendAll appends b.N records, so many per call.
func appendAll(ctx context.Context, b *testing.B, s *spool.Spool, callers, per int) {
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			entries := benchEntries(caller, per)
			for left := b.N/callers + 1; left > 0; left -= per {
				if _, err := s.Append(ctx, entries[:min(left, per)]); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkRead measures the way from the page cache into batches, by lanes.
func BenchmarkRead(b *testing.B) {
	for lanes := 1; lanes <= 4; lanes *= 2 {
		b.Run(fmt.Sprintf("lanes=%d", lanes), func(b *testing.B) {
			s := benchSpool(b, true)
			targets := make([]record.Lane, lanes)
			for i := range targets {
				targets[i] = &sink{}
			}
			// All is read at the end of Run, whatever of it was read meanwhile.
			b.ResetTimer()
			err := s.Run(b.Context(), targets, func(ctx context.Context) error {
				appendAll(ctx, b, s, 16, 256)
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			s.Close()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// sink is a lane that forgets what it gets at once.
type sink struct{ batch record.Batch }

func (l *sink) NewBatch(_ context.Context, size int) (*record.Batch, error) {
	var block []byte
	if len(l.batch.Value.Blocks) > 0 {
		block = l.batch.Value.Blocks[0]
	}
	if cap(block) < size {
		block = make([]byte, 0, size)
	}
	l.batch.Reset()
	l.batch.Value.AddBlock(block[:0])
	return &l.batch, nil
}

func (l *sink) Submit(_ context.Context, batch *record.Batch) error {
	for i := range batch.Runs {
		run := &batch.Runs[i]
		run.Stream.Delivered(batch.Ends[run.First+run.Count-1])
	}
	return nil
}

func (l *sink) Discard(*record.Batch) {}
