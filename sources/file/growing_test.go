package file

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

const (
	growingFolders = 10
	growingLine    = 200 // bytes, with the line's end
	// growWriter is the variable that makes a process of this test binary the writer.
	growWriter = "BARNABAS_TEST_GROW"
)

// growth is files that each get a line now and then, one after the other.
type growth struct {
	files  int // in growingFolders folders
	active int // those of them that grow
	rate   int // lines per second, of all together
	lines  int // of all together
}

func (g growth) path(dir string, n int) string {
	return filepath.Join(dir, fmt.Sprint("folder", n%growingFolders), fmt.Sprintf("%06d.log", n))
}

func growingLineOf() []byte {
	return append(bytes.Repeat([]byte("x"), growingLine-1), '\n')
}

// make writes a first line into each file.
func (g growth) make(t testing.TB, dir string) {
	for n := range growingFolders {
		mustMake(t, os.Mkdir(filepath.Join(dir, fmt.Sprint("folder", n)), 0o700))
	}
	line := growingLineOf()
	for n := range g.files {
		mustMake(t, os.WriteFile(g.path(dir, n), line, 0o600))
	}
}

func mustMake(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// begin lets the files grow by another process, so that its work is not counted.
func (g growth) begin(t testing.TB, dir string) (wait func() error) {
	c := exec.Command(os.Args[0], "-test.run=^TestGrowWriter$", "-test.count=1")
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %d %s", growWriter, g.active, g.rate, g.lines, dir))
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	mustMake(t, c.Start())
	return func() error {
		if err := c.Wait(); err != nil {
			return fmt.Errorf("the writer: %w: %s", err, said.String())
		}
		return nil
	}
}

// TestGrowWriter is the writer: it does nothing where it was not started as that.
func TestGrowWriter(t *testing.T) {
	var g growth
	var dir string
	if n, _ := fmt.Sscan(os.Getenv(growWriter), &g.active, &g.rate, &g.lines, &dir); n < 4 {
		t.Skip("it is run by those tests that need files which grow")
	}
	files := make([]*os.File, g.active)
	for n := range files {
		f, err := os.OpenFile(g.path(dir, n), os.O_APPEND|os.O_WRONLY, 0)
		mustMake(t, err)
		files[n] = f
	}
	line := growingLineOf()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	begin := time.Now()
	for written := 0; written < g.lines; <-tick.C {
		due := min(g.lines, int(time.Since(begin)*time.Duration(g.rate)/time.Second))
		for ; written < due; written++ {
			_, err := files[written%g.active].Write(line)
			mustMake(t, err)
		}
	}
}

// deliveringLane is a lane whose records are delivered as they come.
type deliveringLane struct {
	discardLane
	arrived atomic.Int64
}

func (l *deliveringLane) Submit(_ context.Context, b *record.Batch) error {
	for _, run := range b.Runs {
		run.Stream.Delivered(b.Ends[run.First+run.Count-1])
	}
	l.arrived.Add(int64(b.Rows()))
	return nil
}

// growingRun is a source that reads files which grow.
type growingRun struct {
	testing.TB
	growth
	dir    string
	lane   *deliveringLane
	source *Source
	stop   func()
}

// read starts a source over the files, as the agent does, and waits for their first lines.
func (g growth) read(t testing.TB, dir string, change func(*Config)) *growingRun {
	r := &growingRun{TB: t, growth: g, dir: dir, lane: &deliveringLane{discardLane: discardLane{batch: &record.Batch{}}}}
	config := configOf(filepath.Join(r.dir, "*", "*.log"))
	config.PollInterval, config.CloseIdle, config.MaxOpenFiles = 250*time.Millisecond, 5*time.Minute, 1024
	change(&config)
	r.source = newSource(t, config)
	running := sourcetest.Start(t, r.source, r.lane)
	committing, cancel := context.WithCancel(context.Background())
	committed := make(chan struct{})
	go func() {
		defer close(committed)
		r.commit(committing)
	}()
	r.stop = func() {
		cancel()
		<-committed
		running.Stop()
		r.source.Close()
	}
	r.await(g.files)
	return r
}

// commit takes checkpoints as the store does.
func (r *growingRun) commit(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var given []record.Checkpoint
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			given = r.source.Checkpoint(given[:0])
			r.source.Committed()
		}
	}
}

func (r *growingRun) await(lines int) {
	r.Helper()
	sourcetest.Eventually(r, func() bool { return int(r.lane.arrived.Load()) >= lines }, "%d lines", lines)
}

// pass waits for a while in which nothing is written.
func pass(d time.Duration) { <-time.After(d) }

// measure lets the files grow, and returns the processor time that this process used
// until all lines had arrived, once each.
func (r *growingRun) measure() (cpu, elapsed time.Duration) {
	begun, before := time.Now(), cpuTime(r)
	wait := r.begin(r, r.dir)
	mustMake(r, wait())
	r.await(r.files + r.lines)
	cpu, elapsed = time.Duration(cpuTime(r)-before), time.Since(begun)
	for _, s := range r.source.Status() {
		if s.Lag > 0 {
			r.Errorf("%s lags by %d bytes", s.Path, s.Lag)
		}
	}
	if n := int(r.lane.arrived.Load()); n != r.files+r.lines {
		r.Errorf("%d lines arrived, %d were written", n, r.files+r.lines)
	}
	return cpu, elapsed
}

// BenchmarkGrowing reads files that grow slowly, in real time: the share of one core
// that this takes is the figure.
func BenchmarkGrowing(b *testing.B) {
	for _, c := range []struct {
		growth
		open int
	}{
		{growth{10_000, 10_000, 167, 5000}, 1024},
		{growth{10_000, 10_000, 1000, 30_000}, 1024},
		{growth{10_000, 10_000, 167, 5000}, 16384},
		{growth{10_000, 10_000, 1000, 30_000}, 16384},
		{growth{100_000, 1000, 1000, 30_000}, 1024},
	} {
		b.Run(fmt.Sprintf("%d of %d files, %d lines a second, %d open", c.active, c.files, c.rate, c.open), func(b *testing.B) {
			for range b.N {
				c.benchmark(b, c.open)
			}
		})
	}
}

func (g growth) benchmark(b *testing.B, open int) {
	dir := b.TempDir()
	g.make(b, dir)
	before, resident, begin := heapInUse(), residentSize(b), cpuTime(b)
	r := g.read(b, dir, func(c *Config) { c.MaxOpenFiles = open })
	defer r.stop()
	started := time.Duration(cpuTime(b) - begin)
	pass(settleTime + quietTime + 2*time.Second) // events are relied on from here on
	heap := heapInUse() - before
	b.StartTimer()
	cpu, elapsed := r.measure()
	b.StopTimer()
	b.ReportMetric(100*float64(cpu)/float64(elapsed), "%core")
	b.ReportMetric(float64(cpu.Microseconds())/float64(g.lines), "cpu-µs/line")
	b.ReportMetric(started.Seconds(), "cpu-s/start")
	b.ReportMetric(float64(heap)/float64(g.files), "heap-B/file")
	b.ReportMetric(float64(residentSize(b)-resident)/float64(g.files), "resident-B/file")
}

// residentSize is how much memory this process holds, in bytes.
func residentSize(t testing.TB) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	mustMake(t, err)
	pages, err := strconv.ParseInt(string(bytes.Fields(text)[1]), 10, 64)
	mustMake(t, err)
	return pages * int64(os.Getpagesize())
}

// TestMemoryOfManyFiles holds the budget for files that are not open (docs/files.md): it was
// 1.3 KiB of live heap for each of 100,000.
func TestMemoryOfManyFiles(t *testing.T) {
	g := growth{files: 5000}
	dir := t.TempDir()
	g.make(t, dir)
	before := heapInUse()
	r := g.read(t, dir, func(c *Config) { c.MaxOpenFiles = 50 })
	defer r.stop()
	perFile := (heapInUse() - before) / int64(g.files)
	t.Logf("%d bytes for each file", perFile)
	if perFile > 3<<10 {
		t.Errorf("%d bytes for each file are too many", perFile)
	}
}
