package spool_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		var begin []int
		for text := range strings.FieldsSeq(os.Getenv("BARNABAS_TEST_BEGIN")) {
			n, err := strconv.Atoi(text)
			if err != nil {
				panic(err)
			}
			begin = append(begin, n)
		}
		panic(appendUntilKilled(dir, begin))
	}
	goleak.VerifyTestMain(m)
}

func configOf(dir string) spool.Config {
	return spool.Config{
		Dir: dir, Kind: "socket", Host: "host", MaxSize: 64 << 20, MaxEntry: 64 << 10, Key: "p/socket/spool",
		Pipeline: "p", Name: "socket", Logger: slog.New(slog.DiscardHandler), Metrics: metric.New(),
	}
}

func open(t testing.TB, c spool.Config) *spool.Spool {
	t.Helper()
	s, err := spool.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// source is a spool as a source is made of it: with a feed and closed once.
type source struct {
	*spool.Spool
	feed   func(ctx context.Context) error
	closed func() error
}

func newSource(s *spool.Spool, feed func(ctx context.Context) error) *source {
	return &source{Spool: s, feed: feed, closed: sync.OnceValue(s.Close)}
}

func (s *source) Run(ctx context.Context, lanes []record.Lane) error {
	return s.Spool.Run(ctx, lanes, s.feed)
}
func (s *source) Close() error { return s.closed() }

// harness appends what tests feed, in order, each input as one peer.
type harness struct {
	dir     string
	current *source

	mu      sync.Mutex
	waiting []spool.Entry // not appended yet
	more    chan bool     // of one element
}

func newHarness(t *testing.T) *harness {
	return &harness{dir: filepath.Join(t.TempDir(), "spool"), more: make(chan bool, 1)}
}

// New closes the one before, as the end of its process would.
func (h *harness) New(t testing.TB, saved []record.Checkpoint) sourcetest.Source {
	if h.current != nil {
		if err := h.current.Close(); err != nil {
			t.Error(err)
		}
	}
	c := configOf(h.dir)
	c.Saved = saved
	h.current = newSource(open(t, c), h.feed)
	return h.current
}

func (h *harness) Feed(_ testing.TB, input int, lines ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range lines {
		h.waiting = append(h.waiting, spool.Entry{Peer: string(rune('a' + input)), Time: 1, Value: []byte(line)})
	}
	select {
	case h.more <- true:
	default:
	}
}

func (h *harness) feed(ctx context.Context) error {
	for {
		h.mu.Lock()
		entries := slices.Clone(h.waiting)
		h.mu.Unlock()
		taken, err := h.current.Append(context.WithoutCancel(ctx), entries)
		if err != nil {
			return err
		}
		h.mu.Lock()
		h.waiting = h.waiting[taken:]
		empty := len(h.waiting) == 0
		h.mu.Unlock()
		if !empty {
			continue
		}
		select {
		case <-h.more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestSourceContract(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Harness { return newHarness(t) })
}
