package plugintest_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
	"github.com/barnabas-agent/barnabas/plugins/sdk/plugintest"
)

// TestBenchMeasuresBothProcesses wants figures that can be: time has passed, for
// the sizes and columns that were asked for, of a plugin that changes every value.
func TestBenchMeasuresBothProcesses(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := plugintest.BenchOptions{Sizes: []int{1, 300}, Bytes: 100, Rounds: 4, Round: 50 * time.Millisecond}
	var sizes []int
	err = plugintest.Bench(t.Context(), binary, []string{roleVariable + "=upper", "GORACE=atexit_sleep_ms=0"}, `{}`, o, func(m plugintest.Measurement) error {
		sizes = append(sizes, m.Records)
		if m.Elapsed <= 0 || m.HostCPU <= 0 || m.PluginCPU <= 0 || m.Floor < 0 || m.BytesPerSecond() <= 0 {
			t.Errorf("%+v: want times above zero", m)
		}
		if m.Bytes != 100 || m.Reads != sdk.ColumnValue || m.Writes != sdk.ColumnValue {
			t.Errorf("%+v: want values of 100 bytes, and the column that the plugin reads and writes", m)
		}
		return nil
	})
	if err != nil || !slices.Equal(sizes, o.Sizes) {
		t.Errorf("measured %v, %v; want %v", sizes, err, o.Sizes)
	}
}
