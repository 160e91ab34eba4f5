package main

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/barnabas-agent/barnabas/core/admin"
)

// rateWindow is the time that rates are taken over.
const rateWindow = 5 * time.Second

// meter turns the table of metrics into totals and rates, per pipeline. It is
// safe for concurrent use.
type meter struct {
	gatherer prometheus.Gatherer
	now      func() time.Time

	mu      sync.Mutex
	samples []sample // one per second, oldest first, at most rateWindow of them
}

// sample is what had been counted at a time.
type sample struct {
	at        time.Time
	pipelines map[string]admin.Totals
}

func newMeter(g prometheus.Gatherer, now func() time.Time) *meter {
	return &meter{gatherer: g, now: now, samples: []sample{{at: now()}}}
}

// run takes a sample every second until ctx ends.
func (m *meter) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			taken := m.sample()
			m.mu.Lock()
			m.samples = append(m.samples, taken)
			if excess := len(m.samples) - int(rateWindow/time.Second); excess > 0 {
				m.samples = m.samples[excess:]
			}
			m.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// sample counts now.
func (m *meter) sample() sample {
	s := sample{at: m.now(), pipelines: make(map[string]admin.Totals)}
	// Gather returns what it could gather beside an error.
	families, _ := m.gatherer.Gather()
	for _, family := range families {
		for _, one := range family.GetMetric() {
			pipeline, verdict := label(one, "pipeline"), label(one, "verdict")
			t := s.pipelines[pipeline]
			n := int64(one.GetCounter().GetValue())
			switch name := family.GetName(); {
			case name == "barnabas_source_records_total":
				t.ReadRecords += n
			case name == "barnabas_source_bytes_total":
				t.ReadBytes += n
			case name == "barnabas_delivered_records_total":
				t.DeliveredRecords += n
			case name == "barnabas_delivered_bytes_total":
				t.DeliveredBytes += n
			case name == "barnabas_stage_records_total" && verdict == "dropped":
				t.DroppedRecords += n
			case name == "barnabas_quarantined_records_total":
				t.QuarantinedRecords += n
			default:
				continue
			}
			s.pipelines[pipeline] = t
		}
	}
	return s
}

func label(m *dto.Metric, name string) string {
	for _, pair := range m.GetLabel() {
		if pair.GetName() == name {
			return pair.GetValue()
		}
	}
	return ""
}

// totals returns what has been counted over all pipelines.
func (m *meter) totals() admin.Totals {
	total, _ := m.read("")
	return total
}

// read returns totals and rates of a pipeline, or of all where the name is empty.
func (m *meter) read(pipeline string) (admin.Totals, admin.Rates) {
	now := m.sample()
	m.mu.Lock()
	before := m.samples[0]
	m.mu.Unlock()
	total, past := now.total(pipeline), before.total(pipeline)
	seconds := max(now.at.Sub(before.at).Seconds(), 0.001)
	per := func(now, past int64) float64 { return float64(now-past) / seconds }
	return total, admin.Rates{
		ReadRecords:      per(total.ReadRecords, past.ReadRecords),
		ReadBytes:        per(total.ReadBytes, past.ReadBytes),
		DeliveredRecords: per(total.DeliveredRecords, past.DeliveredRecords),
		DeliveredBytes:   per(total.DeliveredBytes, past.DeliveredBytes),
	}
}

func (s sample) total(pipeline string) admin.Totals {
	if pipeline != "" {
		return s.pipelines[pipeline]
	}
	var sum admin.Totals
	for _, t := range s.pipelines {
		sum.ReadRecords += t.ReadRecords
		sum.ReadBytes += t.ReadBytes
		sum.DeliveredRecords += t.DeliveredRecords
		sum.DeliveredBytes += t.DeliveredBytes
		sum.DroppedRecords += t.DroppedRecords
		sum.QuarantinedRecords += t.QuarantinedRecords
	}
	return sum
}
