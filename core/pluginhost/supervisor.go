package pluginhost

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	firstRestart = 100 * time.Millisecond
	mostRestart  = 30 * time.Second
	steadyAfter  = 60 * time.Second        // a process that was ready for so long starts the backoff anew
	exitGrace    = 1500 * time.Millisecond // between a broken connection and the exit that explains it; the SDK takes up to a second for its last answers
	fileInterval = time.Second             // between looks at the file of a plugin that is broken
)

// Reasons of a restart, as the metric labels them.
const (
	reasonExit   = "exit"   // the process ended
	reasonHang   = "hang"   // a batch or a canary was not answered in time
	reasonReply  = "reply"  // a reply broke a rule of the protocol
	reasonStream = "stream" // the plugin ended a stream, or the transport broke
	reasonStart  = "start"  // a new process did not get ready
	reasonReload = "reload" // a new process took over on request
	outputLogged = 4 << 10  // bytes of the crash output in the log
)

// supervisor keeps one instance of a stage running: a process, and after it the
// next. The lanes of the instance ask it for the process that runs now.
type supervisor struct {
	stage  *Stage
	logger *slog.Logger
	swaps  chan *swap    // from Stage.Reload; never closed
	ended  chan struct{} // closed by run

	streak atomic.Int32 // records blamed for crashes since a batch was last answered

	// These belong to run.
	restarts doubling
	breaker  breaker
	ready    time.Time // when the last process was published

	mu       sync.Mutex
	current  *instance      // guarded by mu: nil while no process is ready
	changed  chan struct{}  // guarded by mu: closed and replaced when current changes
	status   InstanceStatus // guarded by mu
	suspects int            // guarded by mu: lanes with a record in question
	verdict  verdict        // guarded by mu: what lanes made of the last crash
}

// newSupervisor returns a supervisor that runs nothing.
func newSupervisor(s *Stage, logger *slog.Logger) *supervisor {
	return &supervisor{
		stage: s, logger: logger, swaps: make(chan *swap), ended: make(chan struct{}), changed: make(chan struct{}),
		restarts: doubling{first: firstRestart, most: mostRestart},
		status:   InstanceStatus{State: Stopped},
	}
}

// run keeps a process running until ctx ends, from the one that has been
// published. The one that is ready at the end is left for Stage.Close.
func (v *supervisor) run(ctx context.Context, i *instance) {
	defer close(v.ended)
	for {
		switch next := v.await(ctx, i); {
		case next != nil:
			v.publish(next.to)
			v.retire(ctx, i)
			next.done <- nil
			i = next.to
		case !i.isBroken():
			return
		default:
			v.publish(nil)
			v.bury(i)
			if i = v.replace(ctx, v.judge(i)); i == nil {
				return
			}
			v.publish(i)
		}
	}
}

// await returns when the instance is broken, another one is to take its place, or ctx ends.
func (v *supervisor) await(ctx context.Context, i *instance) *swap {
	select {
	case <-i.exited():
		i.fail(reasonExit, i.exit(), nil)
	case <-i.broken:
	case next := <-v.swaps:
		return next
	case <-ctx.Done():
		return nil
	}
	if i.failure.reason == reasonStream {
		i.explainStream(ctx)
	}
	return nil
}

// explainStream gives a broken connection a moment to turn out as the process's
// end. A lane may have seen the one before the supervisor saw the other.
func (i *instance) explainStream(ctx context.Context) {
	timer := time.NewTimer(exitGrace)
	defer timer.Stop()
	select {
	case <-i.exited():
		i.failure = breakage{reason: reasonExit, detail: i.exit()}
	case <-timer.C:
	case <-ctx.Done():
	}
}

// bury ends a broken instance, reports why it broke, and waits until its lanes
// have drawn their conclusions.
func (v *supervisor) bury(i *instance) {
	pid := i.pid()
	i.inter()
	i.users.Wait()
	v.stage.metrics.restarts(i.failure.reason).Inc()
	v.mu.Lock()
	v.status.Restarts++
	v.mu.Unlock()
	v.setState(Backoff, i.failure.String())
	v.logger.Error("the plugin's process broke; a new one takes over and gets the unanswered batches again",
		"version", i.description.Version, "pid", pid, "reason", i.failure.reason, "detail", i.failure.detail,
		"output", i.output.last(outputLogged))
}

// inter ends a broken instance by force and keeps its last words.
func (i *instance) inter() {
	if i.failure.reason == reasonHang && i.debug == nil {
		i.dump()
	}
	i.discard()
	i.report = i.failure.String()
	if printed := i.output.last(outputShown); printed != "" {
		i.report += "\n" + strings.ToValidUTF8(printed[:min(len(printed), 2*outputShown)], "")
	}
	close(i.buried)
}

// judge decides how long the plugin is left alone after a crash.
func (v *supervisor) judge(i *instance) (wait time.Duration) {
	if v.stage.host.options.Clock.Now().Sub(v.ready) >= steadyAfter {
		v.restarts.reset()
		v.breaker.steady()
	}
	found := v.takeVerdict()
	for range found.explained {
		v.breaker.explain()
		v.restarts.reset()
	}
	switch {
	case i.debug != nil:
		return attachPause
	case found.hopeless != "":
		v.open(found.hopeless)
		return halfOpen
	case found.searching || found.explained > 0:
		return firstRestart
	case i.innocent():
		if i.answered.Load() {
			v.restarts.reset()
		}
		return v.restarts.next()
	default:
		return v.crashed()
	}
}

// exitFresh is how a process ends that has answered and wants to begin anew: a
// record's function panicked, say, which is that record's failure.
const exitFresh = 70

// innocent reports whether a process ended without a crash of its own: it was
// killed by somebody else, the kernel or a person, or it asked to begin anew. One
// that used up its memory_max before it had answered anything did crash.
// A record that makes the kernel kill it is found all the same.
func (i *instance) innocent() bool {
	if i.failure.reason != reasonExit {
		return false
	}
	p := i.run.started.Load()
	return p.sigkilled(false) || (i.answered.Load() && p.cmd.ProcessState.ExitCode() == exitFresh)
}

// sigkilled reports whether SIGKILL ended the process, sent by the host as well
// or only by others; only after exited is closed.
func (p *process) sigkilled(byHost bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL && (byHost || !p.killed)
}

// killedByOthers gives a process that did not get ready a moment to turn out as
// killed. early: the host had no reason to kill it, but go-plugin kills what
// ended before its handshake once more.
func (i *instance) killedByOthers(ctx context.Context, early bool) bool {
	if i.debug != nil || i.run.started.Load() == nil || ctx.Err() != nil {
		return false
	}
	timer := time.NewTimer(exitGrace)
	defer timer.Stop()
	select {
	case <-i.exited():
		return i.run.started.Load().sigkilled(early)
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// crashed counts a crash that no record explains, or a start that failed.
func (v *supervisor) crashed() (wait time.Duration) {
	if v.breaker.crash(v.stage.host.options.Clock.Now()) {
		v.open("")
		return halfOpen
	}
	return v.restarts.next()
}

// open says that the breaker is open. Its lanes wait until a process lasts.
func (v *supervisor) open(problem string) {
	v.setState(Broken, problem)
	v.logger.Error("the plugin breaks again and again; its lanes wait, and it is tried every minute, at once when its file changes or with `barnabas plugin reload`",
		"last", v.snapshot().LastError)
}

// replace starts processes until one is ready; nil: ctx ended first.
func (v *supervisor) replace(ctx context.Context, wait time.Duration) *instance {
	for {
		next, ok := v.leaveAlone(ctx, wait)
		if !ok {
			return nil
		}
		if next != nil {
			next.done <- nil
			return next.to
		}
		v.setState(Starting, "")
		i, err := v.stage.bringUp(ctx)
		if err == nil {
			v.logger.Info("the plugin's new process is ready", "version", i.description.Version, "pid", i.pid())
			return i
		}
		if ctx.Err() != nil {
			return nil
		}
		v.stage.metrics.restarts(reasonStart).Inc()
		v.setState(Backoff, err.Error())
		v.logger.Error("a new process of the plugin does not start; the pipeline waits for it", "error", err)
		var refused *Error
		switch {
		case v.stage.spec.Attach != "":
			wait = attachPause
		case errors.As(err, &refused) && refused.killed:
			wait = v.restarts.next()
		default:
			wait = v.crashed()
		}
	}
}

// leaveAlone waits, less long where the breaker is open and the plugin's file
// changes. A reload ends it with a process that runs; not ok: ctx ended.
func (v *supervisor) leaveAlone(ctx context.Context, wait time.Duration) (next *swap, ok bool) {
	elapsed, stop := v.stage.host.options.Clock.After(wait)
	defer stop()
	broken := v.snapshot().State == Broken
	var looks <-chan time.Time
	if broken {
		ticker := time.NewTicker(fileInterval)
		defer ticker.Stop()
		looks = ticker.C
		v.breaker.try()
	}
	file := v.fileState()
	for {
		select {
		case <-elapsed:
			return nil, true
		case <-looks:
			if v.fileState() != file {
				v.forget()
				return nil, true
			}
		case next := <-v.swaps:
			v.forget()
			return next, true
		case <-ctx.Done():
			return nil, false
		}
	}
}

// forget starts anew with a plugin that is not the one that broke.
func (v *supervisor) forget() {
	v.breaker = breaker{}
	v.streak.Store(0)
	v.restarts.reset()
}

// fileState tells versions of a plugin's file apart; zero: there is none.
type fileState struct {
	inode, size, modified int64
}

func (v *supervisor) fileState() fileState {
	var stat unix.Stat_t
	if err := unix.Stat(v.stage.spec.binary(), &stat); err != nil {
		return fileState{}
	}
	return fileState{inode: int64(stat.Ino), size: stat.Size, modified: stat.Mtim.Nano()}
}

// acquire waits for a process that can take batches. Whoever gets it calls
// users.Done once it has left it and, where it broke, has drawn its conclusions.
func (v *supervisor) acquire(ctx context.Context) (*instance, error) {
	for {
		v.mu.Lock()
		current, changed := v.current, v.changed
		if current != nil && !current.isBroken() {
			current.users.Add(1) // not after publish has replaced it, so not beside Wait
			v.mu.Unlock()
			return current, nil
		}
		v.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// publish makes an instance, or none, the one that lanes use.
func (v *supervisor) publish(i *instance) {
	if i != nil {
		v.ready = v.stage.host.options.Clock.Now()
		v.stage.setDescription(i.description)
	}
	v.mu.Lock()
	v.current = i
	close(v.changed)
	v.changed = make(chan struct{})
	v.status.State, v.status.Since, v.status.PID = Backoff, time.Now(), 0
	if i != nil {
		i.cautious.Store(v.suspects > 0)
		v.status.State, v.status.PID = Ready, i.pid()
	}
	v.mu.Unlock()
	v.stage.showUp()
}

// setState moves the status on; an empty problem leaves the last one standing.
func (v *supervisor) setState(state State, problem string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status.State, v.status.Since = state, time.Now()
	if problem != "" {
		v.status.LastError = sanitize(problem, maxProblem)
	}
}

// note keeps a problem for the status.
func (v *supervisor) note(problem string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status.LastError = sanitize(problem, maxProblem)
}

// snapshot returns the status.
func (v *supervisor) snapshot() InstanceStatus {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.status
}
