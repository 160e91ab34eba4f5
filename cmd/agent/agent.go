package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/barnabas-agent/barnabas/core/admin"
	"github.com/barnabas-agent/barnabas/core/checkpoint"
	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/pipeline"
	"github.com/barnabas-agent/barnabas/core/pluginhost"
	"github.com/barnabas-agent/barnabas/core/producer"
	"github.com/barnabas-agent/barnabas/core/quarantine"
	"github.com/barnabas-agent/barnabas/sources/file"
)

// What the composition root promises of its parts.
var (
	_ pipeline.Source        = (*file.Source)(nil)
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
	started time.Time
	once    bool // read what is there and end

	closers   []func() // what assemble opened, in that order
	store     *checkpoint.Store
	host      *pluginhost.Host
	producers []*namedProducer
	lines     []*line
	positions *pipeline.Checkpointer
	server    *admin.Server
	meter     *meter
	ready     readiness
}

// namedProducer is a producer block.
type namedProducer struct {
	name string
	*producer.Producer
}

// line is a pipeline with what the agent asks of its parts.
type line struct {
	config   *config.Pipeline
	sources  []*file.Source
	stages   []*pluginhost.Stage
	pipeline *pipeline.Pipeline
}

// assemble opens and starts everything but the flow of records. On an error
// everything that was opened is closed.
func assemble(ctx context.Context, c *config.Config, log *slog.Logger, once bool) (*agent, error) {
	a := &agent{config: c, log: log, metrics: metric.New(), started: time.Now(), once: once}
	for _, open := range []func(context.Context) error{
		a.openState, a.openProducers, a.openPlugins, a.openPipelines, a.openServer,
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
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data_dir: %w", err)
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
	return nil
}

func (a *agent) openProducers(context.Context) error {
	var refused config.Diagnostics
	for i := range a.config.Producers {
		c := &a.config.Producers[i]
		p, err := producer.New(producerConfig(c), a.metrics, a.log)
		if err != nil {
			refused = append(refused, c.Places.Block().Error(err.Error(), "librdkafka refuses the settings"))
			continue
		}
		a.producers = append(a.producers, &namedProducer{name: c.Name, Producer: p})
	}
	return show(refused, os.Stderr)
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

// openPlugins makes the pipelines' clients and starts their plugins, all at once.
func (a *agent) openPlugins(ctx context.Context) error {
	var err error
	a.host, err = openHost(a.log, a.metrics, a.config.Agent.DataDir)
	if err != nil {
		return err
	}
	a.opened("plugin host", a.host.Close)
	for i := range a.config.Pipelines {
		c := &a.config.Pipelines[i]
		l := &line{config: c}
		client := a.producer(c.Producer).Client(c.Name, producer.SendMode(c.Send))
		for _, s := range c.Stages() {
			spec := pluginSpec(a.config, c, s)
			spec.Topology = client
			l.stages = append(l.stages, a.host.NewStage(spec))
		}
		if err := a.openPipeline(l, client); err != nil {
			return err
		}
		a.lines = append(a.lines, l)
	}
	return show(a.startStages(ctx), os.Stderr)
}

// startStages starts every plugin and returns what is wrong with them, in the order of the configuration.
func (a *agent) startStages(ctx context.Context) config.Diagnostics {
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
			stage := l.stages[i]
			a.opened("plugin "+s.Name, func() error {
				ctx, cancel := context.WithTimeout(context.Background(), pluginCloseTime)
				defer cancel()
				return stage.Close(ctx)
			})
		}
	}
	return refused
}

// openPipeline puts a pipeline together.
func (a *agent) openPipeline(l *line, client *producer.Client) error {
	c := l.config
	for i := range c.Sources {
		source, err := a.openSource(c, &c.Sources[i])
		if err != nil {
			return fmt.Errorf("pipeline %q, source %q: %w", c.Name, c.Sources[i].Name, err)
		}
		l.sources = append(l.sources, source)
	}
	kept, err := quarantine.Open(quarantine.Dir(a.config.Agent.DataDir, c.Name), a.log)
	if err != nil {
		return fmt.Errorf("open the quarantine of pipeline %q: %w", c.Name, err)
	}
	a.opened("quarantine", kept.Close)
	sources := make([]pipeline.Source, len(l.sources))
	for i, s := range l.sources {
		sources[i] = s
	}
	stages := make([]pipeline.Stage, len(l.stages))
	for i, s := range l.stages {
		stages[i] = s
	}
	lanes := min(runtime.GOMAXPROCS(0), mostLanes)
	l.pipeline = pipeline.New(pipelineConfig(c, lanes), sources, stages, client,
		quarantine.NewIntake(kept, c.Name, time.Now), a.metrics, a.log)
	return nil
}

// openPipelines makes what spans all pipelines.
func (a *agent) openPipelines(context.Context) error {
	var sources []pipeline.Source
	for _, l := range a.lines {
		for _, s := range l.sources {
			sources = append(sources, s)
		}
	}
	a.positions = pipeline.NewCheckpointer(a.store, sources, a.metrics.CheckpointSeconds, a.log)
	a.meter = newMeter(a.metrics.Gatherer(), time.Now)
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
	}, a.log)
	return err
}

// openHost opens the plugin host. dataDir keeps descriptions and is not written to where it is empty.
func openHost(log *slog.Logger, metrics *metric.Table, dataDir string) (*pluginhost.Host, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return nil, errors.New("the host has no name: " + err.Error())
	}
	o := pluginhost.Options{Hostname: hostname, Logger: log, Metrics: metrics, RunDir: os.Getenv("RUNTIME_DIRECTORY")}
	if dataDir != "" {
		o.CacheDir = filepath.Join(dataDir, "plugins")
		if o.RunDir == "" {
			o.RunDir = filepath.Join(dataDir, "run")
		}
	}
	return pluginhost.Open(o)
}
