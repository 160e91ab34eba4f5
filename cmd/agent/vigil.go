package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/barnabas-agent/barnabas/core/watchdog"
)

// vigil decides whether the agent is alive: whether its loops answer, and whether
// every pipeline that holds records gets on, or has a cause outside of the agent
// not to. It rather misses a standstill than takes an outage for one: to be
// started anew helps against the former only. Its check belongs to one goroutine.
type vigil struct {
	loops *watchdog.Watchdog
	limit time.Duration // of a pipeline's standstill, beside what its plugins may take
	now   func() time.Time
	marks map[*line]mark
}

// mark is how far a pipeline was, and since when.
type mark struct {
	progress progress
	since    time.Time
}

// progress is what changes when a pipeline gets on, or its plugins do.
type progress struct {
	settled  int64 // records delivered, dropped, quarantined
	inFlight int
	restarts int
	waits    uint64
}

// newVigil makes a watch for a supervisor that gives the agent the period.
func newVigil(period time.Duration, now func() time.Time) *vigil {
	return &vigil{loops: watchdog.New(period/2, now), limit: 2 * period, now: now, marks: make(map[*line]mark)}
}

// pulse makes the pulse of a loop.
func (v *vigil) pulse(owner, loop string, excused func() bool) *watchdog.Pulse {
	return v.loops.Pulse(owner+": "+loop, excused)
}

// sourcePulse makes the pulse of a source's loop. A reader may wait for its pipeline
// to take what was read: that the pipeline gets on is watched by itself.
func (v *vigil) sourcePulse(a *agent, l *line, source, loop string, reader bool) *watchdog.Pulse {
	var excused func() bool
	if reader {
		excused = func() bool { return l.pipeline.InFlight() > 0 || a.excused(l) }
	}
	return v.pulse("pipeline "+l.config.Name+", source "+source, loop, excused)
}

// excused says that a pipeline may stand still: brokers owe reports, or something is
// known to be in the records' way.
func (a *agent) excused(l *line) bool {
	return a.producer(l.config.Producer).Owed() > 0 || len(a.obstacles()) > 0
}

// check returns an error that says what has stopped.
func (v *vigil) check(a *agent) error {
	problems := []error{v.loops.Check()}
	for _, l := range a.lines {
		problems = append(problems, v.checkLine(a, l))
	}
	return errors.Join(problems...)
}

// checkLine returns an error for a pipeline that stands still without a cause.
func (v *vigil) checkLine(a *agent, l *line) error {
	patience := v.limit
	now := progress{inFlight: l.pipeline.InFlight()}
	if now.inFlight == 0 {
		delete(v.marks, l)
		return nil
	}
	excused := a.excused(l)
	for _, s := range l.stages {
		waits, ever := s.Waits()
		now.waits += ever
		now.restarts += s.Status().Restarts
		patience = max(patience, v.limit+s.Timeout())
		excused = excused || waits || s.Timeout() == 0 // under a debugger
	}
	total, _ := a.meter.read(l.config.Name)
	now.settled = total.DeliveredRecords + total.DroppedRecords + total.QuarantinedRecords
	last, known := v.marks[l]
	if !known || last.progress != now || excused {
		v.marks[l] = mark{progress: now, since: v.now()}
		return nil
	}
	if still := v.now().Sub(last.since); still > patience {
		return fmt.Errorf("pipeline %s has held %s for %s, though brokers and plugins are up", l.config.Name,
			count(now.inFlight, "record"), still.Round(time.Second))
	}
	return nil
}
