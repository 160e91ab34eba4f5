package file

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
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

// BenchmarkPoll looks at many files of one folder in which nothing happens: all of
// them open, and all but a thousand at rest.
func BenchmarkPoll(b *testing.B) {
	for _, c := range []struct {
		name        string
		files, open int
	}{{"10000 open", 10_000, 0}, {"100000, 1000 open", 100_000, 1000}} {
		b.Run(c.name, func(b *testing.B) { benchmarkPoll(b, c.files, c.open) })
	}
}

func benchmarkPoll(b *testing.B, files, open int) {
	dir := b.TempDir()
	for n := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%06d.log", n)), []byte("a line\n"), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	config := configOf(filepath.Join(dir, "*.log"))
	config.MaxOpenFiles = open
	before := heapInUse()
	begin := cpuTime(b)
	s := newSource(b, config)
	d := newDiscoverer(s, 1)
	d.hints.start()
	defer d.hints.close()
	defer s.Close()
	lane := sourcetest.NewLane(b)
	t := newTailer(s, lane, d.inboxes[0], d.room)
	clock := s.config.Now()
	poll := func() {
		clock = clock.Add(250 * time.Millisecond)
		d.poll(clock)
	}
	for len(d.queue) > 0 || !d.scanned {
		poll()
		for t.take(); t.ready.len() > 0; t.take() {
			if err := t.turn(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
		lane.Deliver(1 << 30)
	}
	b.ReportMetric(float64(cpuTime(b)-begin)/1e9, "cpu-s/start")
	s.Checkpoint(nil)
	for range int((settleTime + 2*quietTime) / (250 * time.Millisecond)) {
		poll() // until the listing is kept, and the files are quiet
	}
	b.ReportMetric(float64(heapInUse()-before)/float64(files), "B/file")
	begin = cpuTime(b)
	for b.Loop() {
		poll()
	}
	b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N)/1e6, "cpu-ms/op")
}

// heapInUse is what is live.
func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// cpuTime is what this process has used so far, in nanoseconds: unlike elapsed
// time it says little about what else the machine does.
func cpuTime(b testing.TB) int64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}
