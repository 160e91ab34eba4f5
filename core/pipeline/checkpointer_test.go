package pipeline

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
)

// positions is a source whose positions are set by the test.
type positions struct {
	Source
	mu      sync.Mutex
	changed []record.Checkpoint
}

func (p *positions) set(key, value string) {
	one := record.Checkpoint{Key: key}
	if value != "" {
		one.Value = []byte(value)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed = append(p.changed, one)
}

func (p *positions) Checkpoint(dst []record.Checkpoint) []record.Checkpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	dst = append(dst, p.changed...)
	p.changed = nil
	return dst
}

// memoryStore keeps positions in memory and can fail.
type memoryStore struct {
	mu      sync.Mutex
	failing bool
	commits int
	kept    map[string]string
}

func (s *memoryStore) fail(failing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = failing
}

func (s *memoryStore) get(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[key]
}

func (s *memoryStore) Commit(ctx context.Context, all []record.Checkpoint) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing {
		return errors.New("disk full")
	}
	s.commits++
	for _, one := range all {
		if one.Value == nil {
			delete(s.kept, one.Key)
			continue
		}
		s.kept[one.Key] = string(one.Value)
	}
	return nil
}

func newTestCheckpointer(store PositionStore, log *slog.Logger, sources ...Source) *Checkpointer {
	return NewCheckpointer(store, sources, nil, discardedMetrics(), log)
}

func discardedMetrics() CheckpointMetrics {
	t := metric.New()
	return CheckpointMetrics{Seconds: t.CheckpointSeconds, Failures: t.CheckpointFailures, Unstored: t.PositionsUnstored}
}

func TestPositionsOfAFailedCommitGoWithTheNext(t *testing.T) {
	store := &memoryStore{kept: map[string]string{"c": "1"}}
	one, two := &positions{}, &positions{}
	c := newTestCheckpointer(store, slog.New(slog.NewTextHandler(io.Discard, nil)), one, two)
	one.set("a", "1")
	two.set("b", "1")
	two.set("c", "") // removed
	store.fail(true)
	if err := c.Flush(t.Context()); err == nil {
		t.Fatal("the commit did not fail")
	}
	one.set("a", "2")
	store.fail(false)
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"a": "2", "b": "1"}; !maps.Equal(store.kept, want) {
		t.Errorf("kept %v, want %v", store.kept, want)
	}
	if err := c.Flush(t.Context()); err != nil || store.commits != 1 {
		t.Errorf("%v; %d commits, though nothing has changed", err, store.commits)
	}
}

// removing is a source that notes what was durable when it was told.
type removing struct {
	positions
	store   *memoryStore
	durable []string
}

func (r *removing) Committed() { r.durable = append(r.durable, r.store.get("a")) }

func TestASourceIsToldOnlyWhatIsDurable(t *testing.T) {
	store := &memoryStore{kept: map[string]string{}}
	source := &removing{store: store}
	c := newTestCheckpointer(store, slog.New(slog.DiscardHandler), &positions{}, source)
	source.set("a", "1")
	store.fail(true)
	if err := c.Flush(t.Context()); err == nil || len(source.durable) > 0 {
		t.Fatalf("%v; told %q after a commit that failed", err, source.durable)
	}
	store.fail(false)
	for range 2 { // the second finds nothing new
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(source.durable) != 2 || source.durable[0] != "1" {
		t.Errorf("told when the store held %q", source.durable)
	}
}

func TestPositionsAreCommittedEverySecondAndTroubleToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		store := &memoryStore{kept: map[string]string{}}
		source := &positions{}
		c := newTestCheckpointer(store, slog.New(slog.NewTextHandler(&log, nil)), source)
		source.set("a", "1")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.Run(ctx); close(done) }()
		pass := func(d time.Duration) { <-time.After(d); synctest.Wait() }
		pass(3 * CheckpointInterval / 2) // between two ticks from here on
		if store.get("a") != "1" {
			t.Error("not committed after the interval")
		}
		store.fail(true)
		source.set("a", "2")
		pass(5 * CheckpointInterval)
		if !strings.Contains(c.Problem(), "disk full") {
			t.Errorf("the problem is %q", c.Problem())
		}
		store.fail(false)
		pass(CheckpointInterval)
		if store.get("a") != "2" {
			t.Error("not committed after the trouble")
		}
		if c.Problem() != "" {
			t.Errorf("the problem is still %q", c.Problem())
		}
		stop()
		<-done
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 || strings.Count(log.String(), "stored again") != 1 {
			t.Errorf("logged:\n%s", log.String())
		}
	})
}

// A tick that falls together with the end is no trouble of the store.
func TestTheEndIsNoTrouble(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			var log strings.Builder
			source := &positions{}
			c := newTestCheckpointer(&memoryStore{kept: map[string]string{}}, slog.New(slog.NewTextHandler(&log, nil)), source)
			source.set("a", "1")
			ctx, stop := context.WithTimeout(t.Context(), CheckpointInterval)
			defer stop()
			c.Run(ctx)
			if log.Len() > 0 {
				t.Fatalf("logged: %s", log.String())
			}
		})
	}
}
