package metric

import (
	"fmt"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// touchAll gives every vector one child, so that it shows in a scrape.
func touchAll(t *Table) {
	t.SourceRecords.WithLabelValues("p", "s").Add(1)
	t.SourceBytes.WithLabelValues("p", "s").Add(1)
	t.SourceLagBytes.WithLabelValues("p", "s").Set(1)
	t.FilesOpen.WithLabelValues("p", "s").Set(1)
	t.FilesUnreadLostBytes.WithLabelValues("p", "truncated").Add(1)
	t.FilesUnopened.WithLabelValues("p").Add(1)
	t.StageRecords.WithLabelValues("p", "filter", "kept").Add(1)
	t.PluginUp.WithLabelValues("p", "filter").Set(1)
	t.PluginRestarts.WithLabelValues("filter", "exit").Add(1)
	t.AcknowledgementsDropped.WithLabelValues("p", "filter").Add(1)
	t.PluginBatchSeconds.WithLabelValues("p", "filter").Observe(0.01)
	t.DeliveredRecords.WithLabelValues("p", "t").Add(1)
	t.DeliveredBytes.WithLabelValues("p", "t").Add(1)
	t.DeliveryErrors.WithLabelValues("t", "MSG_SIZE_TOO_LARGE").Add(1)
	t.DeliverySeconds.WithLabelValues("p").Observe(0.01)
	t.InflightRecords.WithLabelValues("p").Set(1)
	t.OldestUnackedSeconds.WithLabelValues("p").Set(1)
	t.BufferUsedBytes.WithLabelValues("default").Set(1)
	t.QuarantinedRecords.WithLabelValues("p", "failed").Add(1)
	t.CheckpointSeconds.Observe(0.01)
}

func TestNamesAndLabelsAreThePublishedOnes(t *testing.T) {
	want := map[string]string{
		"barnabas_source_records_total":           "COUNTER pipeline,source",
		"barnabas_source_bytes_total":             "COUNTER pipeline,source",
		"barnabas_source_lag_bytes":               "GAUGE pipeline,source",
		"barnabas_files_open":                     "GAUGE pipeline,source",
		"barnabas_files_unread_lost_bytes_total":  "COUNTER pipeline,reason",
		"barnabas_files_unopened_total":           "COUNTER pipeline",
		"barnabas_stage_records_total":            "COUNTER pipeline,stage,verdict",
		"barnabas_plugin_up":                      "GAUGE pipeline,plugin",
		"barnabas_plugin_restarts_total":          "COUNTER plugin,reason",
		"barnabas_plugin_batch_seconds":           "HISTOGRAM pipeline,plugin",
		"barnabas_acknowledgements_dropped_total": "COUNTER pipeline,plugin",
		"barnabas_delivered_records_total":        "COUNTER pipeline,topic",
		"barnabas_delivered_bytes_total":          "COUNTER pipeline,topic",
		"barnabas_delivery_errors_total":          "COUNTER code,topic",
		"barnabas_delivery_seconds":               "HISTOGRAM pipeline",
		"barnabas_inflight_records":               "GAUGE pipeline",
		"barnabas_oldest_unacked_seconds":         "GAUGE pipeline",
		"barnabas_buffer_used_bytes":              "GAUGE producer",
		"barnabas_quarantined_records_total":      "COUNTER pipeline,reason",
		"barnabas_checkpoint_seconds":             "HISTOGRAM ",
		"barnabas_checkpoint_failures_total":      "COUNTER ",
		"barnabas_positions_unstored_seconds":     "GAUGE ",
	}
	table := New()
	touchAll(table)
	got := map[string]string{}
	for _, family := range gather(t, table.Gatherer()) {
		if !strings.HasPrefix(family.GetName(), "barnabas_") {
			continue
		}
		if family.GetHelp() == "" {
			t.Errorf("%s has no help text", family.GetName())
		}
		var labels []string
		for _, pair := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, pair.GetName())
		}
		slices.Sort(labels)
		got[family.GetName()] = family.GetType().String() + " " + strings.Join(labels, ",")
	}
	for name, kind := range want {
		if got[name] != kind {
			t.Errorf("%s is %q, want %q", name, got[name], kind)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is not a published name", name)
		}
	}
}

func TestTablesAreIndependent(t *testing.T) {
	a, b := New(), New()
	a.InflightRecords.WithLabelValues("p").Set(7)
	for _, family := range gather(t, b.Gatherer()) {
		if family.GetName() == "barnabas_inflight_records" {
			t.Error("a value set in one table shows in another")
		}
	}
	for _, family := range gather(t, prometheus.DefaultGatherer) {
		if strings.HasPrefix(family.GetName(), "barnabas_") {
			t.Errorf("%s is in the default registry", family.GetName())
		}
	}
}

func TestHandlerServesAgentRuntimeAndProcess(t *testing.T) {
	table := New()
	table.DeliveredRecords.WithLabelValues("access", "access").Add(3)
	recorder := httptest.NewRecorder()
	table.Handler().ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(recorder.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`barnabas_delivered_records_total{pipeline="access",topic="access"} 3`,
		"go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(string(body), line) {
			t.Errorf("/metrics lacks %q", line)
		}
	}
}

func TestTopicLabelsAreBoundedPerPipeline(t *testing.T) {
	table := New()
	for i := range 100 {
		topic := fmt.Sprintf("topic-%d", i)
		if got := table.TopicLabel("p", topic); got != topic {
			t.Fatalf("topic %d of a pipeline is labelled %q", i+1, got)
		}
	}
	if got := table.TopicLabel("p", "topic-100"); got != "other" {
		t.Errorf("topic 101 is labelled %q, want other", got)
	}
	if got := table.TopicLabel("p", "topic-3"); got != "topic-3" {
		t.Errorf("a known topic changed its label to %q", got)
	}
	if got := table.TopicLabel("q", "topic-100"); got != "topic-100" {
		t.Errorf("another pipeline's first topic is labelled %q", got)
	}
}

func TestWhatIsNoTopicNameIsNoLabel(t *testing.T) {
	table := New()
	for _, topic := range []string{"", ".", "..", "/var/log/app.log", "a b", "é", "a\x00", strings.Repeat("x", 250)} {
		if got := table.TopicLabel("p", topic); got != "other" {
			t.Errorf("%q is labelled %q, want other", topic, got)
		}
	}
	if got := len(table.topics.known["p"]); got != 0 {
		t.Errorf("%d illegal names took a place", got)
	}
}

func TestTopicLabelsStayBoundedUnderConcurrency(t *testing.T) {
	table := New()
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 200 {
				table.TopicLabel("p", fmt.Sprintf("t-%d", (i*7+worker*31)%300))
			}
		})
	}
	group.Wait()
	if got := len(table.topics.known["p"]); got != maxTopicLabels {
		t.Errorf("%d topics are labels, want %d", got, maxTopicLabels)
	}
}

func gather(t *testing.T, from prometheus.Gatherer) []*dto.MetricFamily {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}
