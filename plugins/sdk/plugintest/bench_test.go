package plugintest

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
	"github.com/barnabas-agent/barnabas/plugins/sdk/internal/rows"
)

// benchmarkRecords of 200 bytes make a batch of the agent's size.
const benchmarkRecords = 2600

// stage is a plugin that does as little as its kind can.
type stage struct {
	columns sdk.Columns
	each    func(b *sdk.Batch, i int)
}

func (s *stage) OnSend(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		s.each(b, i)
	}
	return nil
}

func (s *stage) Columns() sdk.Columns { return s.columns }

// BenchmarkStage is one lane over a socket, both ends in this process, with a window of two.
func BenchmarkStage(b *testing.B) {
	var sum int
	for _, c := range []struct {
		name  string
		stage stage
	}{
		{"read value", stage{sdk.Columns{Reads: sdk.ColumnValue}, func(b *sdk.Batch, i int) { sum += len(b.Value(i)) }}},
		{"replace value", stage{sdk.Columns{Reads: sdk.ColumnValue, Writes: sdk.ColumnValue}, func(b *sdk.Batch, i int) { b.SetValue(i, b.Value(i)) }}},
		{"key to partition", stage{sdk.Columns{Reads: sdk.ColumnKey, Writes: sdk.ColumnPartition}, func(b *sdk.Batch, i int) { b.SetPartition(i, int32(len(b.Key(i)))) }}},
		{"all columns", stage{sdk.Columns{Reads: sdk.AllColumns, Writes: sdk.AllColumns}, func(b *sdk.Batch, i int) { sum += len(b.Value(i)) }}},
	} {
		b.Run(c.name, func(b *testing.B) {
			new := func() sdk.Interceptor { return &c.stage }
			s, err := start(b.Context(), inProcess(programOf(new), false), ``, newOptions(nil))
			if err != nil {
				b.Fatal(err)
			}
			defer s.close()
			benchmarkExchange(b, s)
		})
	}
}

func benchmarkExchange(b *testing.B, s *subject) {
	records := make([]rows.Row, benchmarkRecords)
	for i := range records {
		records[i] = rows.Row{Value: fmt.Appendf(nil, "%0199d", i), Key: fmt.Appendf(nil, "%08d", i), Topic: Topic, Partition: -1}
	}
	var ring [2]*delivery
	for i := range ring {
		ring[i] = s.newDelivery(records)
		if err := s.send(ring[i], 0, false); err != nil {
			b.Fatal(err)
		}
	}
	spans := slices.Clone(ring[0].batch.Value.Spans)
	var owner record.Batch // is reset as the pipeline does with a batch that is done
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		d := ring[n%len(ring)]
		if err := s.lane.RecvMsg(&s.frame); err != nil {
			b.Fatal(err)
		}
		outcome, err := wire.ApplyReply(d.batch, d.rows, &s.frame.Reply, s.rules)
		if err != nil || outcome.Kept != benchmarkRecords {
			b.Fatalf("%+v, %v", outcome, err)
		}
		if outcome.Adopted > 0 {
			s.frame.LendTo(&owner)
		}
		owner.Reset()
		copy(d.batch.Value.Spans, spans)
		d.batch.Value.Blocks = d.batch.Value.Blocks[:1]
		s.lastID++
		d.batch.ID = s.lastID
		if err := s.send(d, 0, false); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchmarkRecords, "ns/record")
}
