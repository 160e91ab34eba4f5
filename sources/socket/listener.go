package socket

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/barnabas-agent/barnabas/sources/socket/framing"
)

// acceptor is what TCP's and unix's listeners have beyond net.Listener.
type acceptor interface {
	net.Listener
	SetDeadline(t time.Time) error
}

// accept admits connections until soft ends, and returns when all of them have ended.
func (s *Source) accept(soft, hard context.Context, listener net.Listener) error {
	l := listener.(acceptor)
	var connections sync.WaitGroup
	defer connections.Wait()
	defer listener.Close() // before the wait: whom nobody will serve is refused
	defer context.AfterFunc(soft, func() { _ = l.SetDeadline(time.Now()) })()
	var failing backoff
	for {
		s.awaitPlace(soft)
		socket, err := l.Accept()
		switch {
		case err == nil:
			failing.reset()
			s.admit(soft, hard, socket, &connections)
		case soft.Err() != nil:
			s.emptyBacklog(soft, hard, l, &connections)
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
		default:
			// Mostly EMFILE: the connection waits in the kernel's queue.
			s.notices.say(slog.LevelError, "accepting connections failed: it is tried again", "error", err)
			pause(soft, &failing)
		}
	}
}

// awaitPlace leaves connections beyond the limit in the kernel's queue for a while:
// after a restart all senders come at once, and short connections soon make room.
func (s *Source) awaitPlace(ctx context.Context) {
	var patience <-chan time.Time
	for {
		s.mu.Lock()
		full, changed := len(s.connections) >= s.most, s.ended
		s.mu.Unlock()
		if !full {
			return
		}
		if patience == nil {
			timer := time.NewTimer(s.patience.place)
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case <-changed:
		case <-patience:
			return
		case <-ctx.Done():
			return
		}
	}
}

// emptyBacklog admits the connections that the kernel has made already. Those of
// systemd's sockets wait for the next agent.
func (s *Source) emptyBacklog(soft, hard context.Context, l acceptor, connections *sync.WaitGroup) {
	if s.config.Listen.Network == Systemd || l.SetDeadline(time.Now().Add(s.patience.backlog)) != nil {
		return
	}
	for {
		socket, err := l.Accept()
		if err != nil {
			return
		}
		s.admit(soft, hard, socket, connections)
	}
}

// admit begins to serve a connection, or closes it and counts why.
func (s *Source) admit(soft, hard context.Context, socket net.Conn, connections *sync.WaitGroup) {
	peer := peerOf(socket)
	c, reason, err := s.newConnection(socket, peer)
	if c == nil {
		_ = socket.Close()
		s.meter.drop(reason, 1)
		s.notices.say(slog.LevelWarn, "connection refused", "peer", peer, "reason", reason, "error", err)
		return
	}
	s.meter.connections.Inc()
	connections.Go(func() {
		defer s.forget(c)
		c.run(soft, hard)
	})
}

// newConnection returns the connection, registered, or the reason for which it is refused.
func (s *Source) newConnection(socket net.Conn, peer string) (c *connection, reason string, err error) {
	if address, err := netip.ParseAddrPort(socket.RemoteAddr().String()); err == nil && !s.allow.allows(address.Addr()) {
		return nil, dropNotAllowed, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.connections) >= s.most {
		return nil, dropTooMany, nil
	}
	if tcp, is := socket.(*net.TCPConn); is {
		if err := tcp.SetKeepAliveConfig(s.patience.keepAlive); err != nil {
			return nil, dropUnusable, err
		}
	}
	w, err := newWire(socket)
	if err != nil {
		return nil, dropUnusable, err
	}
	c = &connection{
		source: s, wire: w, peer: peer,
		cutter: framing.NewCutter(s.config.Framing, s.config.MaxFrame),
	}
	s.connections[c] = struct{}{}
	return c, "", nil
}

func (s *Source) forget(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.connections, c)
	close(s.ended)
	s.ended = make(chan struct{})
	s.meter.connections.Dec()
}
