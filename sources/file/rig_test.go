package file

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// rig is a folder, the configuration of a source over it, and what is durable.
type rig struct {
	*testing.T
	dir       string
	config    Config
	positions sourcetest.Positions

	lane    *sourcetest.Lane
	source  *Source
	running *sourcetest.Running
}

// newRig makes a rig over patterns relative to its folder.
func newRig(t *testing.T, patterns ...string) *rig { return newRigIn(t, t.TempDir(), patterns...) }

func newRigIn(t *testing.T, dir string, patterns ...string) *rig {
	r := &rig{T: t, dir: dir, positions: sourcetest.Positions{}}
	r.config = configOf()
	for _, p := range patterns {
		r.config.Include = append(r.config.Include, r.path(p))
	}
	return r
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

// start begins a run from what is durable, with a lane of its own.
func (r *rig) start() {
	r.Helper()
	r.lane = sourcetest.NewLane(r)
	if rules := rulesOf(&r.config); !rules.isPlain() || rules.decompress {
		r.lane.Transforms()
	}
	r.startOn(r.lane)
}

func (r *rig) startOn(lanes ...record.Lane) {
	r.Helper()
	r.config.Saved = r.positions.Saved()
	r.source = newSource(r, r.config)
	r.running = sourcetest.Start(r, r.source, lanes...)
}

// crash ends a run without a last checkpoint.
func (r *rig) crash() {
	r.Helper()
	r.running.Stop()
	r.source.Close()
}

// commit delivers everything read so far and makes that durable.
func (r *rig) commit() {
	r.lane.Deliver(1 << 30)
	r.positions.Commit(r.source)
}

func (r *rig) write(name, content string) {
	r.Helper()
	appendTo(r, r.path(name), content)
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) rename(from, to string) {
	r.Helper()
	r.must(os.Rename(r.path(from), r.path(to)))
}

// expect waits for exactly these values, in this order.
func (r *rig) expect(values ...string) {
	r.Helper()
	r.lane.Wait(len(values))
	got := r.lane.Values()
	if slices.Equal(got, values) {
		return
	}
	same := 0
	for same < min(len(got), len(values)) && got[same] == values[same] {
		same++
	}
	r.Fatalf("of %d records, %d expected, the first %d are right, then came %q, expected %q", len(got), len(values), same,
		got[same:min(same+5, len(got))], values[same:min(same+5, len(values))])
}

// opened waits until so many files are open: one that was seen may still wait for that,
// and loses its place before its successor when it is renamed meanwhile.
func (r *rig) opened(want int) {
	r.Helper()
	open := func() int {
		r.source.mu.Lock()
		defer r.source.mu.Unlock()
		return len(r.source.files)
	}
	sourcetest.Eventually(r, func() bool { return open() == want }, "%d open files, there are %d", want, open())
}

// tracked waits until exactly these files are followed, by their path's last part.
func (r *rig) tracked(names ...string) {
	r.Helper()
	list := func() []string {
		var got []string
		for _, s := range r.source.Status() {
			got = append(got, filepath.Base(s.Path))
		}
		return got
	}
	sourcetest.Eventually(r, func() bool { return slices.Equal(list(), names) }, "files %q, there are %q", names, list())
}

// polled waits until the source has looked at everything once more.
func (r *rig) polled() {
	r.Helper()
	name := "zz-poll-" + strings.ReplaceAll(r.Name(), "/", "-") + ".log"
	before := len(r.lane.Records())
	r.write(name, "polled\n")
	r.lane.Wait(before + 1)
}

// lost returns the bytes counted as lost for a reason.
func (r *rig) lost(reason string) int {
	r.Helper()
	return lostBytes(r, r.source, reason)
}

func lostBytes(t testing.TB, s *Source, reason string) int {
	t.Helper()
	var m dto.Metric
	if err := s.config.Metrics.FilesUnreadLostBytes.WithLabelValues("p", reason).Write(&m); err != nil {
		t.Fatal(err)
	}
	return int(m.GetCounter().GetValue())
}

func inodeOf(info os.FileInfo) inode {
	stat := info.Sys().(*syscall.Stat_t)
	return inode{device: stat.Dev, number: stat.Ino}
}

// movedClock is how far a test has moved its clock.
type movedClock struct{ shift atomic.Int64 }

func (c *movedClock) add(d time.Duration) { c.shift.Add(int64(d)) }
func (c *movedClock) get() time.Duration  { return time.Duration(c.shift.Load()) }

// recordingHandler keeps what is logged.
type recordingHandler struct {
	mu   sync.Mutex
	logs []slog.Record
}

func (h *recordingHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *recordingHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *recordingHandler) WithGroup(string) slog.Handler            { return h }
func (h *recordingHandler) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.logs = append(h.logs, r)
	return nil
}

// expect fails the test unless exactly one line tells of the decision.
func (h *recordingHandler) expect(t *testing.T, d Decision) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	message, level := d.What.message()
	lines := 0
	for _, r := range h.logs {
		found := map[string]string{}
		r.Attrs(func(a slog.Attr) bool { found[a.Key] = a.Value.String(); return true })
		if r.Message == message && r.Level == level && found["path"] == d.Path && found["reason"] == d.Reason && found["position"] == fmt.Sprint(d.Position) {
			lines++
		}
	}
	if lines != 1 {
		t.Errorf("%d lines tell of %+v", lines, d)
	}
}

// asNobody does something with the rights of a user who may be kept from reading.
func asNobody(t *testing.T, do func() string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		return do()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for dir := t.TempDir(); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		mustDo(t, os.Chmod(dir, 0o755))
	}
	mustDo(t, unix.Setfsuid(65534))
	defer func() { mustDo(t, unix.Setfsuid(0)) }()
	return do()
}

func counterOf(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	mustDo(t, c.Write(&m))
	return m.GetCounter().GetValue()
}
