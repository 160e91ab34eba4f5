package socket

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/barnabas-agent/barnabas/core/metric"
)

// Reasons of the metric for what was sent and is not taken. Broken framings have
// those of the package framing. One is a connection, a frame or a datagram.
const (
	dropNotAllowed = "not_allowed"          // a connection or datagram from outside of allow
	dropTooMany    = "too_many_connections" // a connection beyond max_connections
	dropUnusable   = "connection_failed"    // a connection that was gone before it could be served
	dropHandshake  = "tls_handshake"        // a connection that did not become TLS
	dropPartial    = "partial"              // a frame whose connection broke off, or whose end did not come before the agent's
	dropSlow       = "frame_timeout"        // a frame whose end did not come in time
	dropFull       = "spool_full"           // a frame or datagram that the spool had no room for
	dropFailed     = "spool_failed"         // one that could not be written
	dropTruncated  = "truncated"            // a datagram longer than max_frame
	dropEmpty      = "empty"                // a datagram without a byte
	dropKernel     = "kernel"               // a datagram that found the receive buffer full
	dropStopped    = "stopped"              // a frame that was read when the agent stopped, and could not be written
)

// meter holds the source's children of the metric table.
type meter struct {
	connections prometheus.Gauge
	dropped     *prometheus.CounterVec // by reason, of all sources
	total       atomic.Int64           // of this source
}

func newMeter(table *metric.Table, pipeline, source string) *meter {
	return &meter{
		connections: table.SocketConnections.WithLabelValues(pipeline, source),
		dropped:     table.SocketDropped,
	}
}

func (m *meter) drop(reason string, n int) {
	if n > 0 {
		m.total.Add(int64(n))
		m.dropped.WithLabelValues(reason).Add(float64(n))
	}
}

// noticeEvery is how often one thing is said: a flood of connections must not
// become a flood of lines.
const noticeEvery = 10 * time.Second

// notices is a log that says each thing at once and then at most every noticeEvery.
// What peers sent is never said.
type notices struct {
	log *slog.Logger

	mu   sync.Mutex
	said map[string]*said
}

type said struct {
	last time.Time
	more int // not said since
}

func newNotices(log *slog.Logger) *notices {
	return &notices{log: log, said: make(map[string]*said)}
}

// say takes a fixed text and attributes.
func (n *notices) say(level slog.Level, text string, attributes ...any) {
	n.mu.Lock()
	s := n.said[text]
	if s == nil {
		s = &said{}
		n.said[text] = s
	}
	now := time.Now()
	if !s.last.IsZero() && now.Sub(s.last) < noticeEvery {
		s.more++
		n.mu.Unlock()
		return
	}
	if s.more > 0 {
		attributes = append(attributes, "more_like_it", s.more)
	}
	s.last, s.more = now, 0
	n.mu.Unlock()
	n.log.Log(context.Background(), level, text, attributes...)
}
