package pluginhost

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

const (
	measureInterval = 2 * time.Second // between two questions for a plugin's metrics
	measureTimeout  = 2 * time.Second // for the answer
	maxMetricHelp   = 256             // bytes
)

// measures are a stage's own metrics: the sum over its instances. It is safe for
// concurrent use.
type measures struct {
	table *metric.Table
	spec  *Spec

	mu       sync.Mutex
	tallies  []*tally            // guarded by mu: one per instance
	leftOut  map[string]struct{} // guarded by mu: names that the table did not take, which have been said
	finished bool                // guarded by mu
}

// tally is what one instance has counted, over all its processes. measures.mu guards it.
type tally struct {
	counters map[string]*counted
	gauges   map[string]metric.PluginSample // of the process that runs
}

// counted is a counter: what earlier processes had counted, and this one's last answer.
type counted struct {
	help         string
	before, last float64
}

func newMeasures(t *metric.Table, spec *Spec) *measures {
	return &measures{table: t, spec: spec, leftOut: map[string]struct{}{}}
}

// open returns the tally of one more instance.
func (m *measures) open() *tally {
	t := &tally{counters: map[string]*counted{}}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tallies = append(m.tallies, t)
	return t
}

// take takes the answer of an instance, which has been checked, and returns the
// names that can't be shown and were not returned before.
func (m *measures) take(t *tally, answer []*wirev1.Metric) (leftOut []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t.gauges = map[string]metric.PluginSample{}
	for _, one := range answer {
		if one.Kind == wirev1.MetricKind_METRIC_KIND_COUNTER {
			t.count(one)
			continue
		}
		t.gauges[one.Name] = metric.PluginSample{Name: one.Name, Help: sanitize(one.Help, maxMetricHelp), Value: one.Value}
	}
	for _, name := range m.show() {
		if _, said := m.leftOut[name]; !said {
			m.leftOut[name] = struct{}{}
			leftOut = append(leftOut, name)
		}
	}
	return leftOut
}

// count takes one counter's value. One that shrinks, or is no number of things, counts from there.
func (t *tally) count(one *wirev1.Metric) {
	c := t.counters[one.Name]
	if c == nil {
		if len(t.counters) == wire.MaxMetrics {
			return // a process had others: their number stays bounded all the same
		}
		c = &counted{help: sanitize(one.Help, maxMetricHelp)}
		t.counters[one.Name] = c
	}
	value := one.Value
	if math.IsNaN(value) || math.IsInf(value, 0) || value < 0 {
		return
	}
	if value < c.last {
		c.before += c.last
	}
	c.last = value
}

// leave ends a process of the tally: its counters stay, its gauges go.
func (m *measures) leave(t *tally) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range t.counters {
		c.before, c.last = c.before+c.last, 0
	}
	t.gauges = nil
	m.show()
}

// close takes the stage's metrics off the table.
func (m *measures) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finished = true
	m.table.Plugins.Set(m.spec.Pipeline, m.spec.Stage, m.spec.Plugin, nil)
}

// show puts the sums on the table, which returns what it left out; it needs mu.
func (m *measures) show() (leftOut []string) {
	if m.finished {
		return nil
	}
	sums := map[string]metric.PluginSample{}
	add := func(s metric.PluginSample) {
		if sum, known := sums[s.Name]; known {
			s.Value, s.Help = s.Value+sum.Value, sum.Help
		}
		sums[s.Name] = s
	}
	for _, t := range m.tallies {
		for name, c := range t.counters {
			add(metric.PluginSample{Name: name, Help: c.help, Counter: true, Value: c.before + c.last})
		}
		for _, s := range t.gauges {
			add(s)
		}
	}
	samples := make([]metric.PluginSample, 0, len(sums))
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		samples = append(samples, sums[name])
	}
	return m.table.Plugins.Set(m.spec.Pipeline, m.spec.Stage, m.spec.Plugin, samples)
}

// measure asks the supervisor's process for its metrics, and the next one when it
// breaks, until ctx ends.
func (v *supervisor) measure(ctx context.Context, t *tally) {
	for {
		i, err := v.acquire(ctx)
		if err != nil {
			return
		}
		v.measureInstance(ctx, i, t)
		i.users.Done()
		v.stage.measures.leave(t)
		if ctx.Err() != nil {
			return
		}
	}
}

// measureInstance asks until the process breaks, another one takes over, or ctx ends.
func (v *supervisor) measureInstance(ctx context.Context, i *instance, t *tally) {
	serving, stop := i.serving(ctx)
	defer stop()
	tick := time.NewTicker(measureInterval)
	defer tick.Stop()
	for v.ask(serving, i, t) {
		select {
		case <-tick.C:
			continue
		case <-serving.Done():
		}
		if ctx.Err() == nil && !i.isBroken() {
			v.ask(ctx, i, t) // the last numbers of a process that is replaced
		}
		return
	}
	<-serving.Done()
}

// ask asks once; it returns false where the plugin has no metrics.
func (v *supervisor) ask(ctx context.Context, i *instance, t *tally) bool {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	reply, err := i.control.Metrics(ctx, &wirev1.MetricsRequest{})
	if err == nil {
		err = wire.CheckMetrics(reply.Metrics)
	}
	switch {
	case status.Code(err) == codes.Unimplemented:
		return false
	case ctx.Err() != nil || i.isBroken():
		return true
	case err != nil:
		v.logger.Warn("the plugin's own metrics can't be had", "error", sanitize(err.Error(), maxProblem))
		return false
	}
	if left := v.stage.measures.take(t, reply.Metrics); len(left) > 0 {
		v.logger.Warn("metrics of the plugin are left out: another stage has their names with another kind, or the agent has", "metrics", left)
	}
	return true
}

// serving returns a context that also ends when lanes have to leave the
// instance; stop ends it and what it needs.
func (i *instance) serving(ctx context.Context) (serving context.Context, stop func()) {
	serving, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-i.broken:
		case <-i.retiring:
		case <-serving.Done():
		}
		cancel()
	})
	return serving, func() {
		cancel()
		watching.Wait()
	}
}
