package producer

import (
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"pgregory.net/rapid"
)

// told is a report with the row that it is about, which the partition can't see.
type told struct {
	report
	row uint32
}

// reportsOf makes the reports of what was handed over: in order, with failures
// and offsets as a broker gives them.
func reportsOf(t *rapid.T, chunks []*chunk, offset int64) []told {
	var all []told
	failing := rapid.Bool().Draw(t, "some fail")
	for _, c := range chunks {
		for n, row := range c.rows {
			r := told{row: row, report: report{offset: -1001}}
			if failing && rapid.IntRange(0, 4).Draw(t, "fails") == 0 {
				r.code = rapid.SampledFrom([]kafka.ErrorCode{kafka.ErrMsgTimedOut, kafka.ErrInvalidRecord, kafka.ErrPurgeQueue}).Draw(t, "code")
			} else {
				r.offset = offset
				offset++
			}
			if n == len(c.rows)-1 {
				r.marker = c
			}
			all = append(all, r)
		}
	}
	return all
}

// disturb loses, repeats and exchanges reports.
func disturb(t *rapid.T, reports []told) []told {
	for range rapid.IntRange(0, 4).Draw(t, "disturbances") {
		if len(reports) == 0 {
			break
		}
		i := rapid.IntRange(0, len(reports)-1).Draw(t, "i")
		j := rapid.IntRange(0, len(reports)-1).Draw(t, "j")
		switch rapid.IntRange(0, 2).Draw(t, "how") {
		case 0:
			reports = append(reports[:i:i], reports[i+1:]...)
		case 1:
			reports = append(append(append([]told(nil), reports[:j]...), reports[i]), reports[j:]...)
		default:
			reports = append([]told(nil), reports...)
			reports[i], reports[j] = reports[j], reports[i]
		}
	}
	return reports
}

// However reports are lost, repeated, exchanged or failed: no row is delivered
// that was not reported as a success, each at most once, and every other is produced again.
func TestAccountingNeverLosesARow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPartition(&topic{name: "t"}, 0)
		succeeded, delivered := map[uint32]bool{}, map[uint32]bool{}
		row, offset := uint32(0), int64(0)
		for range rapid.IntRange(1, 3).Draw(t, "rounds") {
			var produced []*chunk
			for range rapid.IntRange(0, 6).Draw(t, "chunks") {
				c := &chunk{partition: p}
				for range rapid.IntRange(1, 4).Draw(t, "rows") {
					c.rows = append(c.rows, row)
					row++
				}
				if p.enqueue(c) {
					produced = append(produced, c)
				}
			}
			reports := reportsOf(t, produced, offset)
			offset += int64(len(reports))
			disturbed := rapid.Bool().Draw(t, "disturbed")
			if disturbed {
				reports = disturb(t, reports)
			}
			reports = reports[:rapid.IntRange(0, len(reports)).Draw(t, "arrive")]
			broken := false
			for _, r := range reports {
				if r.code == kafka.ErrNoError {
					succeeded[r.row] = true
				}
				c, then := p.take(r.report, true, false)
				broken = broken || then != goOn
				if c == nil {
					continue
				}
				for _, row := range c.rows {
					if !succeeded[row] {
						t.Fatalf("row %d is delivered without a success", row)
					}
					if delivered[row] {
						t.Fatalf("row %d is delivered twice", row)
					}
					delivered[row] = true
				}
			}
			if broken != p.broken {
				t.Fatalf("the partition is broken: %v, and said so: %v", p.broken, broken)
			}
			if broken || rapid.Bool().Draw(t, "client replaced") {
				p.abandon()
				again := p.takeSuspects()
				rest, _ := p.restart()
				again = append(again, rest...)
				seen, last := map[uint32]bool{}, -1
				for _, c := range again {
					for _, row := range c.rows {
						if delivered[row] || seen[row] || int(row) <= last {
							t.Fatalf("row %d is produced again after %d (delivered: %v)", row, last, delivered[row])
						}
						seen[row], last = true, int(row)
					}
				}
				for r := range row {
					if !seen[r] && !delivered[r] {
						t.Fatalf("row %d is lost", r)
					}
				}
				for _, c := range again {
					c.alone = false
					for _, r := range c.rows {
						delete(succeeded, r)
					}
					if !p.enqueue(c) {
						t.Fatal("a partition that was restarted is broken")
					}
				}
				for _, r := range reportsOf(t, again, offset) { // all of them, so that the next round begins anew
					offset++
					r.code, r.offset = kafka.ErrNoError, offset
					if c, _ := p.take(r.report, true, false); c != nil {
						for _, row := range c.rows {
							delivered[row] = true
						}
					}
				}
			}
			if !disturbed && !p.broken && p.outstanding == 0 && len(p.chunks) > 0 {
				t.Fatal("nothing is outstanding, but chunks are unresolved in a partition that goes on")
			}
		}
	})
}

func TestAccountingWithoutOrder(t *testing.T) {
	p := newPartition(&topic{name: "t"}, 0)
	a, b, c := &chunk{rows: []uint32{0}}, &chunk{rows: []uint32{1}}, &chunk{rows: []uint32{2}}
	for _, one := range []*chunk{a, b, c} {
		p.enqueue(one)
	}
	for _, r := range []report{{marker: c, offset: 0}, {marker: a, offset: 1}, {marker: b, code: kafka.ErrMsgTimedOut, offset: -1001}} {
		got, then := p.take(r, false, false)
		if r.code == kafka.ErrNoError && (got != r.marker || then != goOn) {
			t.Errorf("row %d: %v, %d", r.marker.rows[0], got, then)
		}
		if r.code != kafka.ErrNoError && (got != nil || then != recoverPartition) {
			t.Errorf("row %d: %v, %d", r.marker.rows[0], got, then)
		}
	}
	if again, _ := p.restart(); len(again) != 1 || again[0] != b {
		t.Errorf("to be produced again: %v", again)
	}
}

func TestSuspectsTakeAllBeforeThemAlong(t *testing.T) {
	p := newPartition(&topic{name: "t"}, 0)
	var chunks []*chunk
	for i := range uint32(4) {
		chunks = append(chunks, &chunk{rows: []uint32{i}})
		p.enqueue(chunks[i])
	}
	for i, code := range []kafka.ErrorCode{kafka.ErrMsgTimedOut, kafka.ErrInvalidRecord, kafka.ErrInvalidRecord, kafka.ErrPurgeQueue} {
		p.take(report{marker: chunks[i], code: code, offset: -1001}, true, false)
	}
	suspects := p.takeSuspects()
	if len(suspects) != 3 || suspects[0] != chunks[0] || suspects[2] != chunks[2] {
		t.Errorf("%d chunks go alone", len(suspects))
	}
	late := &chunk{rows: []uint32{9}}
	if p.enqueue(late) {
		t.Error("a record passes the suspects")
	}
	p.suspectsResolved()
	again, _ := p.restart()
	if len(again) != 2 || again[0] != chunks[3] || again[1] != late {
		t.Errorf("%d chunks follow the suspects", len(again))
	}
}

func TestAPartitionWaitsLongerFromTimeToTime(t *testing.T) {
	p := newPartition(&topic{name: "t"}, 0)
	now := time.Now()
	c := &chunk{rows: []uint32{0}}
	p.enqueue(c)
	p.setReason(kafka.ErrMsgTimedOut, "timed out")
	if p.take(report{marker: c, code: kafka.ErrMsgTimedOut}, true, false); p.due(now) {
		t.Error("tried again at once after an outage")
	}
	var last time.Duration
	for range 8 {
		p.due(now)
		wait := p.resumeAt.Sub(now)
		if wait < last || wait > retryMost || wait < retryFirst {
			t.Errorf("waits %v after %v", wait, last)
		}
		last = wait
		p.restart()
		p.enqueue(c)
		p.setReason(kafka.ErrMsgTimedOut, "timed out")
		p.take(report{marker: c, code: kafka.ErrMsgTimedOut}, true, false)
	}
	if last != retryMost {
		t.Errorf("waits %v in the end", last)
	}
	p.restart()
	p.enqueue(c)
	if p.take(report{marker: c}, true, false); p.attempts != 0 {
		t.Error("a success does not end the row of failures")
	}
}

func TestCompacted(t *testing.T) {
	for policy, want := range map[string]bool{"": false, "delete": false, "compact": true, "compact,delete": true, "delete, compact": true, "compacted": false} {
		if compacted(policy) != want {
			t.Errorf("%q", policy)
		}
	}
}
