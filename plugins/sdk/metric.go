package sdk

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// MetricsProvider names the plugin's metrics, which the agent then shows on its
// /metrics page. It is asked once, after configuration, under the same rules as
// the other methods; the metrics are read at any time from then on.
//
// A metric "words_total" of the plugin "mask" is barnabas_plugin_mask_words_total
// there, with the labels pipeline and plugin (the stage). Where a stage has
// several processes, their values are added. A counter goes on from where it was
// when a process is replaced, less what was counted in its last seconds. A
// plugin has at most 64 metrics.
type MetricsProvider interface {
	Metrics() []Metric
}

// Metric is a Counter or a Gauge with a name: see their Metric methods.
type Metric struct {
	name, help string
	kind       wirev1.MetricKind
	read       func() float64
}

// Counter counts what only grows. The zero value is ready. Keep it in an
// unexported field of the plugin, which is its configuration otherwise. It is
// safe for concurrent use and must not be copied.
type Counter struct{ n atomic.Uint64 }

// Add counts n more.
func (c *Counter) Add(n uint64) { c.n.Add(n) }

// Value returns the count since the start of the process.
func (c *Counter) Value() uint64 { return c.n.Load() }

// Metric names the counter. The name is made of lower-case letters, digits and
// underscores, begins with a letter and ends with "_total"; its unit is a base
// unit, such as bytes or seconds. help is one sentence for people.
func (c *Counter) Metric(name, help string) Metric {
	return Metric{name: name, help: help, kind: wirev1.MetricKind_METRIC_KIND_COUNTER, read: func() float64 { return float64(c.n.Load()) }}
}

// Gauge is a value that goes up and down. The zero value is ready and holds 0.
// Keep it in an unexported field of the plugin. It is safe for concurrent use
// and must not be copied.
type Gauge struct{ bits atomic.Uint64 }

// Set replaces the value.
func (g *Gauge) Set(value float64) { g.bits.Store(math.Float64bits(value)) }

// Add changes the value by delta.
func (g *Gauge) Add(delta float64) {
	for {
		old := g.bits.Load()
		if g.bits.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+delta)) {
			return
		}
	}
}

// Value returns the value.
func (g *Gauge) Value() float64 { return math.Float64frombits(g.bits.Load()) }

// Metric names the gauge, as Counter.Metric does; the name does not end with "_total".
func (g *Gauge) Metric(name, help string) Metric {
	return Metric{name: name, help: help, kind: wirev1.MetricKind_METRIC_KIND_GAUGE, read: g.Value}
}

// metricsOf asks a plugin for its metrics and checks what the agent would refuse.
func metricsOf(plugin any) ([]Metric, error) {
	provider, ok := plugin.(MetricsProvider)
	if !ok {
		return nil, nil
	}
	metrics := provider.Metrics()
	if err := wire.CheckMetrics(messages(metrics)); err != nil {
		return nil, fmt.Errorf("the metrics of a %T: %w", plugin, err)
	}
	return metrics, nil
}

// messages reads the metrics' values.
func messages(metrics []Metric) []*wirev1.Metric {
	all := make([]*wirev1.Metric, len(metrics))
	for i, m := range metrics {
		all[i] = &wirev1.Metric{Name: m.name, Help: m.help, Kind: m.kind}
		if m.read != nil {
			all[i].Value = m.read()
		}
	}
	return all
}

// Metrics answers the agent. It waits for no batch.
func (s *server) Metrics(context.Context, *wirev1.MetricsRequest) (*wirev1.MetricsReply, error) {
	if metrics := s.metrics.Load(); metrics != nil {
		return &wirev1.MetricsReply{Metrics: messages(*metrics)}, nil
	}
	return &wirev1.MetricsReply{}, nil
}
