package pluginhost

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// curious is an interceptor that writes what it is told of records to a file.
type curious struct {
	File    string `json:"file,omitempty"`
	CrashOn int64  `json:"crash_on,omitempty"` // the offset whose news it does not survive
	Stuck   string `json:"stuck,omitempty"`    // while this file exists it takes nothing
}

func (*curious) OnSend(context.Context, *sdk.Batch) error { return nil }

func (c *curious) OnAcknowledgement(all []sdk.Acknowledgement) {
	for _, a := range all {
		for _, err := os.Stat(c.Stuck); c.Stuck != "" && err == nil; _, err = os.Stat(c.Stuck) {
			<-time.After(time.Millisecond)
		}
		if c.CrashOn > 0 && a.FirstOffset == c.CrashOn {
			panic("unbearable news")
		}
		c.write(fmt.Sprintf("%s-%d@%d+%d %s", a.Topic, a.Partition, a.FirstOffset, a.Count, a.Error))
	}
}

func (c *curious) OnAcknowledgementLoss(records uint64) { c.write(fmt.Sprintf("lost %d", records)) }

func (c *curious) write(line string) {
	file, err := os.OpenFile(c.File, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	fmt.Fprintln(file, strings.TrimSpace(line))
}

// told waits until the plugin's file ends with a line, and returns the lines.
func told(t *testing.T, file, last string) []string {
	t.Helper()
	var lines []string
	waitFor(t, "the plugin is told "+last, func() bool {
		text, _ := os.ReadFile(file)
		lines = strings.Split(strings.TrimSpace(string(text)), "\n")
		return lines[len(lines)-1] == last
	})
	return lines
}

func TestAPluginIsToldWhatBecameOfRecords(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(f.dir, "told")
	s := f.start(t, f.spec(Interceptor, "curious", &curious{File: file}))
	if !s.WantsAcknowledgements() {
		t.Fatal("it does not want to know")
	}
	for n := range int64(10) {
		s.Delivered("t", 0, 10+5*n, 5)
		s.Delivered("t", 1, 5*n, 5)
	}
	s.Refused("t", -1, "INVALID\x1b[2J")
	got := strings.Join(told(t, file, `t--1@-1+1 INVALID\x1b[2J`), "\n")
	// What is told in several messages is joined as far as it waited together.
	for partition, first := range map[int]int64{0: 10, 1: 0} {
		var count int
		for line := range strings.Lines(got) {
			var at int64
			var n int
			if _, err := fmt.Sscanf(line, fmt.Sprintf("t-%d@%%d+%%d", partition), &at, &n); err == nil && at == first+int64(count) {
				count += n
			}
		}
		if count != 50 {
			t.Errorf("partition %d: %d consecutive offsets, want 50:\n%s", partition, count, got)
		}
	}
}

// What a process took is not told again, also where it dies of it; what comes
// later is told to the next one.
func TestAcknowledgementsAreToldAtMostOnce(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(f.dir, "told")
	s := f.start(t, f.spec(Interceptor, "curious", &curious{File: file, CrashOn: 7}))
	s.Delivered("t", 0, 1, 1)
	told(t, file, "t-0@1+1")
	s.Delivered("t", 0, 7, 1)
	waitFor(t, "a restart", func() bool { return s.Status().Restarts == 1 && s.Status().State == Ready })
	s.Delivered("t", 0, 9, 1)
	if got := told(t, file, "t-0@9+1"); len(got) != 2 {
		t.Errorf("told %q", got)
	}
}

func TestTheLastAcknowledgementsAreToldBeforeTheEnd(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(f.dir, "told")
	s := f.NewStage(f.spec(Interceptor, "curious", &curious{File: file}))
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Delivered("t", 0, 1, 1)
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "t-0@1+1\n" {
		t.Errorf("told %q, %v", text, err)
	}
}

// A version that wants to know for the first time finds nobody who has collected it.
func TestReloadRefusesAVersionThatBeginsToWantAcknowledgements(t *testing.T) {
	f := newFixture(t)
	plugin := f.script(t, "barnabas-interceptor-counting")
	s := f.start(t, at(f.spec(Interceptor, "counting", struct{}{}), plugin))
	f.replace(t, plugin, f.runs("barnabas-interceptor-curious"))
	pid := s.Status().PID
	if err := s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "acknowledgements") {
		t.Errorf("reloaded: %v", err)
	}
	if s.Status().PID != pid || s.Status().State != Ready {
		t.Errorf("the process that ran does not run on: %+v", s.Status())
	}
}

// Nothing waits for a plugin that takes nothing, and it learns how much it missed.
func TestAcknowledgementsThatAreNotTakenAreDroppedAndCounted(t *testing.T) {
	f := newFixture(t)
	file, stuck := filepath.Join(f.dir, "told"), filepath.Join(f.dir, "stuck")
	if err := os.WriteFile(stuck, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := f.start(t, f.spec(Interceptor, "curious", &curious{File: file, Stuck: stuck}))
	var sent, lost float64
	for lost == 0 {
		for range 1000 {
			s.Delivered(strings.Repeat("t", 200), int32(sent), 0, 3) // each its own partition: nothing can be joined
			sent++
		}
		lost = value(t, f, "barnabas_acknowledgements_dropped_total", nil)
	}
	if err := os.Remove(stuck); err != nil {
		t.Fatal(err)
	}
	var missed int
	waitFor(t, "news of what was lost", func() bool {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			if _, err := fmt.Sscanf(line, "lost %d", &missed); err == nil {
				return true
			}
		}
		return false
	})
	if missed != int(lost) {
		t.Errorf("it was told that it missed %d, %v were dropped", missed, lost)
	}
}

func TestAcknowledgementsAreJoinedOnlyWhereTheyFollow(t *testing.T) {
	q := newAcknowledgements()
	for _, a := range []acknowledgement{
		{topic: "t", first: 1, count: 2}, {topic: "t", partition: 1, first: 3, count: 1},
		{topic: "t", first: 3, count: 1}, {topic: "t", first: 5, count: 1}, {topic: "u", first: 6, count: 1},
		{topic: "t", first: -1, count: 1, reason: "A"}, {topic: "t", first: -1, count: 1, reason: "A"}, {topic: "t", first: -1, count: 1, reason: "B"},
		{topic: "t", first: -1, count: 1},
	} {
		q.add(a)
	}
	var got []string
	for _, r := range q.take().Ranges {
		got = append(got, fmt.Sprintf("%s-%d@%d+%d%s", r.Topic, r.Partition, r.FirstOffset, r.Count, r.Error))
	}
	if want := "t-0@1+3 t-1@3+1 t-0@5+1 u-0@6+1 t-0@-1+2A t-0@-1+1B t-0@-1+1"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", got, want)
	}
	if q.take() != nil {
		t.Error("something is left")
	}
}

// waitFor waits until condition holds.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("it never came to: %s", what)
		}
	}
}

// value sums a metric of the fixture's host over the children that have the labels.
func value(t *testing.T, f *fixture, name string, labels map[string]string) (sum float64) {
	t.Helper()
	families, err := f.options.Metrics.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			fits := 0
			for _, pair := range m.GetLabel() {
				if labels[pair.GetName()] == pair.GetValue() {
					fits++
				}
			}
			if fits == len(labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
