package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/barnabas-agent/barnabas/core/config"
)

const (
	// closingTime is the part of shutdown_timeout that is kept for ending
	// plugins, clients and files after the records have been given their time.
	closingTime = 3 * time.Second
	// pluginStartTime bounds the start of all plugins, which start at once.
	pluginStartTime = 12 * time.Second
	// pluginCloseTime bounds the end of one plugin.
	pluginCloseTime = 2 * time.Second
	// lateTime is how far past shutdown_timeout the process ends whatever hangs.
	lateTime = 5 * time.Second
	// garbagePercent trades memory, which is bounded, for less collection.
	garbagePercent = 400
	// memoryOverhead is what the agent's own memory needs beside its buffers, of
	// which about half is librdkafka's and so outside of Go's heap.
	memoryOverhead = 28 << 20
)

var (
	errStopped  = errors.New("stopped")
	errDeadline = errors.New("shutdown_timeout has passed")
	errStuck    = errors.New("nothing moved for shutdown_timeout")
)

// runFlags are the flags of `barnabas run`.
type runFlags struct {
	config    string
	dev, once bool
	attach    []string          // as written
	attached  map[string]string // addresses of plugins that run already, by PIPELINE/STAGE
}

func newRunCommand(s streams) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run",
		Short: "Run in the foreground until SIGTERM or SIGINT",
		Args:  arguments(),
		RunE:  func(c *cobra.Command, _ []string) error { return run(c.Context(), f, s) },
	}
	c.Flags().StringVar(&f.config, "config", "", "configuration `file` or folder (default agent.hcl, else /etc/barnabas/agent.hcl)")
	c.Flags().BoolVar(&f.dev, "dev", false, "run with an embedded broker, all state under ./"+devDataDir)
	c.Flags().BoolVar(&f.once, "once", false, "deliver what the files hold now, then end")
	c.Flags().StringArrayVar(&f.attach, "attach", nil, "use a plugin that runs already, e.g. under a debugger: `PIPELINE/STAGE=ADDRESS`, as its `debug` prints it; no deadline holds for it and it is never ended")
	return c
}

// run is the life of the agent.
func run(ctx context.Context, f runFlags, s streams) error {
	c, err := loadConfig(f.config, config.Options{IgnoreSecurity: f.dev}, s.err)
	if err != nil {
		return err
	}
	if f.attached, err = parseAttachments(f.attach, c); err != nil {
		return err
	}
	if f.dev {
		dir, err := filepath.Abs(devDataDir)
		if err != nil {
			return err
		}
		c.UseDevBroker(nil, dir) // the broker's address is known once it runs, behind the lock of dir
	}
	shown := &screen{to: s.err}
	log := newLog(&c.Agent, shown)
	boundMemory(c)

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	watching := watchSignals(log, stop, func() {
		fmt.Fprintln(s.err, "barnabas: second signal: ending at once")
		os.Exit(exitFailed)
	})
	defer watching.end()

	a, err := assemble(ctx, c, log, f, s, shown)
	if err != nil {
		if ctx.Err() != nil {
			return ctxError(ctx)
		}
		return err
	}
	defer a.close()
	return a.run(ctx)
}

// run moves records until ctx ends, a part fails, or all sources have ended.
func (a *agent) run(ctx context.Context) error {
	hard, giveUp := context.WithCancelCause(context.Background())
	defer giveUp(nil)
	soft, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(soft, func() { a.limitShutdown(soft, giveUp) })()

	// The parts that outlive the records: they end when everything is delivered or given up.
	parts, endParts := context.WithCancel(context.Background())
	defer endParts()
	var background errgroup.Group
	for _, p := range a.producers {
		background.Go(func() error {
			err := p.Run(parts)
			if err != nil {
				stop(err)
			}
			return err
		})
	}
	background.Go(func() error { return a.server.Run(parts) })
	background.Go(func() error { a.meter.run(parts); return nil })
	background.Go(func() error { a.positions.Run(parts); return nil })
	background.Go(func() error { a.showProgress(parts); return nil })
	if a.flags.dev {
		background.Go(func() error { a.showDelivered(parts, stop); return nil })
	}
	if a.flags.once {
		background.Go(func() error { a.watchProgress(parts, stop); return nil })
	}

	a.ready.set(true)
	defer a.supervise(soft)()
	a.log.Info("running", "version", version, "pipelines", len(a.lines), "data_dir", a.config.Agent.DataDir, "http", a.server.HTTPAddress())
	err := a.runPipelines(soft, hard, stop)
	a.ready.set(false)
	unacknowledged := a.unacknowledged()
	background.Go(a.closeStages) // beside the producers, so that each has the whole time
	endParts()
	if ended := background.Wait(); err == nil {
		err = ended
	}
	// What was delivered last must not be read again: the store has had its last regular commit.
	if flushed := a.positions.Flush(context.Background()); flushed != nil {
		a.log.Error("the last positions can't be stored: their records are delivered again at the next start", "error", flushed)
	}
	return a.end(ctx, err, context.Cause(soft), unacknowledged)
}

// runPipelines runs every pipeline; one that fails stops the others.
func (a *agent) runPipelines(soft, hard context.Context, stop context.CancelCauseFunc) error {
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		failed  error
	)
	for _, l := range a.lines {
		running.Go(func() {
			if err := l.pipeline.Run(soft, hard); err != nil && hard.Err() == nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
				stop(err)
			}
		})
	}
	running.Wait()
	return failed
}

// limitShutdown gives up on what is not delivered in time, at once where nothing
// moved for that long already, and ends the process if even that hangs.
func (a *agent) limitShutdown(soft context.Context, giveUp context.CancelCauseFunc) {
	timeout := a.config.Agent.ShutdownTimeout
	if errors.Is(context.Cause(soft), errStuck) {
		giveUp(errStuck)
	}
	time.AfterFunc(timeout-min(closingTime, timeout/2), func() { giveUp(errDeadline) })
	time.AfterFunc(timeout+lateTime, func() {
		a.log.Error("the end took too long: the process ends now", "shutdown_timeout", timeout)
		os.Exit(exitFailed)
	})
}

// end says how it ended.
func (a *agent) end(ctx context.Context, failed, cause error, unacknowledged int) error {
	total := a.meter.totals()
	switch {
	case failed != nil:
		return failed
	case errors.Is(cause, errStuck):
		return fmt.Errorf("%w: %s not acknowledged, read again at the next start%s", errStuck, count(unacknowledged, "record"), a.because())
	case unacknowledged > 0:
		a.log.Warn(fmt.Sprintf("stopped with %s: read again at the next start", count(unacknowledged, "unacknowledged record")),
			"unacknowledged", unacknowledged, "delivered", total.DeliveredRecords)
	default:
		a.log.Info("stopped: everything that was read is resolved", "delivered", total.DeliveredRecords,
			"dropped", total.DroppedRecords, "quarantined", total.QuarantinedRecords)
	}
	if a.flags.once && total.QuarantinedRecords > 0 {
		return fmt.Errorf("%s went to the quarantine: see barnabas quarantine list", count(int(total.QuarantinedRecords), "record"))
	}
	return ctxError(ctx)
}

// ctxError returns why the agent was stopped, unless a signal asked for it.
func ctxError(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errStopped) && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// because says what is known to be in the records' way.
func (a *agent) because() string {
	var text string
	for _, reason := range a.obstacles() {
		text += "\n  " + printable(reason)
	}
	return text
}

func (a *agent) unacknowledged() int {
	n := 0
	for _, l := range a.lines {
		n += l.pipeline.InFlight()
	}
	return n
}

// watchProgress stops an agent that reads what is there and is stuck with it.
func (a *agent) watchProgress(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	type progress struct {
		read     int64
		inFlight int
	}
	var last progress
	moved := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if now := (progress{a.meter.totals().ReadRecords, a.unacknowledged()}); now != last {
			last, moved = now, time.Now()
		}
		if time.Since(moved) > a.config.Agent.ShutdownTimeout {
			stop(errStuck)
			return
		}
	}
}

// boundMemory sets the garbage collector to the configured buffers, unless the environment says otherwise.
func boundMemory(c *config.Config) {
	var buffers int64
	for i := range c.Producers {
		buffers += c.Producers[i].BufferMemory
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(buffers/2 + memoryOverhead)
	}
}
