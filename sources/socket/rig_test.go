package socket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/socket/framing"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// rig is a source on a socket of its own, with its spool and a lane.
type rig struct {
	t       *testing.T
	source  *opened
	lane    *sourcetest.Lane
	running *sourcetest.Running
	metrics *metric.Table
	log     *logBuffer
	spool   spool.Config
}

// opened closes a source's spool with it.
type opened struct {
	*Source
	spool  *spool.Spool
	closed bool
}

func (o *opened) Close() error {
	if o.closed {
		return nil
	}
	o.closed = true
	if err := o.Source.Close(); err != nil {
		return err
	}
	return o.spool.Close()
}

// logBuffer is a log that goroutines write to.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// settings is a configuration for a test that listens on a loopback port.
func settings(t testing.TB) Config {
	return Config{
		Pipeline: "p", Name: "socket", Listen: Listen{TCP, "127.0.0.1:0"}, MaxFrame: 64 << 10, MaxConnections: 100,
		IdleTimeout: time.Minute, Mode: 0o660, Metrics: metric.New(), Now: time.Now,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// spoolSettings is a spool for the source in a folder.
func spoolSettings(c *Config, folder string) spool.Config {
	return spool.Config{
		Dir: folder, Kind: "socket", Host: "host", MaxSize: 64 << 20, MaxEntry: c.MaxFrame, Key: "socket",
		Pipeline: c.Pipeline, Name: c.Name, Logger: c.Logger, Metrics: c.Metrics, NoSync: true,
	}
}

// open opens spool and source.
func open(t testing.TB, c Config, sc spool.Config) *opened {
	t.Helper()
	kept, err := spool.Open(sc)
	if err != nil {
		t.Fatal(err)
	}
	c.Spool = kept
	s, err := Open(t.Context(), c)
	if err != nil {
		kept.Close()
		t.Fatal(err)
	}
	return &opened{Source: s, spool: kept}
}

// start runs a source that change has made of the default one.
func start(t *testing.T, change ...func(*Config, *spool.Config)) *rig {
	t.Helper()
	r := &rig{t: t, lane: sourcetest.NewLane(t), log: &logBuffer{}}
	c := settings(t)
	c.Logger = slog.New(slog.NewTextHandler(io.MultiWriter(r.log, t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug}))
	sc := spoolSettings(&c, t.TempDir())
	for _, f := range change {
		f(&c, &sc)
	}
	sc.MaxEntry = c.MaxFrame
	r.metrics, r.spool = c.Metrics, sc
	r.source = open(t, c, sc)
	r.running = sourcetest.Start(t, r.source, r.lane)
	return r
}

// address is where the source listens.
func (r *rig) address() net.Addr { return r.source.Addresses()[0] }

// dial connects to the source.
func (r *rig) dial() net.Conn {
	r.t.Helper()
	return dial(r.t, r.address())
}

func dial(t testing.TB, to net.Addr) net.Conn {
	t.Helper()
	c, err := net.Dial(to.Network(), to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (r *rig) send(c net.Conn, text string) {
	r.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		r.t.Fatal(err)
	}
}

// expect waits until the lane has these values and checks that it has no others.
func (r *rig) expect(values ...string) {
	r.t.Helper()
	r.lane.Wait(len(values))
	if got := r.lane.Values(); !slices.Equal(got, values) {
		r.t.Errorf("records %q, expected %q", got, values)
	}
}

// dropped waits until the metric has a value for the reason.
func (r *rig) dropped(reason string, n int) {
	r.t.Helper()
	count := func() int { return r.drops()[reason] }
	sourcetest.Eventually(r.t, func() bool { return count() >= n }, "%d dropped as %s", n, reason)
	if got := count(); got != n {
		r.t.Errorf("%d dropped as %s, expected %d", got, reason, n)
	}
}

// drops reads the metric of what was not taken, by reason.
func (r *rig) drops() map[string]int {
	found := map[string]int{}
	children := make(chan prometheus.Metric, 100)
	r.metrics.SocketDropped.Collect(children)
	close(children)
	for child := range children {
		var m dto.Metric
		if err := child.Write(&m); err != nil {
			r.t.Fatal(err)
		}
		found[m.Label[0].GetValue()] = int(m.Counter.GetValue())
	}
	return found
}

// droppedNothing checks that no reason has been counted.
func (r *rig) droppedNothing() {
	r.t.Helper()
	if drops := r.drops(); len(drops) != 0 {
		r.t.Errorf("dropped: %v", drops)
	}
}

// closed waits until the source has closed the connection.
func (r *rig) closed(c net.Conn) {
	r.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, c); isTimeout(err) {
		r.t.Fatalf("the connection is open; %d bytes were read", n)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// connections waits until the source has that many.
func (r *rig) connections(n int) {
	r.t.Helper()
	sourcetest.Eventually(r.t, func() bool { return len(r.source.Connections()) == n }, "%d connections", n)
}

// harness runs the suite of all sources over TCP.
type harness struct {
	config Config
	folder string // of the spool

	current *opened
	inputs  map[int]net.Conn
	waiting map[int][]string // fed before the source was made
}

func TestSuite(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Harness {
		h := &harness{config: settings(t), folder: filepath.Join(t.TempDir(), "spool"), waiting: map[int][]string{}}
		h.config.Framing = framing.OctetCounting
		return h
	})
}

func (h *harness) New(t testing.TB, saved []record.Checkpoint) sourcetest.Source {
	if h.current != nil {
		h.current.Close() // the next start of the agent comes after the last one's end
	}
	h.config.Metrics = metric.New()
	sc := spoolSettings(&h.config, h.folder)
	sc.Saved = saved
	h.current, h.inputs = open(t, h.config, sc), map[int]net.Conn{}
	for input, lines := range h.waiting {
		go h.write(t, h.input(t, input), lines) // the connection waits to be accepted
	}
	h.waiting = map[int][]string{}
	return h.current
}

func (h *harness) input(t testing.TB, input int) net.Conn {
	if h.inputs[input] == nil {
		h.inputs[input] = dial(t, h.current.Addresses()[0])
	}
	return h.inputs[input]
}

func (h *harness) write(t testing.TB, c net.Conn, lines []string) {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%d %s", len(l), l)
	}
	if _, err := io.WriteString(c, b.String()); err != nil {
		t.Error(err)
	}
}

// Feed sends, and waits until what it sent is accepted.
func (h *harness) Feed(t testing.TB, input int, lines ...string) {
	if h.current == nil {
		h.waiting[input] = append(h.waiting[input], lines...)
		return
	}
	c := h.input(t, input)
	before := h.accepted(c)
	h.write(t, c, lines)
	sourcetest.Eventually(t, func() bool { return h.accepted(c) >= before+int64(len(lines)) }, "%d lines accepted", len(lines))
}

func (h *harness) accepted(c net.Conn) int64 {
	for _, status := range h.current.Connections() {
		if status.Peer == c.LocalAddr().String() {
			return status.Records
		}
	}
	return 0
}
