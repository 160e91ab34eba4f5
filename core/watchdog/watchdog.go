// Package watchdog finds goroutines that have stopped for good, so that a
// supervisor can start the process anew.
//
// Each loop that the agent can't do without has a [Pulse], on which it is asked
// whether it lives, and answers by receiving. One that has not answered for
// the limit is looked at in the runtime's own list of goroutines: where it waits for
// another goroutine, it has stopped. Where it is in a system call, a disk or a
// mount does not answer, which a new process would not change; where it runs, it is at work.
package watchdog

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Watchdog asks the pulses it has made. Its methods are safe for concurrent use.
type Watchdog struct {
	limit time.Duration
	now   func() time.Time

	mu     sync.Mutex
	pulses map[*Pulse]time.Time // of running loops: since when the question is open; zero: it is not
}

// New makes a watchdog that gives a loop the limit for its answer.
func New(limit time.Duration, now func() time.Time) *Watchdog {
	return &Watchdog{limit: limit, now: now, pulses: make(map[*Pulse]time.Time)}
}

// Pulse is the sign of life of one goroutine. A nil pulse is never asked.
type Pulse struct {
	watchdog *Watchdog
	name     string
	excused  func() bool
	asked    chan struct{} // of one element; sent to by Check, received from by the loop
	id       uint64        // of the goroutine; under the watchdog's lock
}

// Pulse makes a pulse with a name for people. excused, which may be nil, says
// that the loop waits for something else that is watched by itself. A nil watchdog makes nil.
func (w *Watchdog) Pulse(name string, excused func() bool) *Pulse {
	if w == nil {
		return nil
	}
	return &Pulse{watchdog: w, name: name, excused: excused, asked: make(chan struct{}, 1)}
}

// Begin is called by the goroutine whose pulse it is, once; from then until the
// returned function is called it is asked.
func (p *Pulse) Begin() (end func()) {
	if p == nil {
		return func() {}
	}
	w := p.watchdog
	w.mu.Lock()
	defer w.mu.Unlock()
	p.id = goroutineID()
	w.pulses[p] = time.Time{}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.pulses, p)
	}
}

// Asked is ready when the loop is asked; receiving is the answer. Nobody else
// may receive.
func (p *Pulse) Asked() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.asked
}

// Answer answers if there is a question: for a loop that is inside something long.
func (p *Pulse) Answer() {
	select {
	case <-p.Asked():
	default:
	}
}

// Check asks every loop, and returns an error that names those that have stopped.
// It is called several times within the limit.
func (w *Watchdog) Check() error {
	overdue := w.ask()
	overdue = slices.DeleteFunc(overdue, func(p *Pulse) bool { return p.excused != nil && p.excused() })
	if len(overdue) == 0 {
		return nil
	}
	states := goroutineStates()
	var stopped []string
	for _, p := range overdue {
		if state := states[p.id]; waitsForOthers(state) && len(p.asked) > 0 {
			stopped = append(stopped, fmt.Sprintf("%s (%s)", p.name, state))
		}
	}
	if len(stopped) == 0 {
		return nil
	}
	slices.Sort(stopped)
	return fmt.Errorf("stopped for more than %s: %s", w.limit, strings.Join(stopped, ", "))
}

// ask puts the question where there is none, and returns the loops that owe an answer for too long.
func (w *Watchdog) ask() []*Pulse {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	var overdue []*Pulse
	for p, since := range w.pulses {
		select {
		case p.asked <- struct{}{}:
			w.pulses[p] = now
			continue
		default:
		}
		if now.Sub(since) > w.limit {
			overdue = append(overdue, p)
		}
	}
	return overdue
}

// waitsForOthers says that a goroutine in that state goes on only when another
// one does something: the words are those of the runtime's waitReason.
func waitsForOthers(state string) bool {
	return slices.ContainsFunc([]string{"select", "chan ", "sync.", "semacquire"}, func(prefix string) bool {
		return strings.HasPrefix(state, prefix)
	})
}

// goroutineID is the number under which the runtime lists the calling goroutine.
func goroutineID() uint64 {
	var header [64]byte
	id, _ := parseHeader(header[:runtime.Stack(header[:], false)])
	return id
}

// mostStacks bounds the list that is looked at: beyond it goroutines are not found, and taken to be at work.
const mostStacks = 16 << 20

// goroutineStates returns what each goroutine does, as tracebacks say it.
func goroutineStates() map[uint64]string {
	list := make([]byte, 256<<10)
	for {
		n := runtime.Stack(list, true)
		if n < len(list) || len(list) >= mostStacks {
			list = list[:n]
			break
		}
		list = make([]byte, 2*len(list))
	}
	states := make(map[uint64]string)
	for block := range bytes.SplitSeq(list, []byte("\n\n")) {
		if id, state := parseHeader(block); id != 0 {
			states[id] = state
		}
	}
	return states
}

// parseHeader reads "goroutine 7 [chan receive, 2 minutes]:"; without it the id is 0.
func parseHeader(b []byte) (id uint64, state string) {
	line, _, _ := strings.Cut(string(b[:min(len(b), 256)]), "\n")
	rest, ok := strings.CutPrefix(line, "goroutine ")
	number, rest, _ := strings.Cut(rest, " ")
	id, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil {
		return 0, ""
	}
	_, rest, _ = strings.Cut(rest, "[")
	state, _, _ = strings.Cut(rest, "]")
	state, _, _ = strings.Cut(state, ",")
	return id, state
}
