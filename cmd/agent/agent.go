package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/barnabas-agent/barnabas/core/admin"
	"github.com/barnabas-agent/barnabas/core/checkpoint"
	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/core/devbroker"
	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/pipeline"
	"github.com/barnabas-agent/barnabas/core/pluginhost"
	"github.com/barnabas-agent/barnabas/core/producer"
	"github.com/barnabas-agent/barnabas/core/quarantine"
	"github.com/barnabas-agent/barnabas/core/watchdog"
	"github.com/barnabas-agent/barnabas/sources/socket"
)

// What the composition root promises of its parts.
var (
	_ pipeline.Stage         = (*pluginhost.Stage)(nil)
	_ pipeline.Producer      = (*producer.Client)(nil)
	_ pipeline.Quarantine    = (*quarantine.Intake)(nil)
	_ pipeline.PositionStore = (*checkpoint.Store)(nil)
	_ pluginhost.Topology    = (*producer.Client)(nil)
)

const (
	blockSize = 512 << 10
	// mostLanes bounds the lanes of a pipeline: more split the traffic into smaller batches.
	mostLanes = 4
)

// agent is everything that runs, put together from a configuration. Its parts
// are made in the order of the fields and end in the reverse order.
type agent struct {
	config  *config.Config
	log     *slog.Logger
	metrics *metric.Table
	meter   *meter
	started time.Time
	flags   runFlags
	streams streams
	shown   *screen

	inherited *socket.Inherited // from systemd
	closers   []func()          // what assemble opened, in that order
	store     *checkpoint.Store
	window    *pipeline.Window // stops all sources while the store can't keep up
	server    *admin.Server
	watch     *devbroker.Watch // nil without --dev
	producers []*namedProducer
	host      *pluginhost.Host
	lines     []*line
	running   []*pluginhost.Stage // the stages that have been started
	positions *pipeline.Checkpointer
	ready     readiness

	supervisor *supervisor
	vigil      *vigil
	stopped    atomic.Pointer[string] // what the vigil found to have stopped; nil: nothing
}

// namedProducer is a producer block.
type namedProducer struct {
	name string
	*producer.Producer
}

// line is a pipeline with what the agent asks of its parts.
type line struct {
	config   *config.Pipeline
	sources  []source
	stages   []*pluginhost.Stage
	client   *producer.Client
	pipeline *pipeline.Pipeline
}

// assemble opens and starts everything but the flow of records. On an error
// everything that was opened is closed. What can't be shared with another agent
// comes first, so that the second one ends at once.
func assemble(ctx context.Context, c *config.Config, log *slog.Logger, f runFlags, s streams, shown *screen) (*agent, error) {
	a := &agent{config: c, log: log, metrics: metric.New(), started: time.Now(), flags: f, streams: s, shown: shown}
	a.meter = newMeter(a.metrics.Gatherer(), time.Now)
	a.inherited = socket.Inherit()
	a.supervisor = newSupervisor(log)
	a.vigil = newVigil(cmp.Or(a.supervisor.period, watchPeriod), time.Now)
	for _, open := range []func(context.Context) error{
		a.openState, a.openServer, a.openDevBroker, a.openPipelines, a.tellState,
	} {
		if err := open(ctx); err != nil {
			a.close()
			return nil, err
		}
	}
	return a, nil
}

// close ends what assemble opened, the last first.
func (a *agent) close() {
	for i := len(a.closers) - 1; i >= 0; i-- {
		a.closers[i]()
	}
	a.closers = nil
}

// opened registers how to close what was opened. Errors at the end are logged: nobody is left to handle them.
func (a *agent) opened(what string, closeIt func() error) {
	a.closers = append(a.closers, func() {
		if err := closeIt(); err != nil {
			a.log.Error("closing failed", "what", what, "error", err)
		}
	})
}

// openState takes the data directory and opens the positions in it.
func (a *agent) openState(context.Context) error {
	dir := a.config.Agent.DataDir
	if err := checkpoint.MakeDirectory(dir); err != nil {
		return fmt.Errorf("make data_dir: %w: name a folder that the agent's user may write to", err)
	}
	lock, err := checkpoint.LockDirectory(dir)
	if err != nil {
		return err
	}
	a.opened("lock", lock.Release)
	a.store, err = checkpoint.Open(dir, a.log, time.Now)
	if err != nil {
		return fmt.Errorf("open positions: %w", err)
	}
	a.opened("positions", a.store.Close)
	a.window = pipeline.NewWindow(pipeline.UnstoredWindow, a.log)
	return nil
}

func (a *agent) openServer(ctx context.Context) error {
	var err error
	a.server, err = admin.Listen(ctx, admin.Config{
		DataDir:    a.config.Agent.DataDir,
		HTTPListen: a.config.Agent.HTTPListen,
		Metrics:    a.metrics.Handler(),
		Status:     a.status,
		Ready:      a.reasons,
		Healthy:    a.healthy,

		Files:         a.files,
		ExplainFile:   a.explainFile,
		ReloadPlugins: a.reloadPlugins,
	}, a.log)
	if err != nil {
		return err
	}
	a.opened("server", func() error {
		if err := a.server.Close(); !errors.Is(err, net.ErrClosed) { // which it is when it has run
			return err
		}
		return nil
	})
	return nil
}

// openPipelines opens producers, plugins and sources, and reports everything
// that is wrong with them at once.
func (a *agent) openPipelines(ctx context.Context) error {
	var err error
	a.host, err = openHost(a.log, a.metrics, a.config.Agent.DataDir)
	if err != nil {
		return err
	}
	a.opened("plugin host", a.host.Close)
	if refused := a.openProducers(); len(refused) > 0 {
		return show(append(refused, checkStages(ctx, a.host, a.config)...), a.streams.err)
	}
	for i := range a.config.Pipelines {
		if err := a.openPipeline(ctx, &a.config.Pipelines[i]); err != nil {
			return err
		}
	}
	a.tellForgotten()
	refused := a.startStages(ctx)
	if ctx.Err() != nil {
		return ctx.Err() // what is refused now is refused because the agent is to stop
	}
	if err := show(refused, a.streams.err); err != nil {
		return err
	}
	a.tellCurious()
	var sources []pipeline.Source
	for _, l := range a.lines {
		for _, s := range l.sources {
			sources = append(sources, s)
		}
	}
	a.positions = pipeline.NewCheckpointer(a.store, sources, a.window, pipeline.CheckpointMetrics{
		Seconds: a.metrics.CheckpointSeconds, Failures: a.metrics.CheckpointFailures, Unstored: a.metrics.PositionsUnstored,
	}, a.log)
	a.positions.Watch(a.vigil.pulse("positions", "checkpointer", nil))
	return nil
}

// openProducers makes the producers and returns what librdkafka refuses of their settings.
func (a *agent) openProducers() config.Diagnostics {
	var refused config.Diagnostics
	for i := range a.config.Producers {
		c := &a.config.Producers[i]
		settings := producerConfig(c)
		settings.Pulse = func(loop string) *watchdog.Pulse { return a.vigil.pulse("producer "+c.Name, loop, nil) }
		if a.flags.dev {
			settings.Properties["allow.auto.create.topics"] = "true" // topics that interceptors choose
		}
		p, err := producer.New(settings, a.metrics, a.log)
		if err != nil {
			refused = append(refused, settingsRefused(c, err))
			continue
		}
		a.producers = append(a.producers, &namedProducer{name: c.Name, Producer: p})
	}
	return refused
}

// producer returns the producer of that name, which the configuration's check has found.
func (a *agent) producer(name string) *namedProducer {
	for _, p := range a.producers {
		if p.name == name {
			return p
		}
	}
	panic("BUG: no producer " + name)
}

// startStages starts every plugin, all at once, and returns what is wrong with
// them, in the order of the configuration.
func (a *agent) startStages(ctx context.Context) config.Diagnostics {
	ctx, cancel := context.WithTimeout(ctx, pluginStartTime)
	defer cancel()
	var starting sync.WaitGroup
	errs := make([][]error, len(a.lines))
	for n, l := range a.lines {
		errs[n] = make([]error, len(l.stages))
		for i, stage := range l.stages {
			starting.Go(func() { errs[n][i] = stage.Start(ctx) })
		}
	}
	starting.Wait()
	var refused config.Diagnostics
	for n, l := range a.lines {
		for i, s := range l.config.Stages() {
			if err := errs[n][i]; err != nil {
				refused = append(refused, pluginDiagnostics(l.config, s, err)...)
				continue
			}
			a.running = append(a.running, l.stages[i])
		}
	}
	a.opened("plugins", a.closeStages)
	return refused
}

// closeStages ends the plugins, all at once, by force where one takes too long.
// Another call finds them ended.
func (a *agent) closeStages() error {
	ctx, cancel := context.WithTimeout(context.Background(), pluginCloseTime)
	defer cancel()
	var closing errgroup.Group
	for _, s := range a.running {
		closing.Go(func() error { return s.Close(ctx) })
	}
	return closing.Wait()
}

// openPipeline puts a pipeline together.
func (a *agent) openPipeline(ctx context.Context, c *config.Pipeline) error {
	client := a.producer(c.Producer).Client(c.Name, producer.SendMode(c.Send))
	l := &line{config: c, client: client}
	var stages []pipeline.Stage
	for _, s := range c.Stages() {
		spec := pluginSpec(a.config, c, s)
		spec.Topology = client
		spec.Attach = a.flags.attached[stagePath(c.Name, s.Name)]
		stage := a.host.NewStage(spec)
		l.stages, stages = append(l.stages, stage), append(stages, stage)
	}
	a.lines = append(a.lines, l)
	var sources []pipeline.Source
	for i := range c.Sources {
		source, err := a.openSource(ctx, l, &c.Sources[i])
		if err != nil {
			return fmt.Errorf("pipeline %q, source %q: %w", c.Name, c.Sources[i].Name, err)
		}
		l.sources, sources = append(l.sources, source), append(sources, source)
	}
	kept, err := quarantine.Open(quarantine.Dir(a.config.Agent.DataDir, c.Name), a.log)
	if err != nil {
		return fmt.Errorf("open the quarantine of pipeline %q: %w", c.Name, err)
	}
	a.opened("quarantine", kept.Close)
	settings := pipelineConfig(a.config, c, lanesFor(c, runtime.GOMAXPROCS(0)))
	settings.Window = a.window
	l.pipeline = pipeline.New(settings, sources, stages, client,
		quarantine.NewIntake(kept, c.Name, time.Now), a.metrics, a.log)
	return nil
}

// openHost opens the plugin host. dataDir keeps descriptions and is not written to where it is empty.
func openHost(log *slog.Logger, metrics *metric.Table, dataDir string) (*pluginhost.Host, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return nil, errors.New("the host has no name: " + err.Error())
	}
	o := pluginhost.Options{
		Hostname: hostname, Logger: log, Metrics: metrics, RunDir: os.Getenv("RUNTIME_DIRECTORY"),
		// Not os.Executable: the agent's file may have been replaced since it started.
		Exec: []string{"/proc/self/exe", pluginhost.ExecCommand},
	}
	if dataDir != "" {
		o.CacheDir = filepath.Join(dataDir, "plugins")
		if o.RunDir == "" {
			o.RunDir = filepath.Join(dataDir, "run")
		}
	}
	return pluginhost.Open(o)
}
