package watchdog

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = time.Minute

// rig is a watchdog under a clock that only tests move.
type rig struct {
	*Watchdog
	now time.Time
}

func newRig() *rig {
	r := &rig{now: time.Unix(1000, 0)}
	r.Watchdog = New(limit, func() time.Time { return r.now })
	return r
}

// stopped asks, lets the limit pass and asks again.
func (r *rig) stopped() error {
	_ = r.Check()
	r.now = r.now.Add(limit + time.Second)
	return r.Check()
}

// loop runs f as a goroutine with a pulse, and returns when it has begun.
func (r *rig) loop(t *testing.T, excused func() bool, f func(*Pulse)) {
	t.Helper()
	begun := make(chan struct{})
	var running sync.WaitGroup
	p := r.Pulse("loop", excused)
	running.Go(func() {
		defer p.Begin()()
		close(begun)
		f(p)
	})
	<-begun
	t.Cleanup(running.Wait)
}

// await polls until the goroutine has reached what it waits for.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

func TestALoopThatAnswersLives(t *testing.T) {
	r := newRig()
	end := make(chan struct{})
	defer close(end)
	r.loop(t, nil, func(p *Pulse) {
		for {
			select {
			case <-p.Asked():
			case <-end:
				return
			}
		}
	})
	for range 3 {
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		await(t, "an answer", func() bool { return r.answered() })
		r.now = r.now.Add(limit + time.Second)
	}
}

func (r *rig) answered() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pulses {
		if len(p.asked) > 0 {
			return false
		}
	}
	return true
}

// TestALoopThatWaitsForOthersHasStopped tries the ways in which Go's goroutines wait for each other.
func TestALoopThatWaitsForOthersHasStopped(t *testing.T) {
	for name, wait := range map[string]func(end chan struct{}){
		"select": func(end chan struct{}) {
			select {
			case <-end:
			case <-make(chan int):
			}
		},
		"chan receive": func(end chan struct{}) { <-end },
		"sync.Mutex.Lock": func(end chan struct{}) {
			var mu sync.Mutex
			mu.Lock()
			go func() { <-end; mu.Unlock() }()
			mu.Lock()
		},
		"sync.WaitGroup.Wait": func(end chan struct{}) {
			var w sync.WaitGroup
			w.Go(func() { <-end })
			w.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig()
			end := make(chan struct{})
			defer close(end)
			r.loop(t, nil, func(*Pulse) { wait(end) })
			if err := r.Check(); err != nil {
				t.Fatal(err)
			}
			r.now = r.now.Add(limit)
			if err := r.Check(); err != nil {
				t.Errorf("before the limit: %v", err)
			}
			r.now = r.now.Add(time.Second)
			await(t, "the loop has stopped", func() bool {
				err := r.Check()
				return err != nil && strings.Contains(err.Error(), "loop ("+name)
			})
		})
	}
}

// A disk or a mount that does not answer is no deadlock, and no new process changes it.
func TestALoopInASystemCallHasNotStopped(t *testing.T) {
	r := newRig()
	var pipe [2]*os.File
	var err error
	if pipe[0], pipe[1], err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	defer pipe[0].Close()
	fd := int(pipe[0].Fd()) // makes reads of it block in the system call
	r.loop(t, nil, func(*Pulse) { readOne(fd) })
	await(t, "the system call", func() bool {
		for p := range r.pulses {
			return goroutineStates()[p.id] == "syscall"
		}
		return false
	})
	if err := r.stopped(); err != nil {
		t.Error(err)
	}
	pipe[1].Close()
}

func TestALoopAtWorkHasNotStopped(t *testing.T) {
	r := newRig()
	end := make(chan struct{}, 1)
	r.loop(t, nil, func(*Pulse) {
		for len(end) == 0 { // it is busy, and waits for nobody
		}
	})
	if err := r.stopped(); err != nil {
		t.Error(err)
	}
	end <- struct{}{}
}

func TestALoopThatIsExcusedOrHasEndedIsNotMissed(t *testing.T) {
	r := newRig()
	end := make(chan struct{})
	excused := true
	r.loop(t, func() bool { return excused }, func(*Pulse) { <-end })
	if err := r.stopped(); err != nil {
		t.Error(err)
	}
	excused = false
	await(t, "the loop has stopped", func() bool { return r.Check() != nil })
	close(end)
	await(t, "the loop's end", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.pulses) == 0 })
	if err := r.Check(); err != nil {
		t.Error(err)
	}
}

func TestNobodyAsksANilPulse(t *testing.T) {
	var w *Watchdog
	p := w.Pulse("x", nil)
	defer p.Begin()()
	p.Answer()
	if p.Asked() != nil {
		t.Error("a nil pulse is asked")
	}
}

func TestHeadersOfTracebacks(t *testing.T) {
	for header, want := range map[string]struct {
		id    uint64
		state string
	}{
		"goroutine 7 [chan receive, 2 minutes]:\nmain.x()":  {7, "chan receive"},
		"goroutine 123 [syscall, locked to thread]:\n":      {123, "syscall"},
		"goroutine 9 [select (no cases)]:":                  {9, "select (no cases)"},
		"goroutine 12 gp=0xc000002380 m=nil [select]:\nx()": {12, "select"},
		"":               {},
		"goroutine":      {},
		"goroutine x []": {},
	} {
		if id, state := parseHeader([]byte(header)); id != want.id || state != want.state {
			t.Errorf("%q: %d %q", header, id, state)
		}
	}
}
