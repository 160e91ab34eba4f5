package pluginhost

import (
	"context"
	"time"
)

const (
	firstRestart = 100 * time.Millisecond
	mostRestart  = 30 * time.Second
	steadyAfter  = 60 * time.Second       // a process that was ready for so long starts the backoff anew
	exitGrace    = 500 * time.Millisecond // between a broken connection and the exit that explains it
)

// Reasons of a restart, as the metric labels them.
const (
	reasonExit   = "exit"   // the process ended
	reasonHang   = "hang"   // a batch or a canary was not answered in time
	reasonReply  = "reply"  // a reply broke a rule of the protocol
	reasonStream = "stream" // the plugin ended a stream, or the transport broke
	reasonStart  = "start"  // a new process did not get ready
	outputLogged = 4 << 10  // bytes of the crash output in the log
)

// supervise keeps a process running until ctx ends, from the one that has been
// published. The one that is ready at the end is left for Close.
func (s *Stage) supervise(ctx context.Context, i *instance) {
	restarts := doubling{first: firstRestart, most: mostRestart}
	for {
		s.await(ctx, i)
		if !i.isBroken() {
			return
		}
		s.publish(nil)
		if time.Since(i.configured) >= steadyAfter {
			restarts.reset()
		}
		s.bury(i)
		if i = s.replace(ctx, &restarts); i == nil {
			return
		}
		s.publish(i)
	}
}

// await returns when the instance is broken or ctx ends.
func (s *Stage) await(ctx context.Context, i *instance) {
	process := i.run.started.Load()
	select {
	case <-process.exited:
		i.fail(reasonExit, process.status())
	case <-i.broken:
	case <-ctx.Done():
		return
	}
	if i.failure.reason == reasonStream {
		i.explainStream(ctx, process)
	}
}

// explainStream gives a broken connection a moment to turn out as the process's
// end. A lane may have seen the one before the supervisor saw the other.
func (i *instance) explainStream(ctx context.Context, p *process) {
	timer := time.NewTimer(exitGrace)
	defer timer.Stop()
	select {
	case <-p.exited:
		i.failure = breakage{reason: reasonExit, detail: p.status()}
	case <-timer.C:
	case <-ctx.Done():
	}
}

// bury ends a broken instance and reports why it broke.
func (s *Stage) bury(i *instance) {
	if i.failure.reason == reasonHang {
		i.dump()
	}
	pid := i.run.pid()
	i.discard()
	s.metrics.restarts(i.failure.reason).Inc()
	s.mu.Lock()
	s.status.Restarts++
	s.mu.Unlock()
	s.setState(Backoff, i.failure.String())
	s.logger.Error("the plugin's process broke; a new one takes over and gets the unanswered batches again",
		"version", i.description.Version, "pid", pid, "reason", i.failure.reason, "detail", i.failure.detail,
		"output", i.output.last(outputLogged))
}

// replace starts processes until one is ready; nil: ctx ended first.
func (s *Stage) replace(ctx context.Context, restarts *doubling) *instance {
	for {
		wait := restarts.next()
		if !pause(ctx, wait) {
			return nil
		}
		s.setState(Starting, "")
		i, err := s.bringUp(ctx)
		if err == nil {
			s.logger.Info("the plugin's new process is ready", "version", i.description.Version, "pid", i.run.pid())
			return i
		}
		if ctx.Err() != nil {
			return nil
		}
		s.metrics.restarts(reasonStart).Inc()
		s.setState(Backoff, err.Error())
		s.logger.Error("a new process of the plugin does not start; the pipeline waits for it", "error", err)
	}
}
