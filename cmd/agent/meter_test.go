package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-agent/barnabas/core/admin"
	"github.com/barnabas-agent/barnabas/core/metric"
)

func TestMeterSumsPipelinesAndTheirLabels(t *testing.T) {
	table := metric.New()
	m := newMeter(table.Gatherer(), time.Now)
	table.SourceRecords.WithLabelValues("a", "file").Add(5)
	table.SourceRecords.WithLabelValues("a", "file-2").Add(3)
	table.SourceBytes.WithLabelValues("a", "file").Add(100)
	table.DeliveredRecords.WithLabelValues("a", "t1").Add(2)
	table.DeliveredRecords.WithLabelValues("a", "t2").Add(1)
	table.DeliveredRecords.WithLabelValues("b", "t1").Add(10)
	table.DeliveredBytes.WithLabelValues("b", "t1").Add(70)
	table.StageRecords.WithLabelValues("a", "filter", "dropped").Add(4)
	table.StageRecords.WithLabelValues("a", "filter", "kept").Add(99)
	table.QuarantinedRecords.WithLabelValues("b", "refused").Add(6)

	if got, _ := m.read("a"); got != (admin.Totals{ReadRecords: 8, ReadBytes: 100, DeliveredRecords: 3, DroppedRecords: 4}) {
		t.Errorf("pipeline a: %+v", got)
	}
	want := admin.Totals{ReadRecords: 8, ReadBytes: 100, DeliveredRecords: 13, DeliveredBytes: 70, DroppedRecords: 4, QuarantinedRecords: 6}
	if got := m.totals(); got != want {
		t.Errorf("all: %+v", got)
	}
	if got, _ := m.read("c"); got != (admin.Totals{}) {
		t.Errorf("a pipeline that has counted nothing: %+v", got)
	}
}

func TestRatesFollowTheLastSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := metric.New()
		m := newMeter(table.Gatherer(), time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); m.run(ctx) }()
		delivered := table.DeliveredRecords.WithLabelValues("a", "t")
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range 200 { // 20 s of 1000 records a second
			<-tick.C
			delivered.Add(100)
		}
		if _, rates := m.read("a"); rates.DeliveredRecords < 900 || rates.DeliveredRecords > 1100 {
			t.Errorf("%f records a second, not 1000", rates.DeliveredRecords)
		}
		for range 100 { // 10 s of nothing
			<-tick.C
		}
		if _, rates := m.read("a"); rates.DeliveredRecords != 0 {
			t.Errorf("%f records a second long after the last one", rates.DeliveredRecords)
		}
		cancel()
		<-ended
	})
}
