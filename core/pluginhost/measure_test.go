package pluginhost

import (
	"context"
	"math"
	"syscall"
	"testing"

	"github.com/barnabas-agent/barnabas/core/metric"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// counting is an interceptor with metrics of its own.
type counting struct {
	seen sdk.Counter
	size sdk.Gauge
}

func (c *counting) OnSend(_ context.Context, b *sdk.Batch) error {
	c.seen.Add(uint64(b.Len()))
	c.size.Set(float64(b.Len()))
	return nil
}

func (c *counting) Metrics() []sdk.Metric {
	return []sdk.Metric{
		c.seen.Metric("seen_total", "Records seen."),
		c.size.Metric("batch_records", "Records of the last batch."),
	}
}

func TestMetricsOfAPluginOutliveItsProcessAndNotItsStage(t *testing.T) {
	f := newFixture(t)
	s := f.NewStage(f.spec(Interceptor, "counting", struct{}{}))
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"pipeline": "p", "plugin": "counting"}
	seen := func() float64 { return value(t, f, "barnabas_plugin_counting_seen_total", labels) }
	size := func() float64 { return value(t, f, "barnabas_plugin_counting_batch_records", labels) }
	pass(t, s, 0, numbered(3, 5)...)
	waitFor(t, "15 records counted", func() bool { return seen() == 15 && size() == 5 })
	kill(t, s.Status().PID, syscall.SIGKILL)
	waitFor(t, "a restart", func() bool { return s.Status().Restarts == 1 && s.Status().State == Ready })
	if got := seen(); got != 15 {
		t.Errorf("after the restart %v records are counted, were 15", got)
	}
	pass(t, s, 1, numbered(1, 2)...)
	waitFor(t, "17 records counted", func() bool { return seen() == 17 && size() == 2 })
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if seen() != 0 || size() != 0 {
		t.Error("the metrics outlive their stage")
	}
}

func TestCountersNeverFallWhateverAPluginAnswers(t *testing.T) {
	table := metric.New()
	m := newMeasures(table, &Spec{Pipeline: "p", Stage: "s", Plugin: "x"})
	first, second := m.open(), m.open()
	total := func(value float64) []*wirev1.Metric {
		return []*wirev1.Metric{{Name: "n_total", Kind: wirev1.MetricKind_METRIC_KIND_COUNTER, Value: value}}
	}
	f := &fixture{Host: &Host{options: Options{Metrics: table}}}
	for _, step := range []struct {
		t     *tally
		value float64
		want  float64
	}{
		{first, 5, 5}, {second, 100, 105}, {first, 7, 107}, {first, 2, 109}, {first, math.NaN(), 109},
		{first, math.Inf(1), 109}, {second, -1, 109}, {second, 0, 109}, {second, 1, 110},
	} {
		m.take(step.t, total(step.value))
		if got := value(t, f, "barnabas_plugin_x_n_total", nil); got != step.want {
			t.Fatalf("after %v: %v, want %v", step.value, got, step.want)
		}
	}
	m.leave(first)
	m.take(first, total(4))
	if got := value(t, f, "barnabas_plugin_x_n_total", nil); got != 114 {
		t.Errorf("after a restart: %v, want 114", got)
	}
}
