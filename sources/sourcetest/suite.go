package sourcetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/barnabas-agent/barnabas/core/record"
)

// Harness is an implementation under test with inputs that tests can write to.
type Harness interface {
	// New makes a source as a start of the agent does, from what is durable.
	New(t testing.TB, saved []record.Checkpoint) Source
	// Feed adds lines to an input, numbered from 0, each to become one record.
	// It may be called before New and while the source runs.
	Feed(t testing.TB, input int, lines ...string)
}

// Run checks that the implementation keeps the contract of a source. start makes
// a harness with inputs of its own.
func Run(t *testing.T, start func(t *testing.T) Harness) {
	for name, check := range map[string]func(*testing.T, Harness){
		"order within each input":              checkOrder,
		"resume from what was delivered":       checkResume,
		"nothing delivered reads all again":    checkReplay,
		"back pressure":                        checkBackPressure,
		"soft stop while the lane is blocked":  checkStopBlocked,
		"delivered positions only grow":        checkForward,
		"unchanged positions are not repeated": checkQuietCheckpoint,
		"several lanes":                        checkLanes,
		"a source that waits holds no batch":   checkIdle,
	} {
		t.Run(name, func(t *testing.T) { check(t, start(t)) })
	}
}

// numbered returns lines from to to-1 of an input.
func numbered(input, from, to int) []string {
	var lines []string
	for n := from; n < to; n++ {
		lines = append(lines, fmt.Sprintf("%d/%05d", input, n))
	}
	return lines
}

// ofInput returns the values of one input among all.
func ofInput(input int, values []string) []string {
	var own []string
	for _, v := range values {
		if strings.HasPrefix(v, fmt.Sprintf("%d/", input)) {
			own = append(own, v)
		}
	}
	return own
}

func expect(t *testing.T, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("record %d is %q, expected %q", i, got[i], want[i])
			return
		}
	}
	t.Errorf("%d records, expected %d", len(got), len(want))
}

func checkOrder(t *testing.T, h Harness) {
	h.Feed(t, 0, numbered(0, 0, 5000)...)
	h.Feed(t, 1, numbered(1, 0, 300)...)
	lane := NewLane(t)
	Start(t, h.New(t, nil), lane)
	lane.Wait(5300)
	h.Feed(t, 2, numbered(2, 0, 10)...)
	for n := range 50 {
		h.Feed(t, 1, numbered(1, 300+n, 301+n)...)
	}
	lane.Wait(5360)
	expect(t, ofInput(0, lane.Values()), numbered(0, 0, 5000))
	expect(t, ofInput(1, lane.Values()), numbered(1, 0, 350))
	expect(t, ofInput(2, lane.Values()), numbered(2, 0, 10))
}

func checkResume(t *testing.T, h Harness) {
	positions := Positions{}
	h.Feed(t, 0, numbered(0, 0, 1000)...)
	delivered := 0
	for _, portion := range []int{1, 399, 0, 250} {
		lane := NewLane(t)
		s := h.New(t, positions.Saved())
		running := Start(t, s, lane)
		lane.Wait(1000 - delivered)
		expect(t, lane.Values(), numbered(0, delivered, 1000))
		lane.Deliver(portion)
		positions.Commit(s)
		lane.Deliver(100) // not durable: read again after the crash
		running.Stop()
		delivered += portion
	}
}

func checkReplay(t *testing.T, h Harness) {
	h.Feed(t, 0, numbered(0, 0, 10)...)
	positions := Positions{}
	for range 2 {
		lane := NewLane(t)
		s := h.New(t, positions.Saved())
		running := Start(t, s, lane)
		lane.Wait(10)
		expect(t, lane.Values(), numbered(0, 0, 10))
		positions.Commit(s)
		running.Stop()
	}
}

func checkBackPressure(t *testing.T, h Harness) {
	lane := NewLane(t)
	lane.Limit(1)
	Start(t, h.New(t, nil), lane)
	const total = 3 * record.MaxRows
	h.Feed(t, 0, numbered(0, 0, total)...)
	most := 0
	for taken := 0; taken < total; {
		taken = len(lane.Wait(taken + 1))
		most = max(most, lane.Undelivered())
		lane.Deliver(record.MaxRows)
	}
	if most > record.MaxRows {
		t.Errorf("%d records were undelivered, one batch was allowed", most)
	}
	expect(t, lane.Values(), numbered(0, 0, total))
}

func checkStopBlocked(t *testing.T, h Harness) {
	positions := Positions{}
	h.Feed(t, 0, numbered(0, 0, 10)...)
	lane := NewLane(t)
	lane.Limit(0)
	s := h.New(t, nil)
	Start(t, s, lane).Stop()
	positions.Commit(s)
	lane = NewLane(t)
	Start(t, h.New(t, positions.Saved()), lane)
	lane.Wait(10)
	expect(t, lane.Values(), numbered(0, 0, 10))
}

func checkForward(t *testing.T, h Harness) {
	positions := Positions{}
	h.Feed(t, 0, numbered(0, 0, 10)...)
	lane := NewLane(t)
	s := h.New(t, nil)
	running := Start(t, s, lane)
	records := lane.Wait(10)
	records[0].Stream.Delivered(records[6].End)
	records[0].Stream.Delivered(records[2].End)
	running.Stop()
	positions.Commit(s) // the last one is taken after Run
	lane = NewLane(t)
	Start(t, h.New(t, positions.Saved()), lane)
	lane.Wait(3)
	expect(t, lane.Values(), numbered(0, 7, 10))
}

func checkQuietCheckpoint(t *testing.T, h Harness) {
	h.Feed(t, 0, numbered(0, 0, 10)...)
	lane := NewLane(t)
	s := h.New(t, nil)
	Start(t, s, lane)
	lane.Wait(10)
	lane.Deliver(10)
	Eventually(t, func() bool { return len(s.Checkpoint(nil)) == 0 }, "an empty checkpoint while nothing changes")
	h.Feed(t, 0, numbered(0, 10, 11)...)
	lane.Wait(11)
	lane.Deliver(1)
	if len(s.Checkpoint(nil)) == 0 {
		t.Error("a delivered record changed no position")
	}
}

func checkLanes(t *testing.T, h Harness) {
	first, second := NewLane(t), NewLane(t)
	Start(t, h.New(t, nil), first, second)
	for n := range 200 {
		for input := range 4 {
			h.Feed(t, input, numbered(input, n, n+1)...)
		}
	}
	Eventually(t, func() bool { return len(first.Records())+len(second.Records()) == 800 }, "800 records")
	for input := range 4 {
		a, b := ofInput(input, first.Values()), ofInput(input, second.Values())
		if len(a) > 0 && len(b) > 0 {
			t.Errorf("input %d is spread over lanes: %d and %d records", input, len(a), len(b))
		}
		expect(t, append(a, b...), numbered(input, 0, 200))
	}
}

// What a batch reserves is missing to others, so a source that waits for data has
// given its batches back, and takes none before it has something to read.
func checkIdle(t *testing.T, h Harness) {
	h.Feed(t, 0, numbered(0, 0, 10)...)
	first, second := NewLane(t), NewLane(t)
	Start(t, h.New(t, nil), first, second)
	for read := 10; read <= 30; read += 10 {
		Eventually(t, func() bool { return len(first.Records())+len(second.Records()) == read }, "%d records", read)
		Eventually(t, func() bool { return first.Open()+second.Open() == 0 }, "a source that holds no batch")
		h.Feed(t, 0, numbered(0, read, read+10)...)
	}
}
