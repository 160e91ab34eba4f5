// Package metric is the agent's one table of Prometheus metrics. It is made
// once, passed to whoever counts, and holds no global state: the default
// registerer is never touched, so tests may make as many tables as they like.
//
// No label ever holds a file path, a peer's address or record content, and the
// topics that are labels are bounded by [Table.TopicLabel].
package metric

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Table holds every metric of the agent; labels are in the order in which
// WithLabelValues takes them. All of it is safe for concurrent use. Look a
// child up once per pipeline, source or topic and keep it: a lookup hashes the
// label values.
//
// The label `source` is the source's name in its pipeline, `stage` and `plugin`
// a configured stage's name, `producer` the label of the producer block. Records
// that on_failure drops count under the stage "producer".
type Table struct {
	SourceRecords        *prometheus.CounterVec // pipeline, source
	SourceBytes          *prometheus.CounterVec // pipeline, source
	SourceLagBytes       *prometheus.GaugeVec   // pipeline, source
	FilesOpen            *prometheus.GaugeVec   // pipeline, source
	FilesUnreadLostBytes *prometheus.CounterVec // pipeline, reason
	FilesUnopened        *prometheus.CounterVec // pipeline
	SocketConnections    *prometheus.GaugeVec   // pipeline, source
	SocketDropped        *prometheus.CounterVec // reason

	SpoolUsedBytes    *prometheus.GaugeVec     // pipeline, source
	SpoolWriteSeconds *prometheus.HistogramVec // pipeline, source
	SpoolDamagedBytes *prometheus.CounterVec   // pipeline, source

	StageRecords       *prometheus.CounterVec   // pipeline, stage, verdict
	PluginUp           *prometheus.GaugeVec     // pipeline, plugin
	PluginRestarts     *prometheus.CounterVec   // plugin, reason
	PluginBatchSeconds *prometheus.HistogramVec // pipeline, plugin

	AcknowledgementsDropped *prometheus.CounterVec // pipeline, plugin

	DeliveredRecords     *prometheus.CounterVec   // pipeline, topic
	DeliveredBytes       *prometheus.CounterVec   // pipeline, topic
	DeliveryErrors       *prometheus.CounterVec   // topic, code
	DeliverySeconds      *prometheus.HistogramVec // pipeline
	InflightRecords      *prometheus.GaugeVec     // pipeline
	OldestUnackedSeconds *prometheus.GaugeVec     // pipeline
	BufferUsedBytes      *prometheus.GaugeVec     // producer

	QuarantinedRecords *prometheus.CounterVec // pipeline, reason
	CheckpointSeconds  prometheus.Histogram
	CheckpointFailures prometheus.Counter
	PositionsUnstored  prometheus.Gauge // seconds

	Plugins *PluginMetrics // what plugins count by themselves

	registry *prometheus.Registry
	topics   topicLabels
}

// New makes a table with a registry of its own, which also collects the Go
// runtime and the process.
func New() *Table {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	t := &Table{Plugins: newPluginMetrics(), registry: registry, topics: topicLabels{known: map[string]map[string]struct{}{}}}
	registry.MustRegister(t.Plugins)
	t.registerSources()
	t.registerSpools()
	t.registerStages()
	t.registerAcknowledgements()
	t.registerDelivery()
	return t
}

func (t *Table) registerSources() {
	t.SourceRecords = t.counter("source_records_total",
		"Records read by a source.", "pipeline", "source")
	t.SourceBytes = t.counter("source_bytes_total",
		"Bytes of the records read by a source.", "pipeline", "source")
	t.SourceLagBytes = t.gauge("source_lag_bytes",
		"Bytes that a source's inputs hold and that are not delivered yet.", "pipeline", "source")
	t.FilesOpen = t.gauge("files_open",
		"Files that a source holds open.", "pipeline", "source")
	t.FilesUnreadLostBytes = t.counter("files_unread_lost_bytes_total",
		"Bytes that left a file before they could be read, by reason.", "pipeline", "reason")
	t.FilesUnopened = t.counter("files_unopened_total",
		"Files that were gone before they could be opened.", "pipeline")
	t.SocketConnections = t.gauge("socket_connections",
		"Connections that a source holds.", "pipeline", "source")
	t.SocketDropped = t.counter("socket_dropped_total",
		"Connections, frames and datagrams that sockets did not take, by reason.", "reason")
}

func (t *Table) registerSpools() {
	t.SpoolUsedBytes = t.gauge("spool_used_bytes",
		"Bytes that a source's spool takes on disk.", "pipeline", "source")
	t.SpoolWriteSeconds = t.histogram("spool_write_seconds",
		"Time to write a group of records to a source's spool and to sync it.",
		prometheus.ExponentialBuckets(0.0001, 2.5, 14), "pipeline", "source") // 100 µs to 15 s
	t.SpoolDamagedBytes = t.counter("spool_damaged_bytes_total",
		"Bytes of a source's spool that could not be read back.", "pipeline", "source")
}

func (t *Table) registerStages() {
	t.StageRecords = t.counter("stage_records_total",
		"Records that a stage answered, by verdict: kept, modified, dropped, failed.", "pipeline", "stage", "verdict")
	t.PluginUp = t.gauge("plugin_up",
		"1 while the plugin's process answers, else 0.", "pipeline", "plugin")
	t.PluginRestarts = t.counter("plugin_restarts_total",
		"Times that a plugin's process was replaced by a new one, by reason.", "plugin", "reason")
	t.PluginBatchSeconds = t.histogram("plugin_batch_seconds",
		"Time from handing a batch to a plugin to its reply.",
		prometheus.ExponentialBuckets(0.0001, 2.5, 14), "pipeline", "plugin") // 100 µs to 15 s; the default deadline is 10 s
}

func (t *Table) registerAcknowledgements() {
	t.AcknowledgementsDropped = t.counter("acknowledgements_dropped_total",
		"Records whose acknowledgement a plugin wants and did not take in time.", "pipeline", "plugin")
}

func (t *Table) registerDelivery() {
	t.DeliveredRecords = t.counter("delivered_records_total",
		"Records that a broker acknowledged.", "pipeline", "topic")
	t.DeliveredBytes = t.counter("delivered_bytes_total",
		"Bytes of key, value and headers of acknowledged records.", "pipeline", "topic")
	t.DeliveryErrors = t.counter("delivery_errors_total",
		"Delivery reports that were errors, by Kafka's code.", "topic", "code")
	t.DeliverySeconds = t.histogram("delivery_seconds",
		"Time from reading records to their delivery report, observed once for records that are reported together.",
		prometheus.ExponentialBuckets(0.001, 2.5, 15), "pipeline") // 1 ms to 6 min: an outage of minutes is still told apart
	t.InflightRecords = t.gauge("inflight_records",
		"Records read and not resolved yet.", "pipeline")
	t.OldestUnackedSeconds = t.gauge("oldest_unacked_seconds",
		"Age of the oldest record that is read and not resolved yet; 0 when there is none.", "pipeline")
	t.BufferUsedBytes = t.gauge("buffer_used_bytes",
		"Part of buffer_memory that records read and not delivered yet are charged.", "producer")
	t.QuarantinedRecords = t.counter("quarantined_records_total",
		"Records put into the quarantine, by reason.", "pipeline", "reason")
	t.CheckpointSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Name: "checkpoint_seconds",
		Help:    "Time to make the positions durable.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2.5, 12), // 0.5 ms to 12 s: one fsync of a fast and of a struggling disk
	})
	t.CheckpointFailures = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: namespace, Name: "checkpoint_failures_total",
		Help: "Times that positions could not be made durable.",
	})
	t.PositionsUnstored = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "positions_unstored_seconds",
		Help: "Age of the oldest delivered position that is not durable yet; 0 when there is none. Above fifteen, nothing more is read.",
	})
	t.registry.MustRegister(t.CheckpointSeconds, t.CheckpointFailures, t.PositionsUnstored)
}

// Handler serves the table in the exposition format that the scraper asks for.
func (t *Table) Handler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// Gatherer gives the table's current values, for a status page or a test.
func (t *Table) Gatherer() prometheus.Gatherer { return t.registry }

const namespace = "barnabas"

func (t *Table) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	t.registry.MustRegister(v)
	return v
}

func (t *Table) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
	t.registry.MustRegister(v)
	return v
}

func (t *Table) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help, Buckets: buckets,
	}, labels)
	t.registry.MustRegister(v)
	return v
}
