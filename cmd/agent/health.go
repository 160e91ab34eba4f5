package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/barnabas-agent/barnabas/core/admin"
	"github.com/barnabas-agent/barnabas/core/pluginhost"
)

// stuckAfter is how long a pipeline may hold a record, with nothing known to be
// in its way, before the agent calls itself unhealthy.
const stuckAfter = 60 * time.Second

// readiness says whether records can move.
type readiness struct{ running atomic.Bool }

func (r *readiness) set(running bool) { r.running.Store(running) }

// reasons says why the agent is not ready; none: it is.
func (a *agent) reasons() []string {
	if !a.ready.running.Load() {
		return []string{"the agent is starting or stopping"}
	}
	return a.obstacles()
}

// obstacles are the troubles of producers, plugins, quarantines and positions.
func (a *agent) obstacles() []string {
	var reasons []string
	for _, p := range a.producers {
		for _, problem := range p.Status().Problems {
			reasons = append(reasons, fmt.Sprintf("producer %s: %s", p.name, problem))
		}
	}
	if problem := a.positions.Problem(); problem != "" {
		reasons = append(reasons, "positions can't be stored: "+problem)
	}
	for _, l := range a.lines {
		if problem := l.pipeline.Problem(); problem != "" {
			reasons = append(reasons, fmt.Sprintf("pipeline %s: %s", l.config.Name, problem))
		}
		for i, s := range l.sources {
			if problem := s.problem(); problem != "" {
				reasons = append(reasons, fmt.Sprintf("pipeline %s: source %s: %s", l.config.Name, l.config.Sources[i].Name, problem))
			}
		}
		for _, s := range l.stages {
			if status := s.Status(); status.State != pluginhost.Ready {
				reasons = append(reasons, strings.TrimSpace(fmt.Sprintf("pipeline %s: plugin %s is %s %s", l.config.Name, status.Stage, status.State, status.LastError)))
			}
		}
	}
	return reasons
}

// healthy is an error where a part of the agent has stopped, and where records don't move and nothing is known to be in
// their way: a broker that is down or a plugin that restarts is not the agent's ill health.
func (a *agent) healthy() error {
	if problem := a.stopped.Load(); problem != nil {
		return errors.New(*problem)
	}
	if len(a.reasons()) > 0 {
		return nil
	}
	for _, l := range a.lines {
		if age := l.pipeline.OldestUnacknowledged(); age > stuckAfter {
			return fmt.Errorf("pipeline %s holds a record since %s, though producer and plugins are up", l.config.Name, age.Round(time.Second))
		}
	}
	return nil
}

// status is the agent's whole status.
func (a *agent) status() admin.Status {
	reasons := a.reasons()
	s := admin.Status{Version: version, PID: os.Getpid(), Started: a.started, Ready: len(reasons) == 0, Reasons: reasons}
	s.Totals, s.Rates = a.meter.read("")
	inflight := make(map[string]int64)
	for _, l := range a.lines {
		p := a.pipelineStatus(l)
		inflight[p.Producer] += p.InflightRecords
		s.Pipelines = append(s.Pipelines, p)
	}
	for _, p := range a.producers {
		status := p.Status()
		one := admin.Producer{Name: p.name, State: "up", BufferUsed: status.BufferUsed, BufferLimit: status.BufferLimit, InflightRecords: inflight[p.name]}
		if len(status.Problems) > 0 {
			one.State, one.Detail = "down", strings.Join(status.Problems, "; ")
		}
		s.Producers = append(s.Producers, one)
	}
	return s
}

func (a *agent) pipelineStatus(l *line) admin.Pipeline {
	p := admin.Pipeline{
		Name: l.config.Name, Producer: l.config.Producer, State: "running",
		InflightRecords: int64(l.pipeline.InFlight()), OldestUnackedSeconds: l.pipeline.OldestUnacknowledged().Seconds(),
	}
	p.Detail = l.pipeline.Problem()
	if p.Detail == "" && a.window.Closed() {
		p.Detail = "nothing is read while positions can't be stored"
	}
	if p.Detail != "" {
		p.State = "blocked"
	}
	if !a.ready.running.Load() {
		p.State = "stopped"
	}
	p.Totals, p.Rates = a.meter.read(l.config.Name)
	for i, source := range l.sources {
		one := admin.Source{Name: l.config.Sources[i].Name, Kind: string(l.config.Sources[i].Kind)}
		source.describe(&one)
		p.Sources = append(p.Sources, one)
	}
	for _, stage := range l.stages {
		status := stage.Status()
		if status.State == pluginhost.Broken {
			p.State, p.Detail = "blocked", fmt.Sprintf("plugin %s is broken: %s", status.Stage, status.LastError)
		}
		p.Stages = append(p.Stages, admin.Stage{
			Instances: instances(status.Instances),
			Name:      status.Stage, Kind: string(status.Kind), Plugin: status.Plugin, Version: status.Version,
			State: stageState(status.State), Detail: status.LastError, PID: status.PID, Restarts: int64(status.Restarts),
		})
	}
	return p
}

// instances are the processes of a stage that has several.
func instances(all []pluginhost.InstanceStatus) []admin.Instance {
	if len(all) < 2 {
		return nil
	}
	shown := make([]admin.Instance, len(all))
	for i, one := range all {
		shown[i] = admin.Instance{State: stageState(one.State), Detail: one.LastError, PID: one.PID, Restarts: int64(one.Restarts)}
	}
	return shown
}

// stageState is the state of a plugin in the words of the status document.
func stageState(s pluginhost.State) string {
	switch s {
	case pluginhost.Ready:
		return "up"
	case pluginhost.Starting:
		return "starting"
	case pluginhost.Broken:
		return "broken"
	default:
		return "down"
	}
}
