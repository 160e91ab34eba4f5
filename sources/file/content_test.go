package file

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

func gauge(t *testing.T, g prometheus.Gauge) float64 {
	t.Helper()
	var m dto.Metric
	mustDo(t, g.Write(&m))
	return m.GetGauge().GetValue()
}

// TestShortFileGrowsAcrossRestarts: a file is known by its first byte, and by none.
func TestShortFileGrowsAcrossRestarts(t *testing.T) {
	r := newRig(t, "*.log")
	r.write("a.log", "")
	for _, step := range []struct{ add, want string }{
		{"", ""}, {"x", ""}, {"y", ""}, {"\nz", "xy"}, {strings.Repeat("z", 700), ""}, {"\n", strings.Repeat("z", 701)},
		{strings.Repeat("w", 700) + "\n", strings.Repeat("w", 700)}, {"end\n", "end"},
	} {
		r.write("a.log", step.add)
		r.start()
		if step.want != "" {
			r.expect(step.want)
		}
		r.polled()
		r.commit()
		r.crash()
	}
}

// TestEmptyLinesMoveThePosition: they are records like any others.
func TestEmptyLinesMoveThePosition(t *testing.T) {
	r := newRig(t, "a.log")
	r.write("a.log", strings.Repeat("\n", 10_000))
	r.start()
	r.lane.Wait(10_000)
	r.commit()
	r.crash()
	r.write("a.log", "more\n")
	r.start()
	r.expect("more")
}

// TestPositionsBeyondFourGigabytes has a hole of eight terabytes.
func TestPositionsBeyondFourGigabytes(t *testing.T) {
	const far = 8 << 40
	r := newRig(t, "*.log")
	r.write("a.log", "one\n")
	r.start()
	r.expect("one")
	r.commit()
	r.crash()
	r.must(os.Remove(r.path("a.log")))
	f, err := os.Create(r.path("b.log"))
	r.must(err)
	defer f.Close()
	if err := f.Truncate(far); err != nil {
		t.Skipf("this filesystem has no such files: %v", err)
	}
	_, err = f.WriteAt([]byte("two\n"), far)
	r.must(err)
	r.start()
	r.expect("two")
	if offset := r.lane.Records()[0].Offset; offset != far {
		t.Errorf("it begins at %d", offset)
	}
	r.commit()
	r.crash()
	_, err = f.WriteAt([]byte("three\n"), far+4)
	r.must(err)
	r.start()
	r.expect("three")
}

// TestLineInTwoWritesFarApart is one line, whatever time is between them.
func TestLineInTwoWritesFarApart(t *testing.T) {
	l := newLife(t, func(*Config) {})
	l.write("a.log", "one\nbegun")
	for range 10 {
		l.pass(time.Minute)
		l.deliver()
	}
	l.expect("one")
	l.write("a.log", " and ended\n")
	l.pass(time.Second)
	l.expect("one", "begun and ended")
}

// sink takes what comes and keeps nothing of it.
type sink struct{ records, bytes, most atomic.Int64 }

func (s *sink) NewBatch(_ context.Context, size int) (*record.Batch, error) {
	b := &record.Batch{Topics: []string{"test"}}
	b.Value.AddBlock(make([]byte, 0, size))
	return b, nil
}

func (s *sink) Submit(ctx context.Context, b *record.Batch) error {
	for i := range b.Rows() {
		s.bytes.Add(int64(b.Value.Size(i)))
		s.most.Store(max(s.most.Load(), int64(b.Value.Size(i))))
		b.RunOf(i).Stream.Delivered(b.Ends[i])
	}
	s.records.Add(int64(b.Rows()))
	return ctx.Err()
}

func (s *sink) Discard(*record.Batch) {}

// TestLineOfManyMegabytesTakesLittleMemory: its pieces do not gather.
func TestLineOfManyMegabytesTakesLittleMemory(t *testing.T) {
	const size = 256 << 20
	r := newRig(t, "*.log")
	f, err := os.Create(r.path("a.log"))
	r.must(err)
	_, err = f.WriteString("x")
	r.must(err)
	r.must(f.Truncate(size)) // the rest reads as NUL
	r.must(f.Close())
	r.write("a.log", "\nafter\n")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := &sink{}
	r.startOn(s)
	sourcetest.Eventually(t, func() bool {
		runtime.ReadMemStats(&after)
		if after.HeapAlloc > before.HeapAlloc+size/4 {
			t.Fatalf("the heap grew by %d bytes", after.HeapAlloc-before.HeapAlloc)
		}
		return s.bytes.Load() == size+int64(len("after"))
	}, "all bytes, %d came", s.bytes.Load())
	if most := s.most.Load(); most > int64(r.config.MaxLine) {
		t.Errorf("a record has %d bytes", most)
	}
}

// TestFastWriterDoesNotStarveOthers: a file that grows without end takes turns with
// those that grow now and then.
func TestFastWriterDoesNotStarveOthers(t *testing.T) {
	r := newRig(t, "*.log")
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		block := strings.Repeat(strings.Repeat("x", 199)+"\n", 5000)
		for written := 0; written < 512<<20; written += len(block) {
			select {
			case <-stop:
				return
			default:
				appendTo(t, r.path("fast.log"), block)
			}
		}
	})
	s := &sink{}
	r.startOn(s)
	var longest time.Duration
	for n := range 20 {
		name := "slow" + string(rune('a'+n)) + ".log"
		begin := time.Now()
		r.write(name, "a line\n")
		sourcetest.Eventually(t, func() bool {
			return slices.ContainsFunc(r.source.Status(), func(s FileStatus) bool { return s.Path == r.path(name) && s.Delivered == 7 })
		}, "the line of %s", name)
		longest = max(longest, time.Since(begin))
	}
	close(stop)
	writer.Wait()
	t.Logf("the slowest line took %v, %d others came", longest, s.records.Load())
	if longest > 5*time.Second {
		t.Errorf("a line took %v", longest)
	}
}
