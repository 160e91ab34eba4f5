package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	"pgregory.net/rapid"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
)

// Whatever becomes of the records, in whatever order: every position reaches the
// end, what was charged is given back to the byte, and no memory is kept.
func TestEverythingIsResolvedAndPaidBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lanes := rapid.IntRange(1, 3).Draw(t, "lanes")
		batches := make([][]int, lanes)
		for i := range batches {
			batches[i] = rapid.SliceOfN(rapid.IntRange(0, 60), 0, 8).Draw(t, "batches")
		}
		f := newFeed(t, rapid.IntRange(0, 300).Draw(t, "value"), batches...)
		// The fates are drawn beforehand: the pipeline's goroutines share no generator.
		fates := rapid.SliceOfN(rapid.IntRange(0, 9), 1, 40).Draw(t, "fates")
		pieces := rapid.SliceOfN(rapid.IntRange(1, 20), 1, 10).Draw(t, "pieces")
		policy := rapid.SampledFrom([]FailurePolicy{QuarantineRecord, DropRecord}).Draw(t, "policy")
		inline := rapid.Bool().Draw(t, "delivered within Send")
		s := &stage{change: func(_ int, b *record.Batch) {
			live := b.Live[:0]
			for _, row := range b.Live {
				switch fates[(int(b.ID)+int(row))%len(fates)] {
				case 0:
					b.Dropped = append(b.Dropped, row)
					continue
				case 1:
					b.Failures = append(b.Failures, record.Failure{Row: row, Stage: "test", Code: "failed"})
					continue
				case 2:
					block := b.Value.AddBlock(make([]byte, 1000))
					b.Value.Set(b.Rows(), int(row), record.Span{Block: block, Length: 1000})
				case 3:
					block := b.Key.AddBlock([]byte("a key"))
					b.Key.Set(b.Rows(), int(row), record.Span{Block: block, Length: 5})
				case 4:
					b.SetHeaders(int(row), []record.Header{{Name: "a", Value: []byte("header")}})
				case 5:
					b.SetTopic(int(row), "another")
				}
				live = append(live, row)
			}
			b.Live = live
		}}
		var delivering sync.WaitGroup
		resolve := func(s sent) {
			rows := slices.Clone(s.rows)
			for n := 0; len(rows) > 0; n++ {
				k := min(len(rows), pieces[n%len(pieces)])
				if n%3 == 2 {
					s.to.Refused(record.Failure{Row: rows[0], Stage: record.StageProducer, Code: "refused"})
					rows = rows[1:]
					continue
				}
				s.to.Delivered(rows[:k])
				rows = rows[k:]
			}
		}
		producer := &fakeProducer{deliver: func(_ context.Context, s sent) error {
			if inline {
				resolve(s)
			} else {
				delivering.Go(func() { resolve(s) })
			}
			return nil
		}}
		p := newTestPipeline(policy, f, producer, &store{}, s)
		if err := p.Run(context.Background(), context.Background()); err != nil {
			t.Fatalf("the pipeline ended with %v", err)
		}
		delivering.Wait()
		for lane, s := range f.streams {
			if got := s.position(); got != f.records(lane) {
				t.Fatalf("lane %d is at %d of %d", lane, got, f.records(lane))
			}
		}
		if used := producer.used.Load(); used != 0 {
			t.Fatalf("%d bytes are charged for nothing", used)
		}
		if n := p.InFlight(); n != 0 || p.OldestUnacknowledged() != 0 {
			t.Fatalf("%d records are in flight", n)
		}
		for _, l := range p.lanes {
			if len(l.open) != 0 || len(l.passing) != 0 {
				t.Fatalf("%d batches open, %d passing", len(l.open), len(l.passing))
			}
		}
	})
}

func TestLanesKeepTheirOrder(t *testing.T) {
	sizes := slices.Repeat([]int{7, 1, 30}, 50)
	f := newFeed(t, 10, sizes, sizes)
	var mu sync.Mutex
	got := map[string][]int64{}
	producer := &fakeProducer{deliver: func(_ context.Context, s sent) error {
		mu.Lock()
		for _, row := range s.rows {
			file := s.batch.RunOf(int(row)).Stream.Origin().File
			got[file] = append(got[file], s.batch.Offsets[row])
		}
		mu.Unlock()
		s.to.Delivered(s.rows)
		return nil
	}}
	pass := &stage{change: func(int, *record.Batch) {}}
	if err := newTestPipeline(QuarantineRecord, f, producer, &store{}, pass, pass).Run(context.Background(), context.Background()); err != nil {
		t.Fatal(err)
	}
	for lane := range f.streams {
		offsets := got[fmt.Sprint(lane)]
		if int64(len(offsets)) != f.records(lane) || !slices.IsSorted(offsets) {
			t.Errorf("lane %d: %d records, in order: %v", lane, len(offsets), slices.IsSorted(offsets))
		}
	}
}

func TestSourcesWaitForCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, 10, []int{5, 5, 5})
		credit := make(chan struct{}, 10)
		producer := &fakeProducer{deliver: deliverAll, reserve: func(ctx context.Context, _ int64) error {
			select {
			case <-credit:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		p := newTestPipeline(QuarantineRecord, f, producer, &store{})
		soft, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(soft, t.Context()) }()
		for n := range int64(3) {
			synctest.Wait()
			if got := f.streams[0].position(); got != 5*n {
				t.Errorf("with credit for %d batches, the position is %d", n, got)
			}
			if n < 2 {
				credit <- struct{}{}
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("the pipeline ended with %v", err)
		}
		if producer.used.Load() != 0 {
			t.Errorf("%d bytes are charged for nothing", producer.used.Load())
		}
	})
}

func TestABatchThatIsNotSubmittedIsPaidBack(t *testing.T) {
	producer := &fakeProducer{deliver: deliverAll}
	p := newTestPipeline(QuarantineRecord, newFeed(t, 1, nil), producer, &store{})
	l := p.lanes[0]
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	from := &tail{t: t}
	for name, end := range map[string]func(*record.Batch) error{
		"discarded":                   func(b *record.Batch) error { l.Discard(b); return nil },
		"empty":                       func(b *record.Batch) error { return l.Submit(t.Context(), b) },
		"submitted when all is ended": func(b *record.Batch) error { b.Append(from, record.Span{}, 0, 0, 1); return l.Submit(ended, b) },
	} {
		b, err := l.NewBatch(t.Context(), 5000)
		if err != nil {
			t.Fatal(err)
		}
		if room := cap(b.Value.Blocks[0]); room < 5000 || producer.used.Load() < int64(room) {
			t.Errorf("%s: %d bytes of room, %d charged", name, room, producer.used.Load())
		}
		if err := end(b); (err != nil) != strings.HasPrefix(name, "submitted") {
			t.Errorf("%s: %v", name, err)
		}
		if producer.used.Load() != 0 || p.InFlight() != 0 || from.position() != 0 {
			t.Errorf("%s: %d bytes charged, %d in flight, position %d", name, producer.used.Load(), p.InFlight(), from.position())
		}
	}
	if _, err := l.NewBatch(t.Context(), 2<<20); err == nil || producer.used.Load() != 0 {
		t.Errorf("a block larger than the largest: %v, %d bytes charged", err, producer.used.Load())
	}
}

// What plugins add is foreseen once it was seen, so that it is reserved and not taken.
func TestGrowthIsForeseen(t *testing.T) {
	grow := &stage{change: func(_ int, b *record.Batch) {
		for _, row := range b.Live {
			block := b.Value.AddBlock(make([]byte, 400))
			b.Value.Set(b.Rows(), int(row), record.Span{Block: block, Length: 400})
		}
	}}
	f := newFeed(t, 100, slices.Repeat([]int{50}, 40))
	p := newTestPipeline(QuarantineRecord, f, &fakeProducer{deliver: deliverAll}, &store{}, grow)
	if err := p.Run(context.Background(), context.Background()); err != nil {
		t.Fatal(err)
	}
	// Each record is sent as 400 bytes, which the plugin's block costs once more.
	if g := p.lanes[0].growth; g < 7 || g > 9 {
		t.Errorf("records of 100 bytes that become 400 and their block: growth %f", g)
	}
}

// Headers cost as much as values: the agent's bytes, and librdkafka's copy.
func TestHeadersAreCharged(t *testing.T) {
	const rows, size = 20, 10_000
	label := &stage{change: func(_ int, b *record.Batch) {
		for _, row := range b.Live {
			b.SetHeaders(int(row), []record.Header{{Name: "h", Value: make([]byte, size)}})
		}
	}}
	f := newFeed(t, 1, []int{rows})
	producer := &fakeProducer{deliver: deliverAll}
	p := newTestPipeline(QuarantineRecord, f, producer, &store{}, label)
	if err := p.Run(context.Background(), context.Background()); err != nil {
		t.Fatal(err)
	}
	if most := producer.most.Load(); most < 2*rows*size {
		t.Errorf("%d bytes are charged at most for %d headers of %d", most, rows, size)
	}
	if used := producer.used.Load(); used != 0 {
		t.Errorf("%d bytes are still charged", used)
	}
}

// A batch of short records costs many times its bytes; that is reserved from the second batch on.
func TestShortRecordsAreForeseen(t *testing.T) {
	p := newTestPipeline(QuarantineRecord, newFeed(t, 10, []int{1000}), &fakeProducer{deliver: deliverAll}, &store{})
	if err := p.Run(context.Background(), context.Background()); err != nil {
		t.Fatal(err)
	}
	producer := p.producer.(*fakeProducer)
	b, err := p.lanes[0].NewBatch(t.Context(), 10000)
	if err != nil {
		t.Fatal(err)
	}
	if reserved := producer.used.Load(); reserved < 1000*(RecordOverhead+10) {
		t.Errorf("%d bytes are reserved for 1000 records", reserved)
	}
	p.lanes[0].Discard(b)
}

func TestTheQuarantineIsTriedUntilItWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, 10, []int{10})
		quarantine := &store{failures: 6}
		producer := &fakeProducer{deliver: func(_ context.Context, s sent) error {
			s.to.Refused(record.Failure{Row: 4, Stage: record.StageProducer, Code: "INVALID_RECORD"})
			s.to.Delivered([]uint32{0, 1, 2, 3, 5, 6, 7, 8, 9})
			return nil
		}}
		p := newTestPipeline(QuarantineRecord, f, producer, quarantine)
		done := make(chan error)
		start := time.Now()
		go func() { done <- p.Run(t.Context(), t.Context()) }()
		synctest.Wait()
		if got := f.streams[0].position(); got != 4 {
			t.Errorf("position %d passes a record that is nowhere", got)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 3*time.Second || took > time.Minute {
			t.Errorf("six failures were tried again within %v", took)
		}
		if quarantine.count("INVALID_RECORD") != 1 || f.streams[0].position() != 10 {
			t.Errorf("quarantined %v, position %d", quarantine.codes, f.streams[0].position())
		}
	})
}

// What goes on beside a record that is nowhere is delivered again after a crash,
// since no position passes it. So nothing goes on until the disk takes it.
func TestNothingPassesAQuarantineThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, 10, []int{4, 4, 4})
		quarantine := &store{failures: 1 << 20}
		var delivered atomic.Int64
		producer := &fakeProducer{deliver: func(_ context.Context, s sent) error {
			if s.batch.Offsets[s.rows[0]] == 0 {
				s.to.Refused(record.Failure{Row: 0, Stage: record.StageProducer, Code: "INVALID_RECORD"})
				s.rows = s.rows[1:]
				<-time.After(time.Second) // until the refusal has met the full disk
			}
			delivered.Add(int64(len(s.rows)))
			s.to.Delivered(s.rows)
			return nil
		}}
		p := newTestPipeline(QuarantineRecord, f, producer, quarantine)
		if problem := p.Problem(); problem != "" {
			t.Errorf("before anything happened: %q", problem)
		}
		done := make(chan error)
		go func() { done <- p.Run(t.Context(), t.Context()) }()
		<-time.After(time.Minute)
		if n := delivered.Load(); n != 3 {
			t.Errorf("%d records delivered", n)
		}
		if problem := p.Problem(); !strings.Contains(problem, "disk full") {
			t.Errorf("the problem is %q", problem)
		}
		quarantine.mend()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if n := delivered.Load(); n != 11 || f.streams[0].position() != 12 || p.Problem() != "" {
			t.Errorf("%d records delivered, position %d, problem %q", n, f.streams[0].position(), p.Problem())
		}
	})
}

func TestWhatAPolicyDropsIsCounted(t *testing.T) {
	var log strings.Builder
	f := newFeed(t, 10, slices.Repeat([]int{4}, 100))
	producer := &fakeProducer{deliver: func(_ context.Context, s sent) error {
		s.to.Refused(record.Failure{Row: 0, Stage: record.StageProducer, Code: "INVALID_RECORD", Message: "no key"})
		s.to.Delivered(s.rows[1:])
		return nil
	}}
	p := New(Config{Name: "p", Topic: "t", MaxBlock: 1 << 20, OnFailure: DropRecord}, []Source{f}, nil, producer, &store{},
		metric.New(), slog.New(slog.NewTextHandler(&log, nil)))
	if err := p.Run(context.Background(), context.Background()); err != nil {
		t.Fatal(err)
	}
	var m dto.Metric
	if err := p.metrics.StageRecords.WithLabelValues("p", "producer", "dropped").Write(&m); err != nil || counter(&m) != 100 {
		t.Errorf("%v, %v records counted as dropped", err, counter(&m))
	}
	lines := strings.Count(log.String(), "records dropped")
	if told := sumOf(log.String(), "records="); told != 100 || lines > 2 {
		t.Errorf("%d lines tell of %d records:\n%s", lines, told, log.String())
	}
}

// sumOf adds up the numbers behind a prefix in a log.
func sumOf(log, prefix string) (sum int) {
	for _, field := range strings.Fields(log) {
		if digits, found := strings.CutPrefix(field, prefix); found {
			n, _ := strconv.Atoi(digits)
			sum += n
		}
	}
	return sum
}

func TestAStagesFailuresAreQuarantinedWhateverTheProducersPolicy(t *testing.T) {
	for _, policy := range []FailurePolicy{QuarantineRecord, DropRecord, BlockPipeline} {
		fail := &stage{change: func(_ int, b *record.Batch) {
			b.Failures = append(b.Failures, record.Failure{Row: b.Live[0], Stage: "test", Code: "bad"})
			b.Live = b.Live[1:]
		}}
		f := newFeed(t, 10, []int{3, 1})
		quarantine := &store{}
		p := newTestPipeline(policy, f, &fakeProducer{deliver: deliverAll}, quarantine, fail)
		if err := p.Run(context.Background(), context.Background()); err != nil {
			t.Fatal(err)
		}
		if quarantine.count("bad") != 2 || f.streams[0].position() != 4 {
			t.Errorf("%s: quarantined %v, position %d", policy, quarantine.codes, f.streams[0].position())
		}
	}
}

// TestASourcesFailuresAreQuarantinedAmongTheOthers holds that stages see neither
// such rows nor their absence, also where a batch has no others.
func TestASourcesFailuresAreQuarantinedAmongTheOthers(t *testing.T) {
	for refuse, want := range map[int]int{3: 4, 1: 12} {
		f := newFeed(t, 10, []int{4, 1, 7})
		f.refuse = refuse
		seen, given := 0, 0
		look := &stage{change: func(_ int, b *record.Batch) { seen += len(b.Live) }}
		deliver := func(ctx context.Context, s sent) error { given += len(s.rows); return deliverAll(ctx, s) }
		quarantine := &store{}
		p := newTestPipeline(BlockPipeline, f, &fakeProducer{deliver: deliver}, quarantine, look)
		if err := p.Run(t.Context(), t.Context()); err != nil {
			t.Fatal(err)
		}
		if quarantine.count("odd") != want || seen != 12-want || given != 12-want || f.streams[0].position() != 12 {
			t.Errorf("quarantined %v, %d passed the stage, %d were sent, position %d", quarantine.codes, seen, given, f.streams[0].position())
		}
	}
}

func TestReasonsOfTheQuarantineAreBoundedInTheMetrics(t *testing.T) {
	n := 0
	fail := &stage{change: func(_ int, b *record.Batch) {
		for _, row := range b.Live {
			n++
			b.Failures = append(b.Failures, record.Failure{Row: row, Stage: "test", Code: fmt.Sprintf("made up %d", n)})
		}
		b.Live = b.Live[:0]
	}}
	p := newTestPipeline(QuarantineRecord, newFeed(t, 1, []int{500}), &fakeProducer{deliver: deliverAll}, &store{}, fail)
	if err := p.Run(context.Background(), context.Background()); err != nil {
		t.Fatal(err)
	}
	series, total := 0, 0.0
	families, err := p.metrics.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "barnabas_quarantined_records_total" {
			series = len(family.GetMetric())
			for _, m := range family.GetMetric() {
				total += counter(m)
			}
		}
	}
	if series != mostReasons+1 || total != 500 {
		t.Errorf("%d series count %v records", series, total)
	}
}

func counter(m *dto.Metric) float64 { return m.GetCounter().GetValue() }

func TestARecordBlocksThePipelineUntilItIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, 10, []int{4, 4})
		var mu sync.Mutex
		refusals := 3
		var order []int64
		producer := &fakeProducer{deliver: func(_ context.Context, s sent) error {
			mu.Lock()
			defer mu.Unlock()
			for _, row := range s.rows {
				offset := s.batch.Offsets[row]
				if (offset == 1 || offset == 2) && refusals > 0 {
					s.to.Refused(record.Failure{Row: row, Stage: record.StageProducer, Code: "INVALID_RECORD"})
					if offset == 2 {
						refusals--
					}
					continue
				}
				order = append(order, offset)
				s.to.Delivered([]uint32{row})
			}
			return nil
		}}
		p := newTestPipeline(BlockPipeline, f, producer, &store{})
		done := make(chan error)
		start := time.Now()
		go func() { done <- p.Run(t.Context(), t.Context()) }()
		synctest.Wait()
		mu.Lock()
		if !slices.Equal(order, []int64{0, 3}) || f.streams[0].position() != 1 {
			t.Errorf("blocked after %v at position %d", order, f.streams[0].position())
		}
		mu.Unlock()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 3*retryBlocked || took > 4*retryBlocked {
			t.Errorf("delivered after %v", took)
		}
		if !slices.Equal(order, []int64{0, 3, 1, 2, 4, 5, 6, 7}) || producer.used.Load() != 0 {
			t.Errorf("order %v, %d bytes charged", order, producer.used.Load())
		}
	})
}

func TestABlockedPipelineStopsHard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, 10, []int{2, 2, 2, 2, 2, 2})
		producer := &fakeProducer{deliver: func(_ context.Context, s sent) error {
			for _, row := range s.rows {
				s.to.Refused(record.Failure{Row: row, Stage: record.StageProducer, Code: "INVALID_RECORD"})
			}
			return nil
		}}
		hard, stop := context.WithCancel(t.Context())
		p := newTestPipeline(BlockPipeline, f, producer, &store{})
		done := make(chan error)
		go func() { done <- p.Run(t.Context(), hard) }()
		synctest.Wait()
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) || f.streams[0].position() != 0 {
			t.Errorf("%v, position %d", err, f.streams[0].position())
		}
	})
}

func TestASoftStopDeliversWhatIsInFlight(t *testing.T) {
	f := newFeed(t, 10, slices.Repeat([]int{10}, 3), slices.Repeat([]int{10}, 3))
	f.wait = true
	sends := make(chan sent, 100)
	producer := &fakeProducer{deliver: func(_ context.Context, s sent) error { sends <- s; return nil }}
	p := newTestPipeline(QuarantineRecord, f, producer, &store{})
	soft, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(soft, t.Context()) }()
	eventually(t, "all is submitted", func() bool { return f.done.Load() == 2 && len(sends) == 6 })
	stop()
	if n := p.InFlight(); n != 60 {
		t.Errorf("%d records in flight", n)
	}
	for range 6 {
		select {
		case err := <-done:
			t.Fatalf("ended with records in flight: %v", err)
		case s := <-sends:
			s.to.Delivered(s.rows)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, s := range f.streams {
		if s.position() != 30 {
			t.Errorf("lane %d is at %d", s.lane, s.position())
		}
	}
}

func TestASoftStopAwaitsTheReportsOfFireAndForget(t *testing.T) {
	f := newFeed(t, 10, []int{10})
	sends := make(chan sent, 1)
	producer := &fakeProducer{deliver: func(_ context.Context, s sent) error {
		s.to.Accepted(s.rows)
		sends <- s
		return nil
	}}
	p := newTestPipeline(QuarantineRecord, f, producer, &store{})
	done := make(chan error, 1)
	go func() { done <- p.Run(t.Context(), t.Context()) }()
	s := <-sends
	if got := f.streams[0].position(); got != 10 {
		t.Errorf("position %d when all is accepted", got)
	}
	beat := time.NewTimer(20 * time.Millisecond)
	defer beat.Stop()
	select {
	case <-done:
		t.Error("the pipeline ended before the broker had its records")
	case <-beat.C:
	}
	s.to.Delivered(s.rows)
	if err := <-done; err != nil || producer.used.Load() != 0 {
		t.Errorf("%v, %d bytes charged", err, producer.used.Load())
	}
}

// A report may be quicker than the word that its record was taken; the batch is
// another's by then.
func TestRecordsMayBeAcceptedAfterTheyAreDelivered(t *testing.T) {
	f := newFeed(t, 10, slices.Repeat([]int{10}, 50), slices.Repeat([]int{100}, 20))
	var late sync.WaitGroup
	producer := &fakeProducer{deliver: func(_ context.Context, s sent) error {
		s.to.Delivered(s.rows)
		late.Go(func() { s.to.Accepted(s.rows) })
		return nil
	}}
	p := newTestPipeline(QuarantineRecord, f, producer, &store{})
	if err := p.Run(t.Context(), t.Context()); err != nil {
		t.Fatal(err)
	}
	late.Wait()
	for lane, s := range f.streams {
		if s.position() != f.records(lane) {
			t.Errorf("lane %d is at %d of %d", lane, s.position(), f.records(lane))
		}
	}
	if producer.used.Load() != 0 || p.InFlight() != 0 {
		t.Errorf("%d bytes charged, %d records in flight", producer.used.Load(), p.InFlight())
	}
}

// The position has passed what is lost here: nothing but this line will tell.
func TestAHardStopTellsWhatFireAndForgetMayHaveLost(t *testing.T) {
	var log strings.Builder
	sends := make(chan sent, 1)
	producer := &fakeProducer{deliver: func(_ context.Context, s sent) error {
		s.to.Accepted(s.rows)
		s.to.Delivered(s.rows[:3])
		sends <- s
		return nil
	}}
	f := newFeed(t, 10, []int{10})
	p := New(Config{Name: "p", Topic: "t", MaxBlock: 1 << 20}, []Source{f}, nil, producer, &store{},
		metric.New(), slog.New(slog.NewTextHandler(&log, nil)))
	hard, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(t.Context(), hard) }()
	<-sends
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if !strings.Contains(log.String(), "records=7") {
		t.Errorf("logged: %s", log.String())
	}
}

func TestAHardStopTellsWhatIsNotAcknowledged(t *testing.T) {
	deadline, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	canceled, stop := context.WithCancel(t.Context())
	defer stop()
	for name, hard := range map[string]context.Context{"deadline": deadline, "canceled": canceled} {
		f := newFeed(t, 10, slices.Repeat([]int{10}, 20), slices.Repeat([]int{10}, 20))
		sends := make(chan sent, 100)
		producer := &fakeProducer{deliver: func(ctx context.Context, s sent) error {
			if s.batch.ID > 3 { // the dispatcher is busy
				<-ctx.Done()
				return ctx.Err()
			}
			sends <- s
			return nil
		}}
		p := newTestPipeline(QuarantineRecord, f, producer, &store{}, &stage{change: func(int, *record.Batch) {}})
		done := make(chan error, 1)
		go func() { done <- p.Run(t.Context(), hard) }()
		eventually(t, "some is sent", func() bool { return len(sends) == 6 })
		if name == "canceled" {
			stop()
		}
		err := <-done
		want := fmt.Sprintf("%d records not acknowledged", p.InFlight())
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, hard.Err()) || p.InFlight() < 60 {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
		// Reports may still come; they only move positions.
		for range 6 {
			s := <-sends
			s.to.Delivered(s.rows)
		}
		if f.streams[0].position() != 30 {
			t.Errorf("%s: position %d after late reports", name, f.streams[0].position())
		}
	}
}

func TestWhatPassesAWaitingRecordIsBounded(t *testing.T) {
	const rows = 10
	f := newFeed(t, 10, slices.Repeat([]int{rows}, 100))
	var passed atomic.Int64
	waiting := make(chan sent, 1)
	producer := &fakeProducer{deliver: func(_ context.Context, s sent) error {
		if s.batch.ID == 1 {
			waiting <- s
			return nil
		}
		passed.Add(int64(len(s.rows)))
		s.to.Delivered(s.rows)
		return nil
	}}
	p := newTestPipeline(QuarantineRecord, f, producer, &store{})
	p.config.MaxAhead = 20 * rows
	done := make(chan error, 1)
	go func() { done <- p.Run(t.Context(), t.Context()) }()
	eventually(t, "the lane is as far ahead as it may be", func() bool { return passed.Load() == 20*rows })
	s := <-waiting
	if f.streams[0].position() != 0 {
		t.Errorf("position %d, and nothing of the first batch is resolved", f.streams[0].position())
	}
	s.to.Delivered(s.rows)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := passed.Load(); got != 99*rows {
		t.Errorf("%d rows passed in all", got)
	}
}

func TestAPartThatFailsEndsThePipeline(t *testing.T) {
	broken := errors.New("broken")
	f := newFeed(t, 10, slices.Repeat([]int{10}, 100))
	f.wait = true
	producer := &fakeProducer{deliver: deliverAll}
	p := newTestPipeline(QuarantineRecord, f, producer, &store{}, failingStage{err: broken})
	if err := p.Run(t.Context(), t.Context()); !errors.Is(err, broken) {
		t.Errorf("a stage: %v", err)
	}
	p = newTestPipeline(QuarantineRecord, newFeed(t, 1, nil), producer, &store{})
	p.sources = append(p.sources, failingSource{err: broken})
	if err := p.Run(t.Context(), t.Context()); !errors.Is(err, broken) {
		t.Errorf("a source: %v", err)
	}
}

type failingStage struct{ err error }

func (failingStage) Name() string { return "failing" }
func (s failingStage) Run(_ context.Context, _ int, in <-chan *record.Batch, _ chan<- *record.Batch) error {
	<-in
	return s.err
}

type failingSource struct{ err error }

func (s failingSource) Run(context.Context, []record.Lane) error { return s.err }
func (failingSource) Checkpoint(dst []record.Checkpoint) []record.Checkpoint {
	return dst
}

// A stage of our own that loses or doubles a record is a bug, not a loss.
func TestAStageThatLosesARecordIsFoundOut(t *testing.T) {
	p := newTestPipeline(QuarantineRecord, newFeed(t, 1, nil), &fakeProducer{deliver: deliverAll}, &store{})
	for name, change := range map[string]func(*record.Batch){
		"lost":    func(b *record.Batch) { b.Live = b.Live[1:] },
		"doubled": func(b *record.Batch) { b.Dropped = append(b.Dropped, b.Live[0]) },
	} {
		b := &record.Batch{Topics: []string{"t"}}
		b.Value.AddBlock(nil)
		b.Append(&tail{t: t}, record.Span{}, 0, 0, 1)
		b.Append(&tail{t: t}, record.Span{}, 0, 1, 2)
		change(b)
		p.lanes[0].passing = []*inflight{{lane: p.lanes[0], batch: b}}
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.HasPrefix(fmt.Sprint(r), "BUG:") {
					t.Errorf("%s: %v", name, r)
				}
			}()
			_ = p.lanes[0].send(t.Context(), b)
		}()
	}
}
