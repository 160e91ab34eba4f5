package socket

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/socket/framing"
)

const (
	// gathered is how many bytes, and gatheredRecords how many datagrams, are held
	// while those before them are written; both of them twice.
	gathered        = 2 << 20
	gatheredRecords = 16 << 10
	// longest is the longest datagram of UDP over IPv4, and batch how many of them
	// one system call reads.
	longest = 65507
	batch   = 32
	// knownPeers bounds the names of peers that are remembered.
	knownPeers = 4096
	// dropsEvery is how often the kernel is asked what it has dropped.
	dropsEvery = time.Second
)

// receiver takes the datagrams of one socket. One goroutine reads, another writes
// what was read to the spool, so that the socket is read while the disk works.
type receiver struct {
	source *Source
	socket net.PacketConn // owned
	raw    syscall.RawConn
	limit  int     // bytes of the longest datagram that is taken
	put    putFunc // UDP's senders can't be made to wait

	lastDrops uint32                    // as the kernel counts them, since the socket was made
	names     map[netip.AddrPort]string // of UDP peers, as they are written; owned by the reader

	mu      sync.Mutex
	filling *gathering    // written by the reader, taken by the writer
	some    chan struct{} // of one element: filling is not empty
	room    chan struct{} // of one element: filling has been taken
}

// gathering is datagrams that were read and not written yet.
type gathering struct {
	bytes   []byte
	entries []spool.Entry
}

func newReceiver(s *Source, socket net.PacketConn) (*receiver, error) {
	raw, err := socket.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	r := &receiver{
		source: s, socket: socket, raw: raw, limit: min(s.config.MaxFrame, longest),
		put: s.config.Spool.Offer, names: make(map[netip.AddrPort]string),
		filling: newGathering(), some: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
	if _, is := socket.(*net.UnixConn); is {
		r.limit, r.put = s.config.MaxFrame, s.config.Spool.Put
	}
	return r, r.prepare()
}

func newGathering() *gathering {
	return &gathering{bytes: make([]byte, 0, gathered), entries: make([]spool.Entry, 0, gatheredRecords)}
}

// prepare asks for a large receive buffer and, of a unix socket, for the senders' credentials.
func (r *receiver) prepare() (err error) {
	_, local := r.socket.(*net.UnixConn)
	failed := r.raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, r.source.patience.receiveBuffer) != nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, r.source.patience.receiveBuffer)
		}
		if err == nil && local {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
		}
	})
	return errors.Join(failed, err)
}

// run reads until soft ends, then what the kernel still holds, and returns when
// all of it is written or hard ends.
func (r *receiver) run(soft, hard context.Context) error {
	defer r.socket.Close()
	defer context.AfterFunc(soft, func() { _ = r.socket.SetReadDeadline(time.Now()) })()
	read := make(chan struct{})
	var group errgroup.Group
	group.Go(func() error { return r.write(hard, read) })
	group.Go(func() error {
		defer close(read)
		if c, is := r.socket.(*net.UDPConn); is {
			return r.readUDP(soft, hard, c)
		}
		return r.readUnix(soft, hard)
	})
	tick := time.NewTicker(dropsEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.countKernelDrops()
		case <-read:
			r.countKernelDrops()
			return group.Wait()
		}
	}
}

// readUDP reads many datagrams with one system call.
func (r *receiver) readUDP(soft, hard context.Context, c *net.UDPConn) error {
	packets := ipv4.NewPacketConn(c) // its batches work for IPv6 as well
	messages := make([]ipv4.Message, batch)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, r.limit+1)} // a byte more shows what is too long
	}
	flags := 0
	for hard.Err() == nil {
		n, err := packets.ReadBatch(messages, flags)
		now := time.Now()
		for i := range max(0, n) {
			m := &messages[i]
			from, _ := m.Addr.(*net.UDPAddr)
			if from == nil {
				continue
			}
			address := from.AddrPort()
			if !r.source.allow.allows(address.Addr()) {
				r.source.meter.drop(dropNotAllowed, 1)
				r.source.notices.say(slog.LevelWarn, "datagram refused: its sender is not in allow", "peer", address.Addr())
				continue
			}
			if r.receive(hard, m.Buffers[0][:min(m.N, len(m.Buffers[0]))], m.Flags&unix.MSG_TRUNC != 0, r.name(address), now) != nil {
				return nil
			}
		}
		switch {
		case err == nil:
		case soft.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) && flags == 0:
			flags = unix.MSG_DONTWAIT
			_ = r.socket.SetReadDeadline(time.Time{})
		case soft.Err() != nil:
			return nil // nothing is left
		default:
			r.source.notices.say(slog.LevelWarn, "reading datagrams failed", "error", err)
			if !pause(soft, &backoff{}) {
				return nil
			}
		}
	}
	return nil
}

// readUnix reads datagrams with the credentials of their senders.
func (r *receiver) readUnix(soft, hard context.Context) error {
	buffer := make([]byte, r.limit+1)
	control := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	var n, controls, flags int
	var err error
	receive := func(fd uintptr) bool {
		n, controls, flags, _, err = unix.Recvmsg(int(fd), buffer, control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	}
	last := false
	for hard.Err() == nil {
		var failed error
		if last {
			failed = r.raw.Control(func(fd uintptr) { receive(fd) })
		} else {
			failed = r.raw.Read(receive)
		}
		switch {
		case failed != nil && soft.Err() != nil && !last:
			last = true
		case (failed != nil || err != nil) && soft.Err() != nil:
			return nil // nothing is left
		case failed != nil || err != nil:
			r.source.notices.say(slog.LevelWarn, "reading datagrams failed", "error", errors.Join(failed, err))
			if !pause(soft, &backoff{}) {
				last = true
			}
		default:
			from := senderOf(control[:controls])
			if r.receive(hard, buffer[:n], flags&unix.MSG_TRUNC != 0, from, time.Now()) != nil {
				return nil
			}
		}
	}
	return nil
}

// senderOf names the sender of a datagram by what the kernel says of it.
func senderOf(control []byte) string {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return "unix:"
	}
	for i := range messages {
		if cred, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			return credentials(cred.Pid, cred.Uid)
		}
	}
	return "unix:"
}

// receive takes one datagram, or counts why it does not.
func (r *receiver) receive(hard context.Context, datagram []byte, cut bool, from string, now time.Time) error {
	switch {
	case cut || len(datagram) > r.limit:
		r.source.meter.drop(dropTruncated, 1)
		r.source.notices.say(slog.LevelWarn, "datagram dropped: it is longer than max_frame", "peer", from)
	case len(datagram) == 0:
		r.source.meter.drop(dropEmpty, 1)
	default:
		return r.gather(hard, from, framing.Datagram(r.source.config.Framing, datagram), now)
	}
	return nil
}

// name writes a peer's address, which is remembered: a busy peer sends many datagrams.
func (r *receiver) name(address netip.AddrPort) string {
	if name, known := r.names[address]; known {
		return name
	}
	if len(r.names) >= knownPeers {
		clear(r.names)
	}
	name := netip.AddrPortFrom(address.Addr().Unmap(), address.Port()).String()
	r.names[address] = name
	return name
}

// gather copies a datagram to those that wait for the writer. While they have no
// room, the kernel keeps what comes, and counts what it can't keep.
func (r *receiver) gather(hard context.Context, from string, datagram []byte, now time.Time) error {
	for {
		r.mu.Lock()
		g := r.filling
		if cap(g.bytes)-len(g.bytes) >= len(datagram) && len(g.entries) < gatheredRecords || len(g.entries) == 0 {
			start := len(g.bytes)
			g.bytes = append(g.bytes, datagram...)
			g.entries = append(g.entries, spool.Entry{Peer: from, Time: now.UnixMilli(), Value: g.bytes[start:len(g.bytes):len(g.bytes)]})
			r.mu.Unlock()
			signal(r.some)
			return nil
		}
		r.mu.Unlock()
		select {
		case <-r.room:
		case <-hard.Done():
			return hard.Err()
		}
	}
}

// write writes what was gathered, until the reader has ended and nothing is left.
func (r *receiver) write(hard context.Context, read <-chan struct{}) error {
	spare := newGathering()
	for {
		ended := false
		select {
		case <-r.some:
		case <-read:
			ended = true
		}
		r.mu.Lock()
		full := r.filling
		r.filling = spare
		r.mu.Unlock()
		signal(r.room)
		if len(full.entries) > 0 {
			_, _, _ = r.source.keep(hard, r.put, full.entries) // which counts what it can't keep
		}
		full.bytes, full.entries = full.bytes[:0], full.entries[:0]
		spare = full
		if ended {
			return nil
		}
	}
}

// signal leaves one element in a channel of one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// countKernelDrops asks the socket what it has dropped: sk_drops, which SO_RXQ_OVFL
// sends along with the datagrams behind a drop and SO_MEMINFO tells at any time.
func (r *receiver) countKernelDrops() {
	var info *unix.TCPInfo
	err := r.raw.Control(func(fd uintptr) {
		// The option gives nine uint32 (SK_MEMINFO_VARS of linux/sock_diag.h); the one at
		// byte 32 is SK_MEMINFO_DROPS, which is where TCPInfo has Lost.
		info, _ = unix.GetsockoptTCPInfo(int(fd), unix.SOL_SOCKET, unix.SO_MEMINFO)
	})
	if err != nil || info == nil {
		return
	}
	if n := info.Lost - r.lastDrops; n > 0 { // the counter wraps
		r.lastDrops = info.Lost
		r.source.meter.drop(dropKernel, int(n))
		r.source.notices.say(slog.LevelWarn, "the kernel dropped datagrams: the receive buffer was full", "datagrams", n)
	}
}
