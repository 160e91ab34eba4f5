package pluginhost

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/wire"
)

// stageMetrics are a stage's children of the metrics, looked up once.
type stageMetrics struct {
	kept, modified, dropped, failed prometheus.Counter
	up                              prometheus.Gauge
	seconds                         prometheus.Observer
	restarts                        func(reason string) prometheus.Counter
	acknowledgementsDropped         prometheus.Counter
}

// newStageMetrics looks the children up.
func newStageMetrics(t *metric.Table, spec *Spec) stageMetrics {
	verdict := func(name string) prometheus.Counter {
		return t.StageRecords.WithLabelValues(spec.Pipeline, spec.Stage, name)
	}
	return stageMetrics{
		kept: verdict("kept"), modified: verdict("modified"), dropped: verdict("dropped"), failed: verdict("failed"),
		up:                      t.PluginUp.WithLabelValues(spec.Pipeline, spec.Stage),
		seconds:                 t.PluginBatchSeconds.WithLabelValues(spec.Pipeline, spec.Stage),
		acknowledgementsDropped: t.AcknowledgementsDropped.WithLabelValues(spec.Pipeline, spec.Stage),
		restarts:                func(reason string) prometheus.Counter { return t.PluginRestarts.WithLabelValues(spec.Stage, reason) },
	}
}

// setUp says whether a process answers.
func (m *stageMetrics) setUp(up bool) {
	if up {
		m.up.Set(1)
		return
	}
	m.up.Set(0)
}

// count adds one reply. Every record counts once: what was modified is not kept as well.
func (m *stageMetrics) count(o wire.Outcome, took time.Duration) {
	m.kept.Add(float64(o.Kept - o.Modified))
	m.modified.Add(float64(o.Modified))
	m.dropped.Add(float64(o.Dropped))
	m.failed.Add(float64(o.Failed))
	m.seconds.Observe(took.Seconds())
}
