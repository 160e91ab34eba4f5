package pluginhost

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
)

// logBuffer keeps what a host logs.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// fixture is a host with what it logs and where its plugins lie.
type fixture struct {
	*Host
	dir  string
	logs *logBuffer
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{dir: t.TempDir(), logs: &logBuffer{}}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name := range behaviours() {
		if err := os.Symlink(self, filepath.Join(f.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	f.Host, err = Open(Options{
		RunDir: filepath.Join(f.dir, "run"), CacheDir: filepath.Join(f.dir, "cache"), Hostname: "here",
		Logger: slog.New(slog.NewTextHandler(f.logs, nil)), Metrics: metric.New(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(filepath.Join(f.dir, "run", "*")); len(left) > 0 {
			t.Errorf("left in the run directory: %v", left)
		}
		if t.Failed() {
			t.Logf("log of the host:\n%s", f.logs)
		}
	})
	return f
}

// spec is a stage of a plugin of the fixture.
func (f *fixture) spec(kind Kind, name string, config any) Spec {
	text, err := json.Marshal(config)
	if err != nil {
		panic(err)
	}
	return Spec{Pipeline: "p", Stage: name, Kind: kind, Plugin: name, Dir: f.dir, Config: text, Timeout: 2 * time.Second}
}

// start starts a stage and closes it at the test's end.
func (f *fixture) start(t *testing.T, spec Spec) *Stage {
	t.Helper()
	s := f.NewStage(spec)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// origin is a stream that nobody asks about deliveries.
type origin struct{}

func (origin) Origin() record.Origin { return record.Origin{Kind: "file", File: "/a", Host: "here"} }
func (origin) Delivered(int64)       {}

// batchOf makes a batch of the given values.
func batchOf(id uint64, values ...string) *record.Batch {
	b := &record.Batch{ID: id, Topics: []string{"t"}, Value: record.Column{Blocks: [][]byte{nil}}}
	for _, v := range values {
		block := &b.Value.Blocks[0]
		at := len(*block)
		*block = append(*block, v...)
		b.Append(origin{}, record.Span{Offset: uint32(at), Length: uint32(len(v))}, 1, int64(at), int64(len(*block)))
	}
	return b
}

// numbered makes batches of rows that count up.
func numbered(batches, rows int) []*record.Batch {
	var all []*record.Batch
	for b := range batches {
		var values []string
		for r := range rows {
			values = append(values, fmt.Sprintf("v%d", b*rows+r))
		}
		all = append(all, batchOf(uint64(b+1), values...))
	}
	return all
}

// pass sends batches through one lane of a stage and returns what comes out.
func pass(t *testing.T, s *Stage, lane int, batches ...*record.Batch) []*record.Batch {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	in, out := make(chan *record.Batch), make(chan *record.Batch)
	var both sync.WaitGroup
	both.Go(func() {
		defer close(in)
		for _, b := range batches {
			select {
			case in <- b:
			case <-ctx.Done():
				return
			}
		}
	})
	var runErr error
	both.Go(func() {
		defer close(out)
		runErr = s.Run(ctx, lane, in, out)
	})
	var got []*record.Batch
	for b := range out {
		got = append(got, b)
	}
	both.Wait()
	if runErr != nil {
		t.Fatalf("Run: %v; status %+v", runErr, s.Status())
	}
	return got
}

// live lists the values of the live rows.
func live(batches []*record.Batch) []string {
	var values []string
	for _, b := range batches {
		for _, row := range b.Live {
			values = append(values, string(b.Value.Bytes(int(row))))
		}
	}
	return values
}

// wantNumbered checks that the values are those of numbered, each once, in order.
func wantNumbered(t *testing.T, got []string, n int, suffix string) {
	t.Helper()
	if len(got) != n {
		t.Fatalf("got %d records, want %d", len(got), n)
	}
	for i, v := range got {
		if want := fmt.Sprintf("v%d%s", i, suffix); v != want {
			t.Fatalf("record %d is %q, want %q", i, v, want)
		}
	}
}

func TestStageModifiesRecordsInOrder(t *testing.T) {
	f := newFixture(t)
	s := f.start(t, f.spec(Interceptor, "trial", trial{Suffix: "!"}))
	wantNumbered(t, live(pass(t, s, 0, numbered(50, 100)...)), 5000, "!")
	if status := s.Status(); status.State != Ready || status.PID == 0 || status.Version != "1.2.3" || status.Restarts != 0 {
		t.Errorf("status %+v", status)
	}
}

func TestRecordsSurviveBrokenProcesses(t *testing.T) {
	for name, c := range map[string]struct {
		config func(marker string) trial
		reason string
	}{
		"killed":          {func(m string) trial { return trial{Suffix: "!", Marker: m, CrashOn: "v777"} }, "exit"},
		"hanging":         {func(m string) trial { return trial{Suffix: "!", Marker: m, HangOn: "v777"} }, "hang"},
		"stopped":         {func(m string) trial { return trial{Suffix: "!", Marker: m, StopOn: "v777"} }, "hang"},
		"giving up":       {func(m string) trial { return trial{Suffix: "!", Marker: m, BreakOn: "v777"} }, "stream"},
		"asking to retry": {func(m string) trial { return trial{Suffix: "!", Marker: m, RetryOn: "v777"} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			s := f.start(t, f.spec(Interceptor, "trial", c.config(filepath.Join(f.dir, "marker"))))
			began := time.Now()
			wantNumbered(t, live(pass(t, s, 0, numbered(30, 100)...)), 3000, "!")
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("it took %s", took)
			}
			if c.reason == "" {
				if n := s.Status().Restarts; n != 0 {
					t.Errorf("%d restarts, want none", n)
				}
				return
			}
			if status := s.Status(); status.Restarts != 1 || !strings.HasPrefix(status.LastError, c.reason) {
				t.Errorf("status %+v, want one restart by %q", status, c.reason)
			}
		})
	}
}
