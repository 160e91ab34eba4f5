package pipeline

import (
	"runtime"
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
				if inFlight == 0 && (len(tracker.newest) != 0 || tracker.batches.Len() != 0) {
					t.Fatal("what is resolved is kept")
				}
			},
		})
	})
}

// One record that waits, for its partition's leader or for a disk, must not
// make the agent keep what passes it: that may be days of traffic.
func TestWhatPassesAWaitingRecordIsNotKept(t *testing.T) {
	const batches, block = 2000, 64 << 10
	tracker := newTracker()
	file := &stream{t: t}
	submit := func(n int) *inflight {
		b := &record.Batch{Topics: []string{"t"}}
		b.Value.AddBlock(make([]byte, block))
		b.Append(file, record.Span{}, 0, int64(n), int64(n)+1)
		f := &inflight{batch: b, block: b.Value.Blocks[0]}
		tracker.add(f, time.Unix(int64(n), 0))
		return f
	}
	waiting := submit(0)
	before := heap()
	for n := range batches {
		tracker.resolve(submit(n+1), []uint32{0})
	}
	if kept := heap() - before; kept > batches*block/10 {
		t.Errorf("%d bytes are kept behind a record that waits", kept)
	}
	if records, age := tracker.state(time.Unix(5, 0)); records != 1 || age != 5*time.Second || file.delivered != 0 {
		t.Errorf("%d records in flight, the oldest for %v, position %d", records, age, file.delivered)
	}
	tracker.resolve(waiting, []uint32{0})
	if file.delivered != batches+1 {
		t.Errorf("position %d", file.delivered)
	}
}

// heap returns the bytes in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
