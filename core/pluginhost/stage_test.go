package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
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
	dir    string
	runDir string
	logs   *logBuffer
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{dir: t.TempDir(), runDir: shortDir(t), logs: &logBuffer{}}
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
		RunDir: f.runDir, CacheDir: filepath.Join(f.dir, "cache"), Hostname: "here", Exec: execSelf(),
		Logger: slog.New(slog.NewTextHandler(f.logs, nil)), Metrics: metric.New(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(filepath.Join(f.runDir, "*")); len(left) > 0 {
			t.Errorf("left in the run directory: %v", left)
		}
		if t.Failed() {
			t.Logf("log of the host:\n%s", f.logs)
		}
	})
	return f
}

// execSelf has the test's program start plugins, as the agent's does.
func execSelf() []string { return []string{"/proc/self/exe", ExecCommand} }

// shortDir is a directory whose path leaves room for sockets.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// spec is a stage of a plugin of the fixture.
func (f *fixture) spec(kind Kind, name string, config any) Spec {
	text, err := json.Marshal(config)
	if err != nil {
		panic(err)
	}
	return Spec{Pipeline: "p", Stage: name, Kind: kind, Plugin: name, Dir: f.dir, Config: text, Timeout: 2 * time.Second,
		Env: map[string]string{"GORACE": "atexit_sleep_ms=0"}} // the race detector's runtime sleeps at exit otherwise
}

// start starts a stage and closes it at the test's end.
func (f *fixture) start(t testing.TB, spec Spec) *Stage {
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
	return fill(&record.Batch{}, id, values...)
}

// fill makes a batch anew.
func fill(b *record.Batch, id uint64, values ...string) *record.Batch {
	b.Reset()
	b.ID, b.Topics = id, append(b.Topics, "t")
	b.Value.AddBlock(nil)
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
	return passWithin(t, 30*time.Second, s, lane, batches...)
}

// passWithin is pass with a bound of its own.
func passWithin(t *testing.T, within time.Duration, s *Stage, lane int, batches ...*record.Batch) []*record.Batch {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
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

func TestMalformedReplyIsReplayedElsewhere(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.start(t, f.spec(Interceptor, "liar", map[string]string{"marker": filepath.Join(f.dir, "marker")}))
	wantNumbered(t, live(pass(t, s, 0, numbered(3, 10)...)), 30, "")
	if status := s.Status(); status.Restarts != 1 || !strings.Contains(status.LastError, "rule count") {
		t.Errorf("status %+v, want one restart that names the rule", status)
	}
	if logs := f.logs.String(); !strings.Contains(logs, "version=0.1") {
		t.Error("the log does not name the plugin's version")
	}
}

func TestOnError(t *testing.T) {
	for policy, want := range map[OnError]struct {
		live, failures, dropped int
	}{
		Quarantine: {live: 1, failures: 1, dropped: 1},
		DropRecord: {live: 1, failures: 0, dropped: 2},
		Pass:       {live: 2, failures: 0, dropped: 1},
		Block:      {live: 2, failures: 0, dropped: 1}, // the plugin takes the record the second time
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			config := trial{FailOn: "bad", DropOn: "junk", Suffix: "!"}
			if policy == Block {
				config.Marker = filepath.Join(f.dir, "marker")
			}
			spec := f.spec(Interceptor, "trial", config)
			spec.OnError = policy
			b := pass(t, f.start(t, spec), 0, batchOf(1, "bad", "good", "junk"))[0]
			if len(b.Live) != want.live || len(b.Failures) != want.failures || len(b.Dropped) != want.dropped {
				t.Fatalf("live %v, failures %v, dropped %v; want %+v", b.Live, b.Failures, b.Dropped, want)
			}
			for _, failure := range b.Failures {
				if want := (record.Failure{Row: 0, Stage: "trial", Code: "trial.bad", Message: "bad is bad"}); failure != want {
					t.Errorf("failure %+v, want %+v", failure, want)
				}
			}
			if policy == Pass && string(b.Value.Bytes(0)) != "bad" {
				t.Errorf("a record that was passed on became %q", b.Value.Bytes(0))
			}
		})
	}
}

func TestBatchesWithoutLiveRowsKeepTheirPlace(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.start(t, f.spec(Interceptor, "trial", trial{Suffix: "!"}))
	batches := numbered(20, 5)
	for n, b := range batches {
		if n%3 == 0 {
			b.Dropped, b.Live = b.Live, nil
		}
	}
	for n, b := range pass(t, s, 0, batches...) {
		if b.ID != uint64(n+1) {
			t.Fatalf("batch %d came in place %d", b.ID, n+1)
		}
		if n%3 != 0 && string(b.Value.Bytes(0)) != fmt.Sprintf("v%d!", n*5) {
			t.Errorf("batch %d was not handled: %q", b.ID, b.Value.Bytes(0))
		}
	}
}

func TestBatchTooLargeForAFrameIsSplit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	spec := f.spec(Interceptor, "trial", trial{Suffix: "!"})
	spec.Timeout = 30 * time.Second
	s := f.start(t, spec)
	large := strings.Repeat("x", 12<<20)
	got := live(pass(t, s, 0, batchOf(1, "a"), batchOf(2, large, "b", large, large, "c"), batchOf(3, "d")))
	if len(got) != 7 {
		t.Fatalf("%d records, want 7", len(got))
	}
	for n, want := range []string{"a!", large + "!", "b!", large + "!", large + "!", "c!", "d!"} {
		if got[n] != want {
			t.Errorf("record %d has %d bytes, want %d", n, len(got[n]), len(want))
		}
	}
	if n := s.Status().Restarts; n != 0 {
		t.Errorf("%d restarts, want none", n)
	}
}

func TestReplyTooLargeForAFrameIsSplit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	spec := f.spec(Interceptor, "trial", trial{Grow: 12 << 20})
	spec.Timeout = 30 * time.Second
	s := f.start(t, spec)
	b := pass(t, s, 0, numbered(1, 5)...)[0]
	if len(b.Live) != 5 || b.Value.Size(4) != 12<<20 {
		t.Errorf("%d records, the last of %d bytes; want 5 of %d", len(b.Live), b.Value.Size(4), 12<<20)
	}
	if n := s.Status().Restarts; n != 0 {
		t.Errorf("%d restarts, want none", n)
	}
}

func TestRecordTooLargeForAnyFrameFailsAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	spec := f.spec(Interceptor, "trial", trial{Grow: 40 << 20, GrowOn: "v1"})
	spec.Timeout = 30 * time.Second
	b := pass(t, f.start(t, spec), 0, numbered(1, 3)...)[0]
	if len(b.Failures) != 1 || b.Failures[0].Row != 1 || b.Failures[0].Code != wire.CodeTooLarge {
		t.Errorf("failures %+v", b.Failures)
	}
	if got := live([]*record.Batch{b}); len(got) != 2 || got[0] != "v0" || got[1] != "v2" {
		t.Errorf("%d records go on, want v0 and v2", len(got))
	}
}

func TestPluginThatDoesNotReadIsReplaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.start(t, f.spec(Interceptor, "liar", map[string]string{"marker": filepath.Join(f.dir, "deaf")}))
	large := strings.Repeat("x", 6<<20) // more than the window of the stream
	got := live(pass(t, s, 0, batchOf(1, large), batchOf(2, large), batchOf(3, "end")))
	if len(got) != 3 || got[0] != large || got[2] != "end" {
		t.Errorf("%d records came through", len(got))
	}
	if status := s.Status(); status.Restarts != 1 || !strings.HasPrefix(status.LastError, "hang") {
		t.Errorf("status %+v, want one restart by a hang", status)
	}
}

func TestScriptRunsAsAPlugin(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	binary := filepath.Join(f.dir, "barnabas-interceptor-trial")
	script := f.file("script", "#!/bin/sh\nexec "+binary+" \"$@\"\n", 0o755)
	spec := at(f.spec(Interceptor, "trial", trial{Suffix: "!"}), script)
	wantNumbered(t, live(pass(t, f.start(t, spec), 0, numbered(3, 10)...)), 30, "!")
}

func TestSerializerRefusesObjects(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.start(t, f.spec(ValueSerializer, "plain", map[string]any{}))
	b := batchOf(1, "text", "\x80")
	b.Value.Spans[1].Kind = record.Object
	got := pass(t, s, 0, b)[0]
	if len(got.Live) != 1 || string(got.Value.Bytes(0)) != "p:text" {
		t.Errorf("live %v, first %q", got.Live, got.Value.Bytes(0))
	}
	if len(got.Failures) != 1 || got.Failures[0].Code != codeObject || got.Failures[0].Stage != "plain" {
		t.Errorf("failures %+v", got.Failures)
	}
}

func TestKeySerializerLeavesTheValueAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.start(t, f.spec(KeySerializer, "plain", map[string]any{}))
	b := batchOf(1, "value")
	b.Key.AddBlock([]byte("key"))
	b.Key.Set(1, 0, record.Span{Length: 3})
	got := pass(t, s, 0, b)[0]
	if string(got.Key.Bytes(0)) != "p:key" || string(got.Value.Bytes(0)) != "value" {
		t.Errorf("key %q, value %q", got.Key.Bytes(0), got.Value.Bytes(0))
	}
}

// gate is a topology that is unknown until it is opened.
type gate struct {
	open  chan struct{}
	count int32
}

func (g *gate) Partitions(ctx context.Context, _ string) (int32, error) {
	select {
	case <-g.open:
		return g.count, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func TestPartitionerWaitsForTheTopology(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	spec := f.spec(Partitioner, "spread", map[string]any{})
	topology := &gate{open: make(chan struct{}), count: 3}
	spec.Topology = topology
	s := f.start(t, spec)
	chosen := batchOf(1, "a", "b", "c", "d")
	chosen.SetPartition(1, 9)
	time.AfterFunc(300*time.Millisecond, func() { close(topology.open) })
	began := time.Now()
	b := pass(t, s, 0, chosen)[0]
	if time.Since(began) < 300*time.Millisecond {
		t.Error("it did not wait for the partition count")
	}
	for row, want := range []int32{1, 9, 2, 0} {
		if got := b.Partition(row); got != want {
			t.Errorf("row %d goes to %d, want %d", row, got, want)
		}
	}
}

func TestFullOutputDoesNotCountAsAHang(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	spec := f.spec(Interceptor, "trial", trial{Suffix: "!"})
	spec.Timeout = 100 * time.Millisecond
	s := f.start(t, spec)
	in, out := make(chan *record.Batch, 10), make(chan *record.Batch)
	for _, b := range numbered(10, 10) {
		in <- b
	}
	close(in)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context(), 0, in, out) }()
	<-time.After(5 * spec.Timeout) // what is tested is that nothing happens meanwhile
	var got []*record.Batch
	for range 10 {
		got = append(got, <-out)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	wantNumbered(t, live(got), 100, "!")
	if n := s.Status().Restarts; n != 0 {
		t.Errorf("%d restarts, want none", n)
	}
}

func TestIdlePluginThatStopsIsReplaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.start(t, f.spec(Interceptor, "trial", trial{Suffix: "!"}))
	ctx, cancel := context.WithCancel(t.Context())
	in, out := make(chan *record.Batch), make(chan *record.Batch)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, 0, in, out) }()
	in <- batchOf(1, "a")
	<-out
	first := s.Status().PID
	kill(t, first, syscall.SIGSTOP)
	eventually(t, 20*time.Second, func() bool {
		status := s.Status()
		return status.State == Ready && status.PID != first
	})
	in <- batchOf(2, "b")
	if got := live([]*record.Batch{<-out}); got[0] != "b!" {
		t.Errorf("got %q", got)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v, want the context's error", err)
	}
}

// kill signals one process; 0 would be the test's own group.
func kill(t *testing.T, pid int, signal syscall.Signal) {
	t.Helper()
	if pid < 2 {
		t.Errorf("no process to signal: %d", pid)
		return
	}
	syscall.Kill(pid, signal)
}

// eventually polls until the condition holds.
func eventually(t *testing.T, within time.Duration, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("it did not happen within %s", within)
		}
	}
}

func TestRestartWaitsForTheFileToComeBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.start(t, f.spec(Interceptor, "trial", trial{Suffix: "!"}))
	binary, aside := filepath.Join(f.dir, "barnabas-interceptor-trial"), filepath.Join(f.dir, "aside")
	if err := os.Rename(binary, aside); err != nil {
		t.Fatal(err)
	}
	kill(t, s.Status().PID, syscall.SIGKILL)
	eventually(t, 10*time.Second, func() bool {
		status := s.Status()
		return status.State == Backoff && strings.Contains(status.LastError, "there is no file")
	})
	if err := os.Rename(aside, binary); err != nil {
		t.Fatal(err)
	}
	wantNumbered(t, live(pass(t, s, 0, numbered(3, 10)...)), 30, "!")
}

func TestCloseDoesNotWaitForARestart(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.start(t, f.spec(Interceptor, "trial", trial{}))
	if err := os.Remove(filepath.Join(f.dir, "barnabas-interceptor-trial")); err != nil {
		t.Fatal(err)
	}
	kill(t, s.Status().PID, syscall.SIGKILL)
	eventually(t, 10*time.Second, func() bool { return s.Status().State == Backoff })
	began := time.Now()
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("Close took %s", took)
	}
	if got := s.Status().State; got != Stopped {
		t.Errorf("state %s", got)
	}
}

func TestFloodedOutputHurtsNobody(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.start(t, f.spec(Interceptor, "trial", trial{Suffix: "!", Flood: true}))
	wantNumbered(t, live(pass(t, s, 0, numbered(10, 10)...)), 100, "!")
	if n := s.Status().Restarts; n != 0 {
		t.Errorf("%d restarts, want none", n)
	}
	logs := f.logs.String()
	if strings.Contains(logs, "\x1b") || strings.Contains(logs, "\r") {
		t.Error("control characters reached the log")
	}
	if n := strings.Count(logs, "\n"); n > 2000 {
		t.Errorf("%d lines were logged", n)
	}
	if !strings.Contains(logs, "prints too much") {
		t.Error("the log does not say that lines were left out")
	}
}

func TestLanesShareAProcessThatKeepsDying(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.start(t, f.spec(Interceptor, "trial", trial{Suffix: "!"}))
	done := make(chan struct{})
	var killer, lanes sync.WaitGroup
	killer.Go(func() {
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if status := s.Status(); status.PID > 0 {
					kill(t, status.PID, syscall.SIGKILL)
				}
			}
		}
	})
	for lane := range 3 {
		lanes.Go(func() {
			for round := 0; s.Status().Restarts < 4; round++ {
				wantNumbered(t, live(pass(t, s, lane, numbered(40, 50)...)), 2000, "!")
			}
		})
	}
	lanes.Wait()
	close(done)
	killer.Wait()
}
