package wire

import (
	"errors"
	"fmt"
	"strings"

	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// MaxMetrics bounds the metrics of a plugin, MaxMetricName the bytes of a name.
const (
	MaxMetrics    = 64
	MaxMetricName = 64
)

// counterSuffix is how the names of counters end, as Prometheus has it.
const counterSuffix = "_total"

// CheckMetric says what is wrong with a metric's name or kind; nil: nothing.
func CheckMetric(name string, kind wirev1.MetricKind) error {
	if kind != wirev1.MetricKind_METRIC_KIND_COUNTER && kind != wirev1.MetricKind_METRIC_KIND_GAUGE {
		return fmt.Errorf("metric %.64q: it is neither a counter nor a gauge", name)
	}
	if name == "" || len(name) > MaxMetricName || name[0] < 'a' || name[0] > 'z' {
		return fmt.Errorf("metric %.64q: a name begins with a lower-case letter and has at most %d", name, MaxMetricName)
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return fmt.Errorf("metric %.64q: a name is made of lower-case letters, digits and underscores", name)
		}
	}
	if counter := kind == wirev1.MetricKind_METRIC_KIND_COUNTER; counter != strings.HasSuffix(name, counterSuffix) {
		return fmt.Errorf("metric %.64q: the names of counters end with %s, and no others", name, counterSuffix)
	}
	return nil
}

// CheckMetrics refuses more metrics than MaxMetrics, names that are there twice, and what CheckMetric refuses.
func CheckMetrics(all []*wirev1.Metric) error {
	if len(all) > MaxMetrics {
		return fmt.Errorf("%d metrics, more than %d", len(all), MaxMetrics)
	}
	var wrong []error
	names := make(map[string]struct{}, len(all))
	for _, m := range all {
		wrong = append(wrong, CheckMetric(m.GetName(), m.GetKind()))
		if _, twice := names[m.GetName()]; twice {
			wrong = append(wrong, fmt.Errorf("metric %.64q is there twice", m.GetName()))
		}
		names[m.GetName()] = struct{}{}
	}
	return errors.Join(wrong...)
}
