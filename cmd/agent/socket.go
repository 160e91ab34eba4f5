package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/barnabas-agent/barnabas/core/admin"
	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/socket"
	"github.com/barnabas-agent/barnabas/sources/socket/framing"
)

// socketSource is source "socket".
type socketSource struct {
	*socket.Source
	spool *spool.Spool
}

func (a *agent) openSocket(ctx context.Context, o origin, s *config.SocketSource) (source, error) {
	listen := socket.Listen{Network: socket.Network(s.Listen.Network), Address: s.Listen.Address}
	// Nobody can have a sender of UDP wait.
	drop := s.Spool.OnFull == config.FullDropNewest || listen.Network == socket.UDP || a.inherited.AllUDP(listen)
	kept, err := a.openSpool(o, config.SourceSocket, s.Spool, int(s.MaxFrame), drop)
	if err != nil {
		return nil, err
	}
	source, err := socket.Open(ctx, socket.Config{
		Pipeline: o.pipeline, Name: o.name,
		Listen: listen, Framing: framingMethod(s.Framing), MaxFrame: int(s.MaxFrame),
		MaxConnections: s.MaxConnections, IdleTimeout: s.IdleTimeout, Allow: s.Allow, Mode: s.Mode, Group: s.Group,
		TLS: socketTLS(s.TLS), Inherited: a.inherited, Once: a.flags.once,
		Spool: kept, Logger: a.log, Metrics: a.metrics, Now: time.Now,
	})
	if err != nil {
		return nil, errors.Join(err, kept.Close())
	}
	a.opened("spool of "+o.name, kept.Close)
	a.opened("source "+o.name, source.Close)
	return socketSource{source, kept}, nil
}

// openSpool opens what keeps the records of a source that can't be read again.
func (a *agent) openSpool(o origin, kind config.SourceKind, c config.Spool, maxEntry int, drop bool) (*spool.Spool, error) {
	return spool.Open(spool.Config{
		Dir: spool.Dir(a.config.Agent.DataDir, o.pipeline, o.name), Kind: string(kind), Host: o.host,
		MaxSize: c.MaxSize, MaxEntry: maxEntry, DropNewest: drop, NoSync: c.Sync == config.SyncNone,
		Once: a.flags.once && kind == config.SourceSocket, // standard input has an end of its own

		Pulse: o.pulse,

		Key: o.prefix, Saved: o.saved, Pipeline: o.pipeline, Name: o.name, Logger: a.log, Metrics: a.metrics,
	})
}

func socketTLS(t *config.SocketTLS) *socket.TLS {
	if t == nil {
		return nil
	}
	return &socket.TLS{CertFile: t.CertFile, KeyFile: t.KeyFile, ClientCAFile: t.ClientCAFile}
}

func framingMethod(f config.Framing) framing.Method {
	switch f {
	case config.FramingNewline:
		return framing.Newline
	case config.FramingOctetCounting:
		return framing.OctetCounting
	case config.FramingSyslog:
		return framing.Syslog
	case config.FramingNUL:
		return framing.NUL
	case config.FramingLengthPrefix:
		return framing.LengthPrefix
	default:
		panic(fmt.Sprintf("BUG: framing %q", f))
	}
}

func (s socketSource) describe(to *admin.Source) {
	kept := s.spool.Status()
	to.LagBytes += kept.Lag
	to.Spool = &admin.Spool{Used: kept.Used, Limit: kept.Limit}
	for _, address := range s.Addresses() {
		to.Listen = address.Network() + "://" + address.String()
	}
	to.Connections, to.Dropped = int64(s.Connected()), s.Dropped()
}

func (s socketSource) problem() string { return s.spool.Status().Problem }
