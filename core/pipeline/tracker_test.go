package pipeline

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/barnabas-agent/barnabas/core/record"
)

// stream is a source's stream that remembers what it is told.
type stream struct {
	t         interface{ Fatalf(string, ...any) }
	delivered int64
	calls     int
}

func (*stream) Origin() record.Origin { return record.Origin{Kind: "file", File: "test"} }

func (s *stream) Delivered(position int64) {
	if position <= s.delivered {
		s.t.Fatalf("position %d after %d", position, s.delivered)
	}
	s.delivered = position
	s.calls++
}

// modelRow is one record of a stream in the model.
type modelRow struct {
	end      int64
	resolved bool
}

// However records of several streams are spread over batches and in whatever
// order they are resolved, also twice: a position is the end of the longest
// resolved run from the stream's beginning, and nothing else.
func TestTrackerAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tracker := newTracker()
		streams := make([]*stream, rapid.IntRange(1, 4).Draw(t, "streams"))
		model := make([][]*modelRow, len(streams))
		for i := range streams {
			streams[i] = &stream{t: t}
		}
		type open struct {
			batch *inflight
			rows  []*modelRow
		}
		var batches []*open
		now := time.Unix(0, 0)
		inFlight := 0
		t.Repeat(map[string]func(*rapid.T){
			"read": func(t *rapid.T) {
				b := &record.Batch{Topics: []string{"t"}}
				o := &open{batch: &inflight{batch: b}}
				for range rapid.IntRange(1, 4).Draw(t, "runs") {
					i := rapid.IntRange(0, len(streams)-1).Draw(t, "stream")
					for range rapid.IntRange(1, 70).Draw(t, "records") {
						var begin int64
						if n := len(model[i]); n > 0 {
							begin = model[i][n-1].end
						}
						row := &modelRow{end: begin + rapid.Int64Range(1, 5).Draw(t, "bytes")}
						model[i] = append(model[i], row)
						o.rows = append(o.rows, row)
						b.Append(streams[i], record.Span{}, 0, begin, row.end)
					}
				}
				now = now.Add(time.Second)
				tracker.add(o.batch, now)
				batches = append(batches, o)
				inFlight += len(o.rows)
			},
			"resolve": func(t *rapid.T) {
				if len(batches) == 0 {
					t.Skip("nothing is in flight")
				}
				o := batches[rapid.IntRange(0, len(batches)-1).Draw(t, "batch")]
				some := rapid.SliceOfN(rapid.Uint32Range(0, uint32(len(o.rows)-1)), 1, 40)
				rows := some.Draw(t, "rows")
				if rapid.Bool().Draw(t, "all") {
					rows = rows[:0]
					for i := range o.rows {
						rows = append(rows, uint32(i))
					}
				}
				for _, row := range rows {
					if !o.rows[row].resolved {
						inFlight--
					}
					o.rows[row].resolved = true
				}
				tracker.resolve(o.batch, rows)
				if o.batch.unresolved == 0 {
					o.batch.batch.Reset() // its memory serves another batch now
					o.batch.batch = &record.Batch{}
				}
			},
			"": func(t *rapid.T) {
				for i, s := range streams {
					var want int64
					for _, row := range model[i] {
						if !row.resolved {
							break
						}
						want = row.end
					}
					if s.delivered != want {
						t.Fatalf("stream %d is at %d, want %d", i, s.delivered, want)
					}
				}
				records, oldest := tracker.state(now)
				if records != inFlight {
					t.Fatalf("%d records in flight, want %d", records, inFlight)
				}
				var wantAge time.Duration
				for _, o := range batches {
					if o.batch.unresolved > 0 {
						wantAge = now.Sub(o.batch.since)
						break
					}
				}
				if oldest != wantAge {
					t.Fatalf("the oldest is %v, want %v", oldest, wantAge)
				}
				if inFlight == 0 && (len(tracker.streams) != 0 || len(tracker.oldest) != 0) {
					t.Fatal("what is resolved is kept")
				}
			},
		})
	})
}
