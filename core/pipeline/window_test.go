package pipeline

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
)

// ticking is a source that submits one record every 100 ms and says how many are
// delivered, as a file that grows does.
type ticking struct {
	submitted atomic.Int64
	mu        sync.Mutex
	position  int64
	changed   bool
}

func (s *ticking) Origin() record.Origin { return record.Origin{Kind: "test"} }

func (s *ticking) Delivered(position int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.position, s.changed = position, true
}

func (s *ticking) Checkpoint(dst []record.Checkpoint) []record.Checkpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.changed {
		return dst
	}
	s.changed = false
	return append(dst, record.Checkpoint{Key: "ticking", Value: fmt.Append(nil, s.position)})
}

func (s *ticking) Run(ctx context.Context, lanes []record.Lane) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		b, err := lanes[0].NewBatch(ctx, 1)
		if err != nil {
			return err
		}
		b.Value.Blocks[0] = append(b.Value.Blocks[0], 'x')
		at := s.submitted.Load()
		b.Append(s, record.Span{Length: 1}, 1, at, at+1)
		if err := lanes[0].Submit(ctx, b); err != nil {
			return err
		}
		s.submitted.Add(1)
	}
}

// slowStore hangs in a commit until it is told to go on.
type slowStore struct {
	*memoryStore
	hang atomic.Pointer[chan struct{}]
}

func (s *slowStore) Commit(ctx context.Context, all []record.Checkpoint) error {
	if wait := s.hang.Load(); wait != nil {
		<-*wait
	}
	return s.memoryStore.Commit(ctx, all)
}

// windowRig is a pipeline with its checkpointer in a bubble of synthetic time.
type windowRig struct {
	source  *ticking
	store   *slowStore
	points  *Checkpointer
	log     *strings.Builder
	metrics *metric.Table
	stop    func()
}

func newWindowRig(t *testing.T) *windowRig {
	t.Helper()
	r := &windowRig{source: &ticking{}, store: &slowStore{memoryStore: &memoryStore{kept: map[string]string{}}}, log: &strings.Builder{}, metrics: metric.New()}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	window := NewWindow(UnstoredWindow, log)
	p := New(Config{Name: "p", Topic: "t", Lanes: 1, MaxBlock: 1 << 10, MaxAhead: 1 << 20, Window: window},
		[]Source{r.source}, nil, &fakeProducer{deliver: deliverAll}, &store{}, r.metrics, slog.New(slog.NewTextHandler(io.Discard, nil)))
	r.points = NewCheckpointer(r.store, []Source{r.source}, window, CheckpointMetrics{
		Seconds: r.metrics.CheckpointSeconds, Failures: r.metrics.CheckpointFailures, Unstored: r.metrics.PositionsUnstored,
	}, log)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { r.points.Run(ctx) })
	running.Go(func() {
		if err := p.Run(ctx, context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	r.stop = func() { cancel(); running.Wait() }
	return r
}

func pass(d time.Duration) { <-time.After(d); synctest.Wait() }

// moves reports whether records are read.
func (r *windowRig) moves() bool {
	before := r.source.submitted.Load()
	pass(time.Second)
	return r.source.submitted.Load() > before
}

func TestReadingStopsWhenPositionsCannotBeStoredAndGoesOnByItself(t *testing.T) {
	for name, trouble := range map[string]func(*slowStore) (end func()){
		"commits fail": func(s *slowStore) func() { s.fail(true); return func() { s.fail(false) } },
		"a commit hangs": func(s *slowStore) func() {
			wait := make(chan struct{})
			s.hang.Store(&wait)
			return func() { s.hang.Store(nil); close(wait) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newWindowRig(t)
				defer r.stop()
				pass(5*time.Second + CheckpointInterval/2)
				end := trouble(r.store)
				begun := r.source.submitted.Load()
				for passed := time.Duration(0); passed < UnstoredWindow-time.Second; passed += time.Second {
					if !r.moves() {
						t.Fatalf("reading stopped after %s", passed)
					}
				}
				pass(time.Second + CheckpointInterval)
				for range 2 {
					if r.moves() {
						t.Fatal("reading goes on beyond the window")
					}
				}
				// Ten records a second: what the window and the interval before it let pass.
				if n := r.source.submitted.Load() - begun; n > int64((UnstoredWindow+CheckpointInterval)/(100*time.Millisecond))+1 {
					t.Errorf("%d records were read", n)
				}
				if !strings.Contains(r.points.Problem(), "nothing more is read") {
					t.Errorf("the problem is %q", r.points.Problem())
				}
				if age := gauge(t, r.metrics, "barnabas_positions_unstored_seconds"); age < UnstoredWindow.Seconds() {
					t.Errorf("the gauge says %v s", age)
				}
				end()
				pass(2 * CheckpointInterval)
				if !r.moves() || r.points.Problem() != "" {
					t.Errorf("reading does not go on; the problem is %q", r.points.Problem())
				}
				if n := strings.Count(r.log.String(), "reading has stopped"); n != 1 || !strings.Contains(r.log.String(), "reading goes on") {
					t.Errorf("logged:\n%s", r.log)
				}
			})
		})
	}
}

// A disk whose every fsync takes five seconds, and so a commit ten, is slow, but not
// in the way: commits take what came together meanwhile, and none waits behind another.
func TestSlowStoreStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newWindowRig(t)
		const twoSyncs = 10 * time.Second
		slow := make(chan struct{})
		r.store.hang.Store(&slow)
		for range 6 {
			before := r.source.submitted.Load()
			pass(twoSyncs)
			if r.source.submitted.Load()-before < 90 {
				t.Fatalf("only %d records in %s", r.source.submitted.Load()-before, twoSyncs)
			}
			next := make(chan struct{})
			r.store.hang.Store(&next)
			close(slow)
			slow = next
		}
		if r.store.commits > 7 {
			t.Errorf("%d commits in a minute", r.store.commits)
		}
		r.store.hang.Store(nil)
		close(slow)
		begin := time.Now()
		r.stop()
		if took := time.Since(begin); took > twoSyncs {
			t.Errorf("the end took %s", took)
		}
		if strings.Contains(r.log.String(), "reading has stopped") {
			t.Errorf("logged:\n%s", r.log)
		}
	})
}

func gauge(t *testing.T, table *metric.Table, name string) float64 {
	t.Helper()
	families, err := table.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
