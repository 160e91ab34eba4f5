package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fataler is what *testing.T and *rapid.T have in common here.
type fataler interface {
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// feed is a source that submits records, numbered per lane, in batches of the
// sizes it is given, then ends; or waits for its end where it is told to.
type feed struct {
	t       fataler
	batches [][]int // per lane: the number of records of each batch
	value   int     // bytes per record
	refuse  int     // each so many-th record is refused by the feed itself; 0: none
	wait    bool
	streams []*tail
	done    atomic.Int64 // lanes that have submitted all
}

// tail is a lane's stream.
type tail struct {
	mu        sync.Mutex
	delivered int64
	t         fataler
	lane      int
}

func (s *tail) Origin() record.Origin { return record.Origin{Kind: "file", File: fmt.Sprint(s.lane)} }

func (s *tail) Delivered(position int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if position <= s.delivered {
		s.t.Errorf("lane %d: position %d after %d", s.lane, position, s.delivered)
	}
	s.delivered = position
}

func (s *tail) position() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.delivered
}

func newFeed(t fataler, value int, batches ...[]int) *feed {
	f := &feed{t: t, batches: batches, value: value}
	for lane := range batches {
		f.streams = append(f.streams, &tail{t: t, lane: lane})
	}
	return f
}

func (f *feed) Run(ctx context.Context, lanes []record.Lane) error {
	var all sync.WaitGroup
	errs := make([]error, len(lanes))
	for n, lane := range lanes {
		all.Go(func() { errs[n] = f.fill(ctx, lane, n) })
	}
	all.Wait()
	if f.wait && errors.Join(errs...) == nil {
		<-ctx.Done()
	}
	return errors.Join(errs...)
}

func (f *feed) fill(ctx context.Context, lane record.Lane, n int) error {
	var position int64
	for _, rows := range f.batches[n] {
		b, err := lane.NewBatch(ctx, max(1, rows*f.value))
		if err != nil {
			return err
		}
		for range rows {
			block := b.Value.Blocks[0]
			at := uint32(len(block))
			b.Value.Blocks[0] = append(block, make([]byte, f.value)...)
			b.Append(f.streams[n], record.Span{Offset: at, Length: uint32(f.value)}, 1, position, position+1)
			position++
			if f.refuse > 0 && position%int64(f.refuse) == 0 {
				b.Refuse("odd", "refused by its source")
			}
		}
		if err := lane.Submit(ctx, b); err != nil {
			return err
		}
	}
	f.done.Add(1)
	return nil
}

func (f *feed) Checkpoint(dst []record.Checkpoint) []record.Checkpoint { return dst }

// records is how many records the feed has for a lane.
func (f *feed) records(lane int) int64 {
	var n int64
	for _, rows := range f.batches[lane] {
		n += int64(rows)
	}
	return n
}

// stage is a stage that does to each batch what change says.
type stage struct {
	change func(lane int, b *record.Batch)
}

func (*stage) Name() string { return "test" }

func (s *stage) Run(ctx context.Context, lane int, in <-chan *record.Batch, out chan<- *record.Batch) error {
	for {
		select {
		case b, ok := <-in:
			if !ok {
				return nil
			}
			s.change(lane, b)
			select {
			case out <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sent is one Send.
type sent struct {
	batch *record.Batch
	rows  []uint32
	to    record.Resolution
}

// fakeProducer counts credit and leaves each Send to deliver.
type fakeProducer struct {
	used    atomic.Int64
	most    atomic.Int64
	reserve func(ctx context.Context, n int64) error // nil: always granted
	deliver func(ctx context.Context, s sent) error
}

func (p *fakeProducer) Reserve(ctx context.Context, n int64) error {
	if p.reserve != nil {
		if err := p.reserve(ctx, n); err != nil {
			return err
		}
	}
	p.Adjust(n)
	return nil
}

func (p *fakeProducer) Adjust(n int64) {
	used := p.used.Add(n)
	for {
		most := p.most.Load()
		if used <= most || p.most.CompareAndSwap(most, used) {
			return
		}
	}
}

func (p *fakeProducer) Send(ctx context.Context, b *record.Batch, rows []uint32, r record.Resolution) error {
	return p.deliver(ctx, sent{batch: b, rows: rows, to: r})
}

// deliverAll is a broker that is never in trouble.
func deliverAll(_ context.Context, s sent) error {
	s.to.Delivered(s.rows)
	return nil
}

// store is a quarantine in memory, which fails as often as it is told to.
type store struct {
	mu       sync.Mutex
	failures int
	codes    []string
}

func (s *store) Put(_ context.Context, b *record.Batch, failures []record.Failure) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failures > 0 {
		s.failures--
		return errors.New("disk full")
	}
	for _, f := range failures {
		_ = b.Value.Bytes(int(f.Row))
		s.codes = append(s.codes, f.Code)
	}
	return nil
}

// mend makes the next Put work.
func (s *store) mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = 0
}

func (s *store) count(code string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(s.codes), func(c string) bool { return c != code }))
}

func newTestPipeline(policy FailurePolicy, f *feed, producer Producer, quarantine Quarantine, stages ...Stage) *Pipeline {
	return New(Config{Name: "p", Topic: "t", Lanes: len(f.batches), MaxBlock: 1 << 20, OnFailure: policy, MaxAhead: 1 << 20},
		[]Source{f}, stages, producer, quarantine, metric.New(), slog.New(slog.NewTextHandler(io.Discard, nil)))
}

// eventually waits until f returns true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never happened: %s", what)
		}
	}
}
