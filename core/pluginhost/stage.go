package pluginhost

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// State is where a stage's process stands.
type State string

// The states, in the order of a process's life.
const (
	Stopped  State = "stopped"
	Starting State = "starting"
	Ready    State = "ready"
	Backoff  State = "backoff"
)

// Status is a snapshot of a stage for people.
type Status struct {
	Pipeline  string    `json:"pipeline"`
	Stage     string    `json:"stage"`
	Kind      Kind      `json:"kind"`
	Plugin    string    `json:"plugin"`
	Version   string    `json:"version"`
	State     State     `json:"state"`
	PID       int       `json:"pid"` // 0 while no process runs
	Since     time.Time `json:"since"`
	Restarts  int       `json:"restarts"`
	LastError string    `json:"last_error"`
}

// Stage passes batches through one plugin process and replaces the process when
// it breaks. It satisfies the pipeline's interface of the same name.
type Stage struct {
	host    *Host
	spec    Spec
	logger  *slog.Logger
	metrics stageMetrics

	stop       context.CancelFunc // ends the supervisor; set by Start
	supervised sync.WaitGroup     // the supervisor

	mu          sync.Mutex
	current     *instance           // guarded by mu: nil while no process is ready
	changed     chan struct{}       // guarded by mu: closed and replaced when current changes
	status      Status              // guarded by mu
	description *wirev1.Description // guarded by mu: of the last process; nil before Start
}

// NewStage returns a stage that runs nothing yet.
func (h *Host) NewStage(spec Spec) *Stage {
	spec = spec.withDefaults()
	logger := h.options.Logger.With("pipeline", spec.Pipeline, "stage", spec.Stage, "plugin", spec.Plugin)
	return &Stage{
		host: h, spec: spec, logger: logger,
		metrics: newStageMetrics(h.options.Metrics, &spec),
		stop:    func() {}, changed: make(chan struct{}),
		status: Status{Pipeline: spec.Pipeline, Stage: spec.Stage, Kind: spec.Kind, Plugin: spec.Plugin, State: Stopped},
	}
}

// Name is the stage's name in the configuration.
func (s *Stage) Name() string { return s.spec.Stage }

// Status returns a snapshot. It is safe for concurrent use.
func (s *Stage) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Start starts the process and returns when it is configured. From then on a
// process that breaks is replaced until Close. The error is an [*Error] where
// the plugin is at fault; nothing runs then, and Close need not be called.
func (s *Stage) Start(ctx context.Context) error {
	s.setState(Starting, "")
	first, err := s.bringUp(ctx)
	if err != nil {
		s.setState(Stopped, err.Error())
		return err
	}
	supervising, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.publish(first)
	s.supervised.Go(func() { s.supervise(supervising, first) })
	return nil
}

// Close asks the plugin to finish its work and ends its process, by force at
// ctx's end. Every Run must have returned.
func (s *Stage) Close(ctx context.Context) error {
	s.stop()
	s.supervised.Wait()
	s.mu.Lock()
	last := s.current
	s.mu.Unlock()
	if last != nil {
		s.publish(nil)
		last.shutdown(ctx)
	}
	s.setState(Stopped, "")
	return nil
}

// bringUp opens, describes, starts and configures one process.
func (s *Stage) bringUp(ctx context.Context) (*instance, error) {
	exe, err := openExecutable(&s.spec)
	if err != nil {
		return nil, err
	}
	defer exe.close()
	description, err := s.host.describe(ctx, &s.spec, exe)
	if err != nil {
		return nil, err
	}
	if err := checkDescription(&s.spec, exe, description); err != nil {
		return nil, err
	}
	if err := checkSchema(exe, description, s.spec.Config); err != nil {
		return nil, err
	}
	if description.WantsTopology && s.spec.Topology == nil {
		return nil, fmt.Errorf("start stage %q: BUG: plugin %q wants the topology and its spec has none", s.spec.Stage, s.spec.Plugin)
	}
	i, err := s.host.launch(ctx, &s.spec, exe, s.logger)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.description, s.status.Version = description, description.Version
	s.mu.Unlock()
	i.description = description
	if err := i.configure(ctx, s.host, &s.spec, false); err != nil {
		i.discard()
		return nil, err
	}
	return i, nil
}

// describedAs returns what the last process said of itself.
func (s *Stage) describedAs() *wirev1.Description {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.description
}

// usable waits for a process that can take batches.
func (s *Stage) usable(ctx context.Context) (*instance, error) {
	for {
		s.mu.Lock()
		current, changed := s.current, s.changed
		s.mu.Unlock()
		if current != nil && !current.isBroken() {
			return current, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// publish makes an instance, or none, the one that lanes use.
func (s *Stage) publish(i *instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = i
	close(s.changed)
	s.changed = make(chan struct{})
	s.status.State, s.status.Since, s.status.PID = Backoff, time.Now(), 0
	if i != nil {
		s.status.State, s.status.PID = Ready, i.run.pid()
	}
	s.metrics.setUp(i != nil)
}

// setState moves the status on; an empty problem leaves the last one standing.
func (s *Stage) setState(state State, problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.State, s.status.Since = state, time.Now()
	if problem != "" {
		s.status.LastError = sanitize(problem, maxProblem)
	}
}

// note keeps a problem for the status.
func (s *Stage) note(problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.LastError = sanitize(problem, maxProblem)
}

// rules are what the replies of an instance are held to.
func (s *Stage) rules(i *instance) wire.Rules {
	return wire.Rules{
		Stage:        s.spec.Stage,
		Writes:       i.writes,
		MayDrop:      i.description.MayDrop && s.spec.Kind == Interceptor,
		AllowObjects: s.spec.Kind == Interceptor,
		AllowTopic:   s.allowTopic(),
		MaxRecord:    s.spec.MaxRecordSize,
		Pass:         s.spec.OnError == Pass,
		Block:        s.spec.OnError == Block,
	}
}

// allowTopic refuses every topic where the configuration allows none.
func (s *Stage) allowTopic() func(string) bool {
	if s.spec.AllowTopic != nil {
		return s.spec.AllowTopic
	}
	return func(string) bool { return false }
}
