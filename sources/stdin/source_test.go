package stdin_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
	"github.com/barnabas-agent/barnabas/sources/stdin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const maxLine = 100_000

// harness is a pipe that outlives its readers, as systemd keeps one for a service.
type harness struct {
	dir     string
	read    *os.File
	write   *os.File
	maxSize int64
	current *source
}

func newHarness(t *testing.T) *harness {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	return &harness{dir: filepath.Join(t.TempDir(), "spool"), read: read, write: write, maxSize: 64 << 20}
}

// source is closed with its spool, once.
type source struct {
	*stdin.Source
	closed func() error
}

func (s *source) Close() error { return s.closed() }

func (h *harness) New(t testing.TB, saved []record.Checkpoint) sourcetest.Source {
	t.Helper()
	if h.current != nil {
		if err := h.current.Close(); err != nil {
			t.Error(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	kept, err := spool.Open(spool.Config{
		Dir: h.dir, Kind: "stdin", Host: "host", MaxSize: h.maxSize, MaxEntry: maxLine, Key: "p/stdin/", Saved: saved,
		Pipeline: "p", Name: "stdin", Logger: log, Metrics: metric.New(),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := stdin.New(stdin.Config{Input: h.read, MaxLine: maxLine, Spool: kept, Logger: log, Now: time.Now})
	h.current = &source{s, sync.OnceValue(kept.Close)}
	return h.current
}

func (h *harness) Feed(t testing.TB, _ int, lines ...string) {
	t.Helper()
	if _, err := h.write.WriteString(strings.Join(lines, "\n") + "\n"); err != nil {
		t.Fatal(err)
	}
}

// All inputs of the contract are one pipe here.
func TestSourceContract(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Harness { return newHarness(t) })
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for name, c := range map[string]struct {
		input string
		want  []string
	}{
		"nothing":                     {"", nil},
		"an empty line":               {"\n", []string{""}},
		"without an end":              {"a\nb", []string{"a", "b"}},
		"bytes as they are":           {"a\r\n\xff\x00\n", []string{"a\r", "\xff\x00"}},
		"of the most bytes":           {long + "\n" + long, []string{long, long}},
		"longer, in pieces":           {long + "yz\nb", []string{long, "yz", "b"}},
		"longer, and the end follows": {long + long + "\n", []string{long, long}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			lane := sourcetest.NewLane(t)
			running := sourcetest.Start(t, h.New(t, nil), lane)
			if _, err := h.write.WriteString(c.input); err != nil {
				t.Fatal(err)
			}
			h.write.Close()
			if err := running.Wait(); err != nil {
				t.Fatal(err)
			}
			if got := lane.Values(); !slices.Equal(got, c.want) {
				t.Errorf("read %.50q, expected %.50q", got, c.want)
			}
		})
	}
}

func TestInputsThatAreNoPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(path, []byte("a\nb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{path: {"a", "b"}, os.DevNull: nil} {
		input, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer input.Close()
		h := newHarness(t)
		h.read = input
		lane := sourcetest.NewLane(t)
		if err := sourcetest.Start(t, h.New(t, nil), lane).Wait(); err != nil {
			t.Fatal(err)
		}
		if got := lane.Values(); !slices.Equal(got, want) {
			t.Errorf("%s: read %q", name, got)
		}
	}
}

// A stop comes at once, also in the middle of a line and with a broker down, and
// what was read is there for the next start.
func TestAStopKeepsWhatWasRead(t *testing.T) {
	h := newHarness(t)
	lane := sourcetest.NewLane(t)
	lane.Limit(0)
	s := h.New(t, nil)
	running := sourcetest.Start(t, s, lane)
	if _, err := h.write.WriteString("one\ntwo\nthr"); err != nil {
		t.Fatal(err)
	}
	sourcetest.Eventually(t, func() bool { return unread(t, h.read) == 0 }, "an empty pipe")
	running.Stop()
	h.Feed(t, 0, "ee")
	h.write.Close()
	lane = sourcetest.NewLane(t)
	if err := sourcetest.Start(t, h.New(t, nil), lane).Wait(); err != nil {
		t.Fatal(err)
	}
	if got := lane.Values(); !slices.Equal(got, []string{"one", "two", "thr", "ee"}) {
		t.Errorf("read %q", got)
	}
}

// A full spool has the writer wait: nothing is read that can't be kept.
func TestAFullSpoolHasTheWriterWait(t *testing.T) {
	h := newHarness(t)
	h.maxSize = 1 << 20
	lane := sourcetest.NewLane(t)
	lane.Limit(0)
	s := h.New(t, nil)
	running := sourcetest.Start(t, s, lane)
	line := strings.Repeat("x", 1000)
	const lines = 3000
	written := make(chan error, 1)
	go func() {
		_, err := h.write.WriteString(strings.Repeat(line+"\n", lines))
		h.write.Close()
		written <- err
	}()
	sourcetest.Eventually(t, func() bool { return unread(t, h.read) > 60_000 && s.(*source).Problem() != "" }, "a full pipe in front of a full spool")
	running.Stop()
	positions, got := sourcetest.Positions{}, 0 // bytes: a stop may come in the middle of a line
	count := func(records []sourcetest.Record) {
		for _, r := range records {
			got += len(r.Value)
		}
	}
	for range 3 {
		lane := sourcetest.NewLane(t)
		s := h.New(t, positions.Saved())
		running := sourcetest.Start(t, s, lane)
		lane.Wait(500)
		lane.Deliver(400)
		positions.Commit(s)
		running.Stop()
		count(lane.Records()[:400])
	}
	lane = sourcetest.NewLane(t)
	s = h.New(t, positions.Saved())
	running = sourcetest.Start(t, s, lane)
	for n := 1200; n < lines; n++ {
		lane.Wait(n - 1200 + 1)
		lane.Deliver(1)
		if n%100 == 0 {
			positions.Commit(s)
		}
	}
	if err := running.Wait(); err != nil {
		t.Fatal(err)
	}
	count(lane.Records())
	if got != lines*len(line) {
		t.Errorf("%d bytes of %d", got, lines*len(line))
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}
