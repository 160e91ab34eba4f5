package pluginhost

import (
	"fmt"
	"strings"
	"testing"

	"github.com/barnabas-agent/barnabas/core/record"
)

// BenchmarkStage measures one crossing of a plugin process with batches of 2,048
// records of 200 bytes: the plugin reads all columns and changes nothing, or the value.
func BenchmarkStage(b *testing.B) {
	for name, config := range map[string]trial{"unmodified": {}, "modified": {Suffix: "!"}} {
		b.Run(name, func(b *testing.B) { benchmarkStage(b, config) })
	}
}

func benchmarkStage(b *testing.B, config trial) {
	const rows = 2048
	f := newFixture(b)
	s := f.start(b, f.spec(Interceptor, "trial", config))
	in, out := make(chan *record.Batch), make(chan *record.Batch)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(b.Context(), 0, in, out) }()
	values := make([]string, rows)
	for i := range values {
		values[i] = fmt.Sprintf("%d%s", i, strings.Repeat("x", 195))
	}
	free := make(chan *record.Batch, 2*window)
	for n := range cap(free) {
		free <- batchOf(uint64(n+1), values...)
	}
	b.ResetTimer()
	go func() {
		defer close(in)
		for range b.N {
			recycled := <-free
			in <- fill(recycled, recycled.ID, values...)
		}
	}()
	for range b.N {
		free <- <-out
	}
	b.StopTimer()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/record")
}
