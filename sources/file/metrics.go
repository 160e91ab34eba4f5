package file

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/barnabas-agent/barnabas/core/metric"
)

// Reasons of the metric for bytes that were lost unread.
const (
	lostTruncated     = "truncated"      // the file was cut or rewritten in place
	lostCorrupt       = "corrupt"        // it can't be decompressed
	lostTruncatedLine = "truncated_line" // on_long_line is "truncate"
	lostVanished      = "vanished"       // the file was removed while the agent did not run
	lostUnopened      = "unopened"       // the file was removed before it could be opened
)

// meter holds the source's children of the metric table.
type meter struct {
	records  prometheus.Counter
	bytes    prometheus.Counter
	lag      prometheus.Gauge
	open     prometheus.Gauge
	unopened prometheus.Counter
	lose     *prometheus.CounterVec // by reason

	lagged int64 // what this source added to lag; owned by the discoverer
}

func newMeter(table *metric.Table, pipeline, source string) *meter {
	return &meter{
		records:  table.SourceRecords.WithLabelValues(pipeline, source),
		bytes:    table.SourceBytes.WithLabelValues(pipeline, source),
		lag:      table.SourceLagBytes.WithLabelValues(pipeline, source),
		open:     table.FilesOpen.WithLabelValues(pipeline, source),
		unopened: table.FilesUnopened.WithLabelValues(pipeline),
		lose:     table.FilesUnreadLostBytes.MustCurryWith(prometheus.Labels{"pipeline": pipeline}),
	}
}

func (m *meter) read(records int, bytes int64) {
	m.records.Add(float64(records))
	m.bytes.Add(float64(bytes))
}

func (m *meter) lost(reason string, bytes int64) {
	if bytes > 0 {
		m.lose.WithLabelValues(reason).Add(float64(bytes))
	}
}

// setLag changes this source's part of the gauge, which others may share.
func (m *meter) setLag(bytes int64) {
	m.lag.Add(float64(bytes - m.lagged))
	m.lagged = bytes
}
