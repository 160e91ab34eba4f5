package metric

import (
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// scrape returns the lines of the page that tell of plugins' own metrics.
func scrape(t *testing.T, table *Table) []string {
	t.Helper()
	recorder := httptest.NewRecorder()
	table.Handler().ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	if recorder.Code != 200 {
		body, _ := io.ReadAll(recorder.Body)
		t.Fatalf("/metrics answers %d: %s", recorder.Code, body)
	}
	var lines []string
	for line := range strings.Lines(recorder.Body.String()) {
		if strings.HasPrefix(line, "barnabas_plugin_") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func TestMetricsOfPluginsComeAndGoWithTheirStages(t *testing.T) {
	table := New()
	words := PluginSample{Name: "words_total", Help: "Words.", Counter: true, Value: 7}
	table.Plugins.Set("p", "first", "mask-it", []PluginSample{words, {Name: "depth", Help: "Depth.", Value: -1.5}})
	words.Value, words.Help = 8, "Other words." // of another version: the first help text stands
	table.Plugins.Set("q", "second", "mask-it", []PluginSample{words})
	if got, want := scrape(t, table), []string{
		`barnabas_plugin_mask_it_depth{pipeline="p",plugin="first"} -1.5`,
		`barnabas_plugin_mask_it_words_total{pipeline="p",plugin="first"} 7`,
		`barnabas_plugin_mask_it_words_total{pipeline="q",plugin="second"} 8`,
	}; !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	table.Plugins.Set("p", "first", "mask-it", nil)
	table.Plugins.Set("q", "second", "mask-it", nil)
	if got := scrape(t, table); len(got) > 0 || len(table.Plugins.families) > 0 {
		t.Errorf("left: %q", got)
	}
}

// Whatever plugins bring along, the page can be scraped.
func TestMetricsThatDoNotFitAreLeftOut(t *testing.T) {
	table := New()
	touchAll(table)
	own := scrape(t, table)
	table.Plugins.Set("p", "a", "x", []PluginSample{{Name: "n", Help: "N."}})
	if left := table.Plugins.Set("p", "b", "x", []PluginSample{{Name: "n", Counter: true}}); !slices.Equal(left, []string{"n"}) {
		t.Errorf("of another kind: left out %q", left)
	}
	for plugin, name := range map[string]string{"up": "", "restarts": "total", "batch": "seconds", "batch-seconds": "count"} {
		sample := PluginSample{Name: name, Counter: true}
		if plugin == "up" {
			continue // a metric has a name, so there is no such one
		}
		if left := table.Plugins.Set("p", plugin, plugin, []PluginSample{sample}); len(left) != 1 {
			t.Errorf("%s %s took a name of the agent's own", plugin, name)
		}
	}
	if got := scrape(t, table); len(got) != len(own)+1 {
		t.Errorf("%d lines, want %d and one", len(got), len(own))
	}
}
