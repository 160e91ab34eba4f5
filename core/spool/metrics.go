package spool

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/barnabas-agent/barnabas/core/metric"
)

// meter holds the spool's children of the metric table.
type meter struct {
	records prometheus.Counter
	bytes   prometheus.Counter
	lag     prometheus.Gauge
	used    prometheus.Gauge
	sync    prometheus.Observer
	damaged prometheus.Counter
}

func newMeter(table *metric.Table, pipeline, source string) *meter {
	return &meter{
		records: table.SourceRecords.WithLabelValues(pipeline, source),
		bytes:   table.SourceBytes.WithLabelValues(pipeline, source),
		lag:     table.SourceLagBytes.WithLabelValues(pipeline, source),
		used:    table.SpoolUsedBytes.WithLabelValues(pipeline, source),
		sync:    table.SpoolWriteSeconds.WithLabelValues(pipeline, source),
		damaged: table.SpoolDamagedBytes.WithLabelValues(pipeline, source),
	}
}

// show sets the gauges to the spool's state.
func (m *meter) show(s *Spool) {
	status := s.Status()
	m.lag.Set(float64(status.Lag))
	m.used.Set(float64(status.Used))
}

func (m *meter) close() {
	m.lag.Set(0)
	m.used.Set(0)
}
