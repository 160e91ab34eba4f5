package file

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/record"
)

// discardLane gives back one batch for ever, as a lane does whose delivery costs nothing.
type discardLane struct {
	batch *record.Batch
	block []byte
	rows  int
	ended context.CancelFunc // called once enough rows came
	total int
}

func (l *discardLane) NewBatch(ctx context.Context, size int) (*record.Batch, error) {
	if cap(l.block) < size {
		l.block = make([]byte, 0, size)
	}
	l.batch.Reset()
	l.batch.Topics = append(l.batch.Topics, "test")
	l.batch.Value.AddBlock(l.block[:0])
	return l.batch, ctx.Err()
}

func (l *discardLane) Submit(_ context.Context, b *record.Batch) error {
	l.rows += b.Rows()
	if l.rows >= l.total {
		l.ended()
	}
	return nil
}

func (l *discardLane) Discard(*record.Batch) {}

// BenchmarkRead reads and splits files from the page cache into batches.
func BenchmarkRead(b *testing.B) {
	for _, length := range []int{20, 200, 2000} {
		b.Run(fmt.Sprintf("%d bytes", length), func(b *testing.B) {
			const size = 64 << 20
			dir := b.TempDir()
			line := append(bytes.Repeat([]byte("x"), length-1), '\n')
			if err := os.WriteFile(filepath.Join(dir, "a.log"), bytes.Repeat(line, size/length), 0o600); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size / length * length))
			b.ResetTimer()
			begin := cpuTime(b)
			for range b.N {
				s := newSource(b, configOf(filepath.Join(dir, "*.log")))
				ctx, cancel := context.WithCancel(context.Background())
				lane := &discardLane{batch: &record.Batch{}, ended: cancel, total: size / length}
				if err := s.Run(ctx, []record.Lane{lane}); err != nil {
					b.Fatal(err)
				}
				if lane.rows < lane.total {
					b.Fatalf("%d of %d rows", lane.rows, lane.total)
				}
				s.Close()
			}
			b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N*(size/length)), "cpu-ns/record")
		})
	}
}

// BenchmarkPoll looks at 10,000 files of one folder in which nothing happens.
func BenchmarkPoll(b *testing.B) {
	dir := b.TempDir()
	for n := range 10000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d.log", n)), []byte("a line\n"), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	s := newSource(b, configOf(filepath.Join(dir, "*.log")))
	d := newDiscoverer(s, 1)
	defer s.Close()
	clock := s.config.Now()
	poll := func() {
		clock = clock.Add(250 * time.Millisecond)
		d.poll(clock)
	}
	for range 2 * int(settleTime/(250*time.Millisecond)) {
		poll() // until the listing is kept
	}
	begin := cpuTime(b)
	for b.Loop() {
		poll()
	}
	b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N)/1e6, "cpu-ms/op")
}

// cpuTime is what this process has used so far, in nanoseconds: unlike elapsed
// time it says little about what else the machine does.
func cpuTime(b *testing.B) int64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}
