package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// runs is a script that runs one of the fixture's plugins.
func (f *fixture) runs(name string) string {
	return "#!/bin/sh\nexec " + filepath.Join(f.dir, name) + " \"$@\"\n"
}

// script is a plugin whose file can be replaced.
func (f *fixture) script(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(f.dir, "plugin.sh")
	f.replace(t, path, f.runs(name))
	return path
}

// replace installs another file in a plugin's place, as a package would.
func (f *fixture) replace(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// killAll kills the processes of a stage.
func killAll(t *testing.T, s *Stage) {
	t.Helper()
	for _, one := range s.Status().Instances {
		if one.PID > 0 {
			kill(t, one.PID, syscall.SIGKILL)
		}
	}
}

// flow runs lanes of a stage until it is ended.
type flow struct {
	t     *testing.T
	lanes []*flowLane
	end   chan struct{}
	all   sync.WaitGroup
}

type flowLane struct {
	mu   sync.Mutex
	sent int
	got  []string
}

const flowRows = 20

// startFlow feeds each lane with numbered records as fast as it takes them.
func startFlow(t *testing.T, s *Stage, lanes int) *flow {
	f := &flow{t: t, end: make(chan struct{})}
	for n := range lanes {
		l := &flowLane{}
		f.lanes = append(f.lanes, l)
		in, out := make(chan *record.Batch), make(chan *record.Batch)
		f.all.Go(func() { l.feed(in, f.end) })
		f.all.Go(func() {
			defer close(out)
			if err := s.Run(context.Background(), n, in, out); err != nil {
				t.Errorf("lane %d: %v", n, err)
			}
		})
		f.all.Go(func() { l.collect(out) })
	}
	return f
}

func (l *flowLane) feed(in chan<- *record.Batch, end <-chan struct{}) {
	defer close(in)
	for id := uint64(1); ; id++ {
		var values []string
		for range flowRows {
			values = append(values, fmt.Sprintf("v%d", l.sent))
			l.sent++
		}
		in <- batchOf(id, values...)
		select {
		case <-end:
			return
		default:
		}
	}
}

func (l *flowLane) collect(out <-chan *record.Batch) {
	for b := range out {
		l.mu.Lock()
		l.got = append(l.got, live([]*record.Batch{b})...)
		l.mu.Unlock()
	}
}

// count is how many records of a lane have come through.
func (l *flowLane) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.got)
}

// progress waits until every lane has taken more records.
func (f *flow) progress() {
	f.t.Helper()
	for _, l := range f.lanes {
		before := l.count()
		eventually(f.t, time.Minute, func() bool { return l.count() > before+5*flowRows })
	}
}

// finish ends the flow and checks that every record came once, in order, with
// one of the suffixes, which follow each other and never come back.
func (f *flow) finish(suffixes string) {
	f.t.Helper()
	close(f.end)
	f.all.Wait()
	for n, l := range f.lanes {
		if len(l.got) != l.sent {
			f.t.Fatalf("lane %d: %d records came, %d were sent", n, len(l.got), l.sent)
		}
		at := 0
		for i, v := range l.got {
			number, suffix := v[:len(v)-1], v[len(v)-1:]
			if number != fmt.Sprintf("v%d", i) {
				f.t.Fatalf("lane %d: record %d is %q", n, i, v)
			}
			next := strings.Index(suffixes, suffix)
			if next < at {
				f.t.Fatalf("lane %d: record %d is %q, after one with %q", n, i, v, suffixes[at:at+1])
			}
			at = next
		}
		if at != len(suffixes)-1 {
			f.t.Errorf("lane %d: nothing came with %q", n, suffixes[len(suffixes)-1:])
		}
	}
}

func TestReloadMovesLanesBetweenBatches(t *testing.T) {
	for _, instances := range []int{1, 2} {
		t.Run(fmt.Sprint(instances), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			plugin := f.script(t, "barnabas-interceptor-earlier")
			spec := at(f.spec(Interceptor, "trial", trial{Nap: 1}), plugin) // each version has its own suffix
			spec.Instances = instances
			f.reloadUnderLoad(t, f.start(t, spec), plugin)
		})
	}
}

// reloadUnderLoad reloads a stage badly, then well.
func (f *fixture) reloadUnderLoad(t *testing.T, s *Stage, plugin string) {
	t.Helper()
	under := startFlow(t, s, 3)
	under.progress()
	f.replace(t, plugin, "#!/bin/sh\necho no licence found >&2\nexit 3\n")
	before := s.Status()
	var refused *Error
	if err := s.Reload(t.Context()); !errors.As(err, &refused) || !strings.Contains(err.Error(), "no licence found") {
		t.Errorf("reload of a plugin that does not start: %v", err)
	}
	if after := s.Status(); after.PID != before.PID || after.State != Ready || after.Version != "1.2.3" {
		t.Errorf("the old process did not stay: %+v, then %+v", before, after)
	}
	under.progress()
	f.replace(t, plugin, f.runs("barnabas-interceptor-later"))
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, one := range before.Instances {
		if alive(one.PID) {
			t.Errorf("the old process %d goes on", one.PID)
		}
	}
	under.progress()
	under.finish("!?")
	if after := s.Status(); after.Version != "2.0.0" || after.Restarts != 0 || after.State != Ready {
		t.Errorf("status %+v", after)
	}
}

func TestReloadWhileThePluginIsAway(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.options.Clock = handClock{minute: make(chan time.Time)}
	plugin := f.script(t, "barnabas-interceptor-trial")
	s := f.start(t, at(f.spec(Interceptor, "trial", trial{Suffix: "!"}), plugin))
	if err := os.Remove(plugin); err != nil {
		t.Fatal(err)
	}
	killAll(t, s)
	eventually(t, time.Minute, func() bool { return s.Status().State == Broken })
	if err := s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "there is no file") {
		t.Errorf("reload without a file: %v", err)
	}
	// Found by the reload or by the supervisor's own look at the file, whichever is first.
	f.replace(t, plugin, f.runs("barnabas-interceptor-trial"))
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantNumbered(t, live(pass(t, s, 0, numbered(3, 10)...)), 30, "!")
}

func TestOldProcessThatHangsDoesNotHoldTheReloadUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.start(t, f.spec(Interceptor, "trial", trial{Suffix: "!"}))
	under := startFlow(t, s, 2)
	under.progress()
	kill(t, s.Status().PID, syscall.SIGSTOP)
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	under.progress()
	under.finish("!")
}

func TestInstancesShareTheLanes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	spec := f.spec(Interceptor, "trial", trial{Suffix: "!"})
	spec.Instances = 2
	spec.Timeout = time.Minute
	s := f.start(t, spec)
	under := startFlow(t, s, 3)
	under.progress()
	status := s.Status()
	if len(status.Instances) != 2 || status.Instances[0].PID == status.Instances[1].PID {
		t.Fatalf("status %+v, want two processes", status)
	}
	kill(t, status.Instances[1].PID, syscall.SIGSTOP)
	for _, n := range []int{0, 2} { // the lanes of the other instance
		before := under.lanes[n].count()
		eventually(t, time.Minute, func() bool { return under.lanes[n].count() > before+10*flowRows })
	}
	stalled := under.lanes[1].count()
	kill(t, status.Instances[1].PID, syscall.SIGKILL)
	eventually(t, time.Minute, func() bool { return under.lanes[1].count() > stalled+10*flowRows })
	under.finish("!")
	status = s.Status()
	if status.Instances[0].Restarts != 0 || status.Instances[1].Restarts != 1 || status.Restarts != 1 {
		t.Errorf("status %+v, want one restart of the second instance", status)
	}
}

func TestRetryLaterStopsNobodyElse(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	down := filepath.Join(f.dir, "down")
	if err := os.WriteFile(down, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := f.start(t, f.spec(Interceptor, "trial", trial{Suffix: "!", RetryWhile: "needs", Marker: down}))
	waiting := make(chan []string, 1)
	go func() { waiting <- live(pass(t, s, 0, batchOf(1, "a", "needs registry"), batchOf(2, "b"))) }()
	eventually(t, time.Minute, func() bool { return strings.Contains(s.Status().LastError, "the registry is down") })
	wantNumbered(t, live(pass(t, s, 1, numbered(20, 10)...)), 200, "!")
	if len(waiting) > 0 {
		t.Error("the batch that was to wait came through")
	}
	if err := os.Remove(down); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(<-waiting, ","); got != "a!,needs registry!,b!" {
		t.Errorf("got %s", got)
	}
	if n := s.Status().Restarts; n != 0 {
		t.Errorf("%d restarts, want none", n)
	}
}

// TestIdleTimeIsNoWaitingTime: a batch has its whole timeout, however long the plugin was idle before.
func TestIdleTimeIsNoWaitingTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	spec := f.spec(Interceptor, "trial", trial{Suffix: "!", Nap: 2200})
	spec.Timeout = 4 * time.Second
	s := f.start(t, spec)
	in, out := make(chan *record.Batch), make(chan *record.Batch)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context(), 0, in, out) }()
	in <- batchOf(1, "a")
	<-out
	<-time.After(3 * time.Second) // idle, which is what is tested
	in <- batchOf(2, "b")
	<-out
	close(in)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if n := s.Status().Restarts; n != 0 {
		t.Errorf("%d restarts, want none: %s", n, s.Status().LastError)
	}
}

func TestSlowBatchIsReported(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	spec := f.spec(Interceptor, "trial", trial{Suffix: "!", Nap: 1500})
	spec.Timeout = time.Minute
	wantNumbered(t, live(pass(t, f.start(t, spec), 0, numbered(1, 10)...)), 10, "!")
	if logs := f.logs.String(); !strings.Contains(logs, "the plugin is slow") {
		t.Error("nothing was logged")
	}
}

func TestRestartStormLeaksNothing(t *testing.T) {
	f := newFixture(t)
	s := f.start(t, f.spec(Interceptor, "trial", trial{Suffix: "!"}))
	under := startFlow(t, s, 2)
	storm := func(kills int) {
		for range kills {
			under.progress()
			first := s.Status()
			killAll(t, s)
			eventually(t, time.Minute, func() bool { now := s.Status(); return now.Restarts > first.Restarts && now.State == Ready })
		}
	}
	storm(3)
	files := openFiles(t)
	storm(15)
	under.progress()
	if n := openFiles(t); n > files+4 {
		t.Errorf("%d open files after the storm, %d before", n, files)
	}
	if left, _ := filepath.Glob(filepath.Join(f.Host.dir, "plugin-dir*")); len(left) > 1 {
		t.Errorf("socket directories left: %v", left)
	}
	under.finish("!")
}
