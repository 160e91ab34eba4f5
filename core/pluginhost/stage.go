package pluginhost

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// Stage passes batches through its instances, each a plugin process that is
// replaced when it breaks. A lane belongs to one instance. It satisfies the
// pipeline's interface of the same name.
type Stage struct {
	host    *Host
	spec    Spec
	logger  *slog.Logger
	metrics stageMetrics

	supervisors []*supervisor      // one per instance
	stop        context.CancelFunc // ends the supervisors; set by Start
	supervised  sync.WaitGroup     // the supervisors
	reloading   sync.Mutex         // held by Reload
	closed      bool               // guarded by reloading

	waiting atomic.Int64  // lanes whose batches come again after a pause
	waits   atomic.Uint64 // such pauses so far

	acknowledged *acknowledgements // what became of records, for the plugin
	measures     *measures         // what the plugin counts by itself

	mu          sync.Mutex
	description *wirev1.Description // guarded by mu: of the last process; nil before Start
}

// NewStage returns a stage that runs nothing yet.
func (h *Host) NewStage(spec Spec) *Stage {
	spec = spec.withDefaults()
	s := &Stage{
		host: h, spec: spec, metrics: newStageMetrics(h.options.Metrics, &spec), stop: func() {},
		acknowledged: newAcknowledgements(), measures: newMeasures(h.options.Metrics, &spec),
		logger: h.options.Logger.With("pipeline", spec.Pipeline, "stage", spec.Stage, "plugin", spec.Plugin),
	}
	for n := range spec.Instances {
		logger := s.logger
		if spec.Instances > 1 {
			logger = logger.With("instance", n)
		}
		s.supervisors = append(s.supervisors, newSupervisor(s, logger))
	}
	return s
}

// Name is the stage's name in the configuration.
func (s *Stage) Name() string { return s.spec.Stage }

// Timeout is how long a process may take over one batch.
func (s *Stage) Timeout() time.Duration { return s.spec.Timeout }

// Waits says whether a batch waits now because the plugin, or the policy for what it
// refused, wants it again later, and how often one has. Safe for concurrent use.
func (s *Stage) Waits() (now bool, ever uint64) { return s.waiting.Load() > 0, s.waits.Load() }

// Start starts the processes and returns when all are configured. From then on
// one that breaks is replaced until Close. The error is an [*Error] where
// the plugin is at fault; nothing runs then, and Close need not be called.
func (s *Stage) Start(ctx context.Context) error {
	for _, v := range s.supervisors {
		v.setState(Starting, "")
	}
	instances, err := s.bringUpAll(ctx)
	if err != nil {
		for _, v := range s.supervisors {
			v.setState(Stopped, err.Error())
		}
		return err
	}
	supervising, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	for n, v := range s.supervisors {
		v.publish(instances[n])
		s.supervised.Go(func() { v.run(supervising, instances[n]) })
		s.supervised.Go(func() { v.tellAcknowledgements(supervising) })
		tally := s.measures.open()
		s.supervised.Go(func() { v.measure(supervising, tally) })
	}
	return nil
}

// bringUpAll makes a process for each supervisor, or none.
func (s *Stage) bringUpAll(ctx context.Context) ([]*instance, error) {
	instances, errs := make([]*instance, len(s.supervisors)), make([]error, len(s.supervisors))
	var starting sync.WaitGroup
	for n := range s.supervisors {
		starting.Go(func() { instances[n], errs[n] = s.bringUp(ctx) })
	}
	starting.Wait()
	at := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	if at < 0 {
		return instances, nil
	}
	for _, i := range instances {
		if i != nil {
			i.discard()
		}
	}
	return nil, errs[at]
}

// Close asks the plugin to finish its work and ends its processes, by force at
// ctx's end. Every Run must have returned; a Reload under way ends.
func (s *Stage) Close(ctx context.Context) error {
	s.stop()
	s.supervised.Wait()
	s.measures.close()
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.closed = true
	var closing sync.WaitGroup
	for _, v := range s.supervisors {
		closing.Go(func() { v.close(ctx) })
	}
	closing.Wait()
	return nil
}

// close ends the process that run has left.
func (v *supervisor) close(ctx context.Context) {
	v.mu.Lock()
	last := v.current
	v.mu.Unlock()
	if last != nil {
		v.publish(nil)
		last.shutdown(ctx)
	}
	v.setState(Stopped, "")
}

// bringUp opens, describes, starts and configures one process.
func (s *Stage) bringUp(ctx context.Context) (*instance, error) {
	if s.spec.Attach != "" {
		return s.bringUpAttached(ctx)
	}
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
	i.description = description
	if err := i.configure(ctx, s.host, &s.spec, false); err != nil {
		i.discard()
		return nil, err
	}
	return i, nil
}

// bringUpAttached connects to a plugin that runs already, and configures it.
func (s *Stage) bringUpAttached(ctx context.Context) (*instance, error) {
	i, err := s.host.attach(ctx, &s.spec, s.logger)
	if err != nil {
		return nil, err
	}
	err = checkDescription(&s.spec, i.exe, i.description)
	if err == nil {
		err = checkSchema(i.exe, i.description, s.spec.Config)
	}
	if err == nil {
		err = i.configure(ctx, s.host, &s.spec, false)
	}
	if err != nil {
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

// setDescription keeps what the process that runs now says of itself.
func (s *Stage) setDescription(d *wirev1.Description) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.description = d
}

// showUp sets the metric: a stage is up when all its instances are.
func (s *Stage) showUp() {
	up := true
	for _, v := range s.supervisors {
		up = up && v.snapshot().State == Ready
	}
	s.metrics.setUp(up)
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
