package pluginhost

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// poisoned makes batches of numbered rows, of which those that poison chooses hold "bad".
func poisoned(batches, rows int, poison func(n int) bool) []*record.Batch {
	var all []*record.Batch
	for b := range batches {
		var values []string
		for r := range rows {
			n := b*rows + r
			value := fmt.Sprintf("v%d", n)
			if poison(n) {
				value += " bad"
			}
			values = append(values, value)
		}
		all = append(all, batchOf(uint64(b+1), values...))
	}
	return all
}

// wantIsolated checks that exactly the poison of the batches failed, with the
// crash's output, and everything else went on once, in order.
func wantIsolated(t *testing.T, batches []*record.Batch, rows int, poison func(n int) bool, says string) {
	t.Helper()
	for b, batch := range batches {
		if batch.ID != uint64(b+1) {
			t.Fatalf("batch %d came in place %d", batch.ID, b+1)
		}
		var want, got []string
		var failed []uint32
		for r := range rows {
			if n := b*rows + r; poison(n) {
				failed = append(failed, uint32(r))
			} else {
				want = append(want, fmt.Sprintf("v%d!", n))
			}
		}
		got = live([]*record.Batch{batch})
		if !slices.Equal(got, want) {
			t.Fatalf("batch %d: %d records went on, want %d: %.200v", batch.ID, len(got), len(want), got)
		}
		if len(batch.Failures) != len(failed) {
			t.Fatalf("batch %d: failures %v, want rows %v", batch.ID, batch.Failures, failed)
		}
		for n, f := range batch.Failures {
			if f.Row != failed[n] || f.Code != codeCrash || f.Stage != "trial" || !strings.Contains(f.Message, says) {
				t.Errorf("failure %+v, want row %d", f, failed[n])
			}
			if strings.Contains(f.Message, "\x1b") {
				t.Errorf("the message is not escaped: %q", f.Message)
			}
			if len(f.Message) > 4*outputShown {
				t.Errorf("the message has %d bytes", len(f.Message))
			}
		}
	}
}

func TestRecordsThatBreakThePluginAreFound(t *testing.T) {
	for name, c := range map[string]struct {
		config     trial
		poison     []int
		processes  int // at most
		says       string
		rows, each int
	}{
		"one that panics":     {config: trial{PanicWhen: "bad"}, poison: []int{1300}, rows: 1024, each: 2, processes: 2 + 10, says: "panic: can't bear v1300"},
		"one that is killed":  {config: trial{KillWhen: "bad"}, poison: []int{0}, rows: 64, each: 3, processes: 2 + 6, says: "can't bear v0"},
		"the only one":        {config: trial{PanicWhen: "bad"}, poison: []int{2}, rows: 1, each: 5, processes: 2, says: "exit status 2"},
		"several of a batch":  {config: trial{PanicWhen: "bad"}, poison: []int{3, 4, 9, 15}, rows: 16, each: 2, processes: 4 * (2 + 4), says: "can't bear"},
		"all of a batch":      {config: trial{PanicWhen: "bad"}, poison: []int{4, 5, 6, 7}, rows: 4, each: 3, processes: 4 * (2 + 2), says: "can't bear"},
		"some of each batch":  {config: trial{PanicWhen: "bad"}, poison: []int{1, 8, 13, 16}, rows: 4, each: 6, processes: 4 * (2 + 2), says: "can't bear"},
		"one that hangs":      {config: trial{HangWhen: "bad"}, poison: []int{6}, rows: 4, each: 4, processes: 2 + 2, says: "hang: a batch was not answered"},
		"a hang has a stack":  {config: trial{HangWhen: "bad"}, poison: []int{1}, rows: 2, each: 1, processes: 2 + 1, says: "SIGQUIT: quit"},
		"a stack has a cause": {config: trial{PanicWhen: "bad"}, poison: []int{1}, rows: 2, each: 1, processes: 2 + 1, says: "goroutine"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			c.config.Suffix = "!"
			spec := f.spec(Interceptor, "trial", c.config)
			if c.config.HangWhen != "" {
				spec.Timeout = 500 * time.Millisecond
			}
			s := f.start(t, spec)
			poison := func(n int) bool { return slices.Contains(c.poison, n) }
			wantIsolated(t, passWithin(t, time.Minute, s, 0, poisoned(c.each, c.rows, poison)...), c.rows, poison, c.says)
			if n := s.Status().Restarts; n > c.processes {
				t.Errorf("%d processes broke, want at most %d", n, c.processes)
			}
			if state := s.Status().State; state != Ready {
				t.Errorf("the stage is %s", state)
			}
		})
	}
}

func TestPoisonOfSeveralLanesIsFound(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.start(t, f.spec(Interceptor, "trial", trial{Suffix: "!", PanicWhen: "bad"}))
	poison := func(n int) bool { return n == 37 || n == 410 }
	const lanes, each, rows = 3, 6, 100
	var running sync.WaitGroup
	for lane := range lanes {
		running.Go(func() {
			wantIsolated(t, passWithin(t, 2*time.Minute, s, lane, poisoned(each, rows, poison)...), rows, poison, "can't bear v")
		})
	}
	running.Wait()
	// Two crashes, at most one more to know the lane, and seven halvings, for each of six records.
	if n := s.Status().Restarts; n > 6*(2+1+7) {
		t.Errorf("%d processes broke", n)
	}
}

func TestOnErrorOfARecordThatBreaksThePlugin(t *testing.T) {
	for policy, want := range map[OnError]struct{ live, dropped int }{
		DropRecord: {live: 3, dropped: 1},
		Pass:       {live: 4},
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			spec := f.spec(Interceptor, "trial", trial{Suffix: "!", PanicWhen: "bad"})
			spec.OnError = policy
			b := pass(t, f.start(t, spec), 0, batchOf(1, "a", "b", "bad", "c"))[0]
			if len(b.Live) != want.live || len(b.Dropped) != want.dropped || len(b.Failures) != 0 {
				t.Errorf("live %v, dropped %v, failures %v; want %+v", b.Live, b.Dropped, b.Failures, want)
			}
			if policy == Pass && string(b.Value.Bytes(2)) != "bad" {
				t.Errorf("what was passed on is %q", b.Value.Bytes(2))
			}
		})
	}
}

// A record that may not be put aside keeps its lane, and a plugin that breaks
// over everything keeps all of them: the stage is broken and says so.
func TestWhatCanNotBePutAsideBlocks(t *testing.T) {
	for name, c := range map[string]struct {
		onError OnError
		rows    int
		failed  int
	}{
		"on_error block":  {onError: Block, rows: 4, failed: 0},
		"every record":    {onError: Quarantine, rows: 60, failed: mostInARow},
		"every one alone": {onError: Quarantine, rows: 1, failed: mostInARow},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			spec := f.spec(Interceptor, "trial", trial{PanicWhen: "v"})
			spec.OnError = c.onError
			s := f.start(t, spec)
			ctx, cancel := context.WithCancel(t.Context())
			in, out := make(chan *record.Batch), make(chan *record.Batch, mostInARow)
			var running sync.WaitGroup
			running.Go(func() { s.Run(ctx, 0, in, out) })
			batches := numbered(mostInARow+2, c.rows)
			running.Go(func() {
				for _, b := range batches {
					select {
					case in <- b:
					case <-ctx.Done():
						return
					}
				}
			})
			eventually(t, 2*time.Minute, func() bool { return s.Status().State == Broken })
			cancel()
			running.Wait()
			failed := 0
			for _, b := range batches {
				failed += len(b.Failures)
			}
			if failed != c.failed {
				t.Errorf("%d records were put aside, want %d", failed, c.failed)
			}
		})
	}
}

// handClock is the system's clock, except that a breaker's minute passes when the test says so.
type handClock struct {
	systemClock
	minute chan time.Time
}

func (c handClock) After(d time.Duration) (<-chan time.Time, func()) {
	if d >= halfOpen {
		return c.minute, func() {}
	}
	return c.systemClock.After(d)
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	clock := handClock{minute: make(chan time.Time)}
	f.options.Clock = clock
	licence := filepath.Join(f.dir, "licence")
	s := f.start(t, f.spec(Interceptor, "trial", trial{Suffix: "!", DieUnless: licence}))
	broken := func() bool { return s.Status().State == Broken }
	eventually(t, time.Minute, broken)
	status := s.Status()
	if status.Restarts != crashLimit || !strings.Contains(status.LastError, "exit status 2") {
		t.Errorf("status %+v, want %d crashes", status, crashLimit)
	}
	clock.minute <- time.Now() // half open: one crash opens it again
	eventually(t, time.Minute, func() bool { return broken() && s.Status().Restarts == crashLimit+1 })
	if err := os.WriteFile(licence, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan []string, 1)
	go func() { done <- live(pass(t, s, 0, numbered(3, 10)...)) }()
	clock.minute <- time.Now()
	wantNumbered(t, <-done, 30, "!")
}

func TestBrokenPluginIsTriedAtOnceWhenItsFileChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.options.Clock = handClock{minute: make(chan time.Time)}
	plugin := f.script(t, "barnabas-interceptor-trial")
	s := f.start(t, at(f.spec(Interceptor, "trial", trial{Suffix: "!"}), plugin))
	f.replace(t, plugin, "#!/bin/sh\nexit 1\n")
	killAll(t, s)
	eventually(t, time.Minute, func() bool { return s.Status().State == Broken })
	f.replace(t, plugin, f.runs("barnabas-interceptor-later"))
	eventually(t, 10*time.Second, func() bool { return s.Status().State == Ready })
	if version := s.Status().Version; version != "2.0.0" {
		t.Errorf("version %q runs", version)
	}
}

func TestBreakerForgetsWhatIsLongAgo(t *testing.T) {
	t.Parallel()
	var b breaker
	now := time.Unix(0, 0)
	for n := range 20 {
		if now = now.Add(crashWindow / (crashLimit - 1)); b.crash(now) {
			t.Fatalf("crash %d opened it, though there are never %d in %s", n, crashLimit, crashWindow)
		}
	}
	for n := range crashLimit - 1 {
		now = now.Add(time.Second)
		if n == 1 {
			b.explain()
			b.explain()
		}
		b.crash(now)
	}
	if !b.crash(now) {
		t.Errorf("it is closed after %d crashes at once", crashLimit)
	}
	b = breaker{}
	b.try()
	if !b.crash(now) {
		t.Error("a crash leaves it half open")
	}
	b = breaker{}
	b.try()
	b.steady()
	if b.crash(now) {
		t.Error("a process that lasted does not close it")
	}
}

func TestPausesDoubleUpToTheirMost(t *testing.T) {
	t.Parallel()
	b := doubling{first: firstRestart, most: mostRestart}
	for n := range 40 {
		pause := b.next()
		middle := min(firstRestart<<min(n, 20), mostRestart)
		if least := middle * 8 / 10; pause < least || pause > min(middle*12/10, mostRestart) {
			t.Errorf("pause %d is %s, want %s give or take a fifth, at most %s", n, pause, middle, mostRestart)
		}
	}
}

// Whoever kills processes, also while they start, is no fault of the plugin.
func TestKilledProcessesDoNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	plugin := f.script(t, "barnabas-interceptor-trial")
	s := f.start(t, at(f.spec(Interceptor, "trial", trial{Suffix: "!"}), plugin))
	f.replace(t, plugin, "#!/bin/sh\n[ \"$1\" = describe ] && exec "+filepath.Join(f.dir, "barnabas-interceptor-trial")+" describe\nkill -9 $$\n")
	killAll(t, s)
	eventually(t, time.Minute, func() bool { return strings.Count(f.logs.String(), "does not start") > crashLimit })
	if strings.Contains(f.logs.String(), "breaks again and again") {
		t.Error("the breaker is open")
	}
	f.replace(t, plugin, f.runs("barnabas-interceptor-trial"))
	wantNumbered(t, live(passWithin(t, 2*time.Minute, s, 0, numbered(3, 10)...)), 30, "!")
}
