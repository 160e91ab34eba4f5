// Package socket is the source of what is sent to a socket: TCP and unix streams
// cut into frames, UDP and unix datagrams, on sockets of its own or systemd's.
//
// Nobody acknowledges anything to a sender here. What the agent promises begins
// where a record is accepted: when the spool has it, as durable as the spool's
// sync makes it (account). From there on it is delivered like a file's line. What is read
// and can't be accepted is dropped and counted, never silently.
//
// One goroutine per listener accepts, one per connection reads, cuts and appends
// in turn; a connection holds a buffer only for a turn (turn). Per datagram socket
// one goroutine reads and another writes to the spool. All backpressure is the
// spool's: while it is full its callers wait, so streams are not read, and datagrams
// stay in the kernel until there, too, is no room.
//
// # The end
//
// When Run's context ends, listeners close, connections are told and read until
// their peer ends or is silent between two frames, and datagrams are read as far as
// the kernel has them; all of it for a bounded time (patience.stop). The spool's Run makes
// durable what this took.
package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/socket/framing"
)

// otherDescriptors is how many descriptors are left to all but connections, so
// that metrics can be read and files opened whatever connects.
const otherDescriptors = 512

// Config is all that a source needs. Listen, MaxFrame, Spool, Logger, Metrics and
// Now must be set, MaxConnections for streams.
type Config struct {
	Pipeline string // label of the metrics
	Name     string // label of the metrics

	Listen         Listen
	Framing        framing.Method
	MaxFrame       int // bytes of a record
	MaxConnections int
	IdleTimeout    time.Duration  // 0: none
	Allow          []netip.Prefix // nil: all
	Mode           fs.FileMode    // of a unix socket
	Group          string         // of a unix socket; "": the process's
	TLS            *TLS           // nil: plaintext
	Inherited      *Inherited     // of systemd; nil: nothing
	Once           bool           // open no socket: deliver what the spool holds

	Spool *spool.Spool // not owned: whoever opened it closes it after the source

	Logger  *slog.Logger
	Metrics *metric.Table
	Now     func() time.Time

	patience *patience // nil: as documented
}

// Source takes records from one socket. Run is called once; the other methods may
// be called concurrently with it and after it.
type Source struct {
	config       Config
	log          *slog.Logger
	notices      *notices
	meter        *meter
	allow        allowList
	certificates *certificates // nil: plaintext
	patience     patience
	turns        *turns
	most         int // connections

	listeners []net.Listener // owned
	receivers []*receiver    // owned
	bound     *path          // of a unix socket that the source made

	mu          sync.Mutex
	connections map[*connection]struct{}
	ended       chan struct{} // closed and replaced when a connection ends
}

// Open checks the configuration, reads the certificates, and binds the socket,
// whose peers wait until Run. Its errors name the address.
func Open(ctx context.Context, config Config) (*Source, error) {
	s := &Source{
		config: config, log: config.Logger, notices: newNotices(config.Logger.With("listen", config.Listen.String())),
		meter: newMeter(config.Metrics, config.Pipeline, config.Name), allow: config.Allow,
		patience: documented(), turns: newTurns(config.MaxFrame), connections: make(map[*connection]struct{}), ended: make(chan struct{}),
	}
	s.log = s.log.With("listen", config.Listen.String())
	if config.patience != nil {
		s.patience = *config.patience
	}
	if config.Once {
		return s, nil
	}
	if err := s.open(ctx); err != nil {
		s.closeSockets()
		return nil, fmt.Errorf("listen on %s: %w", config.Listen, err)
	}
	return s, nil
}

func (s *Source) open(ctx context.Context) error {
	if err := s.limitConnections(); err != nil {
		return err
	}
	if s.config.TLS != nil {
		var err error
		if s.certificates, err = newCertificates(*s.config.TLS, s.notices, s.config.Now); err != nil {
			return err
		}
	}
	sockets, err := s.bind(ctx)
	for _, socket := range sockets {
		r, failed := newReceiver(s, socket)
		s.receivers = append(s.receivers, r)
		err = errors.Join(err, failed)
	}
	if err != nil {
		return err
	}
	if len(sockets) > 0 && (s.certificates != nil || s.config.Framing == framing.OctetCounting || s.config.Framing == framing.LengthPrefix) {
		return errors.New("datagrams have neither tls nor a framing that counts")
	}
	return s.checkInherited()
}

// bind opens the listeners and returns the datagram sockets.
func (s *Source) bind(ctx context.Context) (sockets []net.PacketConn, err error) {
	var listener net.Listener
	var socket net.PacketConn
	switch l := s.config.Listen; l.Network {
	case TCP:
		listener, err = new(net.ListenConfig).Listen(ctx, string(l.Network), l.Address)
	case UDP:
		socket, err = new(net.ListenConfig).ListenPacket(ctx, string(l.Network), l.Address)
	case Unix:
		listener, s.bound, err = listenUnix(l, s.config.Mode, s.config.Group)
	case Unixgram:
		socket, s.bound, err = listenUnixgram(l, s.config.Mode, s.config.Group)
	case Systemd:
		s.listeners, sockets, err = openInherited(s.config.Inherited, l.Address)
		return sockets, err
	default:
		err = fmt.Errorf("network %q is unknown", l.Network)
	}
	if err != nil {
		return nil, err
	}
	if socket != nil {
		return []net.PacketConn{socket}, nil
	}
	s.listeners = []net.Listener{listener}
	return nil, nil
}

// limitConnections keeps connections from taking all descriptors of the process.
func (s *Source) limitConnections() error {
	s.most = s.config.MaxConnections
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of descriptors: %w", err)
	}
	room := max(1, int(min(limit.Cur, 1<<30))-otherDescriptors)
	if s.most > room {
		s.log.Warn("max_connections is above what the limit of descriptors allows: raise it (LimitNOFILE= of the unit, ulimit -n)",
			"max_connections", s.most, "in_force", room, "descriptors", limit.Cur)
		s.most = room
	}
	return nil
}

// Addresses are the sockets' own, with the port that the kernel chose.
func (s *Source) Addresses() []net.Addr {
	var all []net.Addr
	for _, l := range s.listeners {
		all = append(all, l.Addr())
	}
	for _, r := range s.receivers {
		all = append(all, r.socket.LocalAddr())
	}
	return all
}

// Run takes what is sent until ctx ends, and passes the spool's records to the lanes.
func (s *Source) Run(ctx context.Context, lanes []record.Lane) error {
	return s.config.Spool.Run(ctx, lanes, s.serve)
}

// serve takes what is sent until soft ends, and returns when all that it took is
// appended, or given up after patience.stop.
func (s *Source) serve(soft context.Context) error {
	hard, cancel := context.WithCancel(context.WithoutCancel(soft))
	defer cancel()
	defer context.AfterFunc(soft, func() {
		end := time.AfterFunc(s.patience.stop, cancel)
		context.AfterFunc(hard, func() { end.Stop() })
		s.wake()
	})()
	for _, address := range s.Addresses() {
		s.log.Info("listening", "network", address.Network(), "address", address.String())
	}
	var group errgroup.Group
	for _, l := range s.listeners {
		group.Go(func() error { return s.accept(soft, hard, l) })
	}
	for _, r := range s.receivers {
		group.Go(func() error { return r.run(soft, hard) })
	}
	err := group.Wait()
	if s.bound != nil {
		s.bound.remove()
	}
	return err
}

// wake lets every connection see that the end has come.
func (s *Source) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.connections {
		_ = c.wire.SetReadDeadline(time.Now()) // fails on a closed socket, whose connection needs no waking
	}
}

// putFunc is a spool's Put or Offer.
type putFunc func(ctx context.Context, entries []spool.Entry) (taken int, end int64, err error)

// keep gives entries to the spool, with one of its methods, and counts what it does not take. taken is how
// many it has, which are accepted once it is durable up to end; an error says that
// the connection can't go on.
func (s *Source) keep(ctx context.Context, put putFunc, entries []spool.Entry) (taken int, end int64, err error) {
	taken, end, err = put(ctx, entries)
	lost := len(entries) - taken
	switch {
	case err == nil:
	case errors.Is(err, spool.ErrFull):
		s.meter.drop(dropFull, lost)
		s.notices.say(slog.LevelWarn, "records dropped: the spool is full", "records", lost)
		err = nil
	case ctx.Err() != nil || errors.Is(err, spool.ErrClosed):
		s.meter.drop(dropStopped, lost)
		s.notices.say(slog.LevelWarn, "records dropped: the agent stops and the spool did not take them", "records", lost)
		err = errStopped
	default:
		s.meter.drop(dropFailed, lost)
		s.notices.say(slog.LevelError, "records dropped: the spool failed", "records", lost, "error", err)
	}
	return taken, end, err
}

// ConnectionStatus is what one connection has sent that was accepted.
type ConnectionStatus struct {
	Peer    string `json:"peer"`
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"`
}

// Connections returns those that are open, ordered by peer.
func (s *Source) Connections() []ConnectionStatus {
	durable := s.config.Spool.Durable()
	s.mu.Lock()
	all := make([]ConnectionStatus, 0, len(s.connections))
	for c := range s.connections {
		accepted := c.account.settle(durable)
		all = append(all, ConnectionStatus{c.peer, accepted.records, accepted.bytes})
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b ConnectionStatus) int { return strings.Compare(a.Peer, b.Peer) })
	return all
}

// Connected returns how many connections are open.
func (s *Source) Connected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connections)
}

// Dropped returns how many connections, frames and datagrams were not taken.
func (s *Source) Dropped() int64 { return s.meter.total.Load() }

// Checkpoint implements pipeline.Source: the positions are the spool's.
func (s *Source) Checkpoint(dst []record.Checkpoint) []record.Checkpoint {
	return s.config.Spool.Checkpoint(dst)
}

// Committed implements pipeline.Source.
func (s *Source) Committed() { s.config.Spool.Committed() }

// Close closes the sockets where Run has not.
func (s *Source) Close() error {
	s.closeSockets()
	return nil
}

// closeSockets may be called again: a closed socket stays closed.
func (s *Source) closeSockets() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
	for _, r := range s.receivers {
		_ = r.socket.Close()
	}
	if s.bound != nil {
		s.bound.remove()
	}
}
