package metric

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// PluginSample is the value of one metric that a plugin brings along.
type PluginSample struct {
	Name    string // without prefix
	Help    string
	Counter bool // else a gauge
	Value   float64
}

// PluginMetrics holds the metrics that plugins bring along, which are
// barnabas_plugin_<plugin>_<name> with the labels pipeline and plugin (a stage's
// name). All stages share a family, so that the first stage with a name decides
// its kind and help text; what differs from it in kind is left out. It is safe
// for concurrent use.
type PluginMetrics struct {
	mu       sync.Mutex
	families map[string]*pluginFamily // guarded by mu
}

// pluginFamily is one name with the values of its stages.
type pluginFamily struct {
	kind   prometheus.ValueType
	help   string
	values map[pluginStage]float64
}

// pluginStage names a stage.
type pluginStage struct{ pipeline, stage string }

var _ prometheus.Collector = (*PluginMetrics)(nil)

func newPluginMetrics() *PluginMetrics { return &PluginMetrics{families: map[string]*pluginFamily{}} }

// Set replaces the metrics of a stage by samples, whose names have been checked,
// and returns the names that it left out; no samples remove the stage.
func (p *PluginMetrics) Set(pipeline, stage, plugin string, samples []PluginSample) (leftOut []string) {
	at := pluginStage{pipeline: pipeline, stage: stage}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, family := range p.families {
		if delete(family.values, at); len(family.values) == 0 {
			delete(p.families, name)
		}
	}
	for _, s := range samples {
		name := pluginMetricName(plugin, s.Name)
		kind := prometheus.GaugeValue
		if s.Counter {
			kind = prometheus.CounterValue
		}
		family := p.families[name]
		if family == nil {
			family = &pluginFamily{kind: kind, help: s.Help, values: map[pluginStage]float64{}}
		}
		if family.kind != kind || isOwn(name) {
			leftOut = append(leftOut, s.Name)
			continue
		}
		family.values[at] = s.Value
		p.families[name] = family
	}
	return leftOut
}

// isOwn reports whether a name is one of the agent's own metrics with the same
// prefix, or one that a histogram among them takes.
func isOwn(name string) bool {
	rest := strings.TrimPrefix(name, namespace+"_plugin_")
	return rest == "up" || rest == "restarts_total" || strings.HasPrefix(rest, "batch_seconds")
}

// pluginMetricName is the name on the page. What Prometheus does not take in a
// plugin's name is an underscore there.
func pluginMetricName(plugin, name string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, plugin)
	return namespace + "_plugin_" + clean + "_" + name
}

// Describe says nothing: which metrics there are, plugins decide.
func (*PluginMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect sends every value.
func (p *PluginMetrics) Collect(to chan<- prometheus.Metric) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, family := range p.families {
		desc := prometheus.NewDesc(name, family.help, []string{"pipeline", "plugin"}, nil)
		for at, value := range family.values {
			if m, err := prometheus.NewConstMetric(desc, family.kind, value, at.pipeline, at.stage); err == nil { // else a label is no UTF-8
				to <- m
			}
		}
	}
}
