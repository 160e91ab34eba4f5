package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/barnabas-agent/barnabas/core/admin"
)

const (
	// watchPeriod is the WatchdogSec of packaging/barnabas.service, for an agent that nobody supervises.
	watchPeriod = 30 * time.Second
	// statusEvery is how often systemd's status text is renewed.
	statusEvery = 5 * time.Second
	// mostStatus bounds the text: one line on a terminal, more or less.
	mostStatus = 300
)

// supervisor is systemd, or whoever has set NOTIFY_SOCKET (sd_notify(3)); without
// that nothing is told.
type supervisor struct {
	log    *slog.Logger
	period time.Duration // of WATCHDOG=1; 0: not wanted
	failed sync.Once     // a failure has been logged
}

// newSupervisor reads the environment.
func newSupervisor(log *slog.Logger) *supervisor {
	s := &supervisor{log: log}
	period, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("WATCHDOG_USEC or WATCHDOG_PID can't be read: systemd's watchdog is not answered", "error", err)
	}
	s.period = period
	return s
}

// tell sends variables of sd_notify(3). That nobody listens is no reason to stop.
func (s *supervisor) tell(variables ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(variables, "\n")); err != nil {
		s.failed.Do(func() { s.log.Warn("systemd can't be notified", "error", err) })
	}
}

func statusText(text string) string { return "STATUS=" + text }

// supervise tells systemd how the agent is, until the returned function is
// called. It is ready once the producers have their clients, connected or not: a
// broker that is down must not keep the unit from starting. soft's end begins the agent's.
func (a *agent) supervise(soft context.Context) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for _, p := range a.producers {
			select {
			case <-p.Started():
			case <-soft.Done():
			}
		}
		if soft.Err() == nil {
			a.supervisor.tell(daemon.SdNotifyReady, statusText(a.statusLine()))
		}
		a.watchOver(ctx, soft)
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// watchOver renews status and watchdog until ctx ends. While the agent stops, its
// time is limited otherwise, and the watchdog is answered in any case.
func (a *agent) watchOver(ctx, soft context.Context) {
	tick := time.NewTicker(a.watchInterval())
	defer tick.Stop()
	stopping := soft.Done()
	told := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-stopping:
			stopping = nil
			a.supervisor.tell(daemon.SdNotifyStopping, statusText("stopping: "+a.statusLine()))
		case <-tick.C:
			var state []string
			if soft.Err() != nil || a.alive() {
				state = append(state, daemon.SdNotifyWatchdog)
			}
			if soft.Err() == nil && time.Since(told) >= statusEvery {
				told = time.Now()
				state = append(state, statusText(a.statusLine()))
			}
			if len(state) > 0 {
				a.supervisor.tell(state...)
			}
		}
	}
}

// watchInterval is several times within what systemd and the loops are given.
func (a *agent) watchInterval() time.Duration {
	interval := statusEvery
	if a.supervisor.period > 0 {
		interval = min(interval, a.supervisor.period/4)
	}
	return interval
}

// alive keeps the verdict of the vigil, and logs when it changes.
func (a *agent) alive() bool {
	err := a.vigil.check(a)
	before := a.stopped.Load()
	switch {
	case err != nil:
		text := err.Error()
		a.stopped.Store(&text)
		if before == nil {
			a.log.Error("the agent has stopped: under systemd it is started anew, with the stacks of what it did in the journal", "problem", text)
		}
	case before != nil:
		a.stopped.Store(nil)
		a.log.Info("the agent goes on")
	}
	return err == nil
}

// statusLine is the agent in one line: rates and lag, and what is in the records' way.
func (a *agent) statusLine() string {
	_, rates := a.meter.read("")
	line := fmt.Sprintf("%s records/s, lag %s, %s", thousands(int64(rates.DeliveredRecords)), bytesText(a.lag()), count(len(a.lines), "pipeline"))
	if problem := a.stopped.Load(); problem != nil {
		line += "; stopped: " + *problem
	}
	for i, obstacle := range a.obstacles() {
		if i == 2 {
			line += "; and more"
			break
		}
		line += "; " + obstacle
	}
	line = printable(line)
	if len(line) > mostStatus {
		line = strings.ToValidUTF8(line[:mostStatus], "") + " …"
	}
	return line
}

// lag is the bytes of all sources that are not delivered.
func (a *agent) lag() int64 {
	var lag int64
	for _, l := range a.lines {
		for _, s := range l.sources {
			var one admin.Source
			s.describe(&one)
			lag += one.LagBytes
		}
	}
	return lag
}
