package sdk_test

import (
	"context"
	"strings"
	"testing"

	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// metered is an interceptor with the metrics that a test gives it.
type metered struct{ metrics []sdk.Metric }

func (*metered) OnSend(context.Context, *sdk.Batch) error { return nil }
func (m *metered) Metrics() []sdk.Metric                  { return m.metrics }

func meteredProgram(metrics ...sdk.Metric) *sdk.Program {
	return sdk.InterceptorProgram("metered", "1", func() sdk.Interceptor { return &metered{metrics: metrics} })
}

func TestMetricsAreReadWhenTheyAreAskedFor(t *testing.T) {
	var words sdk.Counter
	var depth sdk.Gauge
	client := serve(t, meteredProgram(words.Metric("words_total", "Words."), depth.Metric("depth", "Depth.")), sdk.RegisterOptions{})
	ask := func() []*wirev1.Metric {
		reply, err := client.Metrics(t.Context(), &wirev1.MetricsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return reply.Metrics
	}
	if got := ask(); len(got) > 0 {
		t.Errorf("before it is configured: %v", got)
	}
	configure(t, client, &wirev1.ConfigureRequest{})
	words.Add(3)
	depth.Set(2.5)
	depth.Add(-1)
	got := ask()
	if len(got) != 2 || got[0].Value != 3 || got[0].Kind != wirev1.MetricKind_METRIC_KIND_COUNTER || got[0].Help != "Words." ||
		got[1].Value != 1.5 || got[1].Name != "depth" || words.Value() != 3 || depth.Value() != 1.5 {
		t.Errorf("got %v", got)
	}
}

// What the agent would refuse later is said at the start.
func TestMetricsThatCanNotBeAreRefusedAtTheStart(t *testing.T) {
	var c sdk.Counter
	var g sdk.Gauge
	var many []sdk.Metric
	for i := range 65 {
		many = append(many, g.Metric("a"+strings.Repeat("b", i%60), ""))
	}
	for want, metrics := range map[string][]sdk.Metric{
		"end with _total":        {c.Metric("words", "")},
		"and no others":          {g.Metric("words_total", "")},
		"lower-case":             {g.Metric("Words", "")},
		"digits and underscores": {g.Metric("wo-rds", "")},
		"begins with":            {g.Metric("", ""), c.Metric("_total", "")},
		"there twice":            {g.Metric("a", ""), g.Metric("a", "")},
		"neither":                {{}},
		"more than 64":           many,
	} {
		_, err := serve(t, meteredProgram(metrics...), sdk.RegisterOptions{}).Configure(t.Context(), &wirev1.ConfigureRequest{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
