package socket

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errNothing says that there is nothing to read now.
var errNothing error = nothingError{}

// nothingError is temporary, so that crypto/tls goes on where it was at the next read.
type nothingError struct{}

func (nothingError) Error() string   { return "nothing to read" }
func (nothingError) Timeout() bool   { return true }
func (nothingError) Temporary() bool { return true }

// errCut is the end of a TLS connection that its peer did not announce: anybody on
// the way could have cut it.
var errCut = errors.New("tls: the connection ended without close_notify")

// wire is a stream connection that is waited for without a buffer and read without
// waiting. It is used by one goroutine; deadlines may be set by another.
type wire struct {
	net.Conn // the socket
	raw      syscall.RawConn
	secure   *tls.Conn // nil without TLS; its socket is this wire

	waits bool // Read waits, as crypto/tls needs it during the handshake
	ended bool // the socket has ended
	poll  [1]unix.PollFd

	// Arguments and results of the two functions below, which are made once.
	into  []byte
	n     int
	err   error
	ready func(fd uintptr) bool
	once  func(fd uintptr) bool
}

func newWire(socket net.Conn) (*wire, error) {
	raw, err := socket.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: socket, raw: raw}
	w.ready = func(fd uintptr) bool {
		w.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}
		n, err := unix.Poll(w.poll[:], 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	}
	w.once = func(fd uintptr) bool {
		for {
			w.n, w.err = unix.Read(int(fd), w.into)
			if !errors.Is(w.err, unix.EINTR) {
				return true
			}
		}
	}
	return w, nil
}

// wait returns when there is something to read, the peer's end included, or with
// the deadline's error.
func (w *wire) wait() error { return w.raw.Read(w.ready) }

// Read reads from the socket: crypto/tls calls it. Before waits ends it waits as
// any connection does.
func (w *wire) Read(p []byte) (int, error) {
	if w.waits {
		return w.Conn.Read(p)
	}
	w.into = p
	err := w.raw.Read(w.once)
	w.into = nil
	switch {
	case err != nil:
		return 0, err
	case errors.Is(w.err, unix.EAGAIN):
		return 0, errNothing
	case w.err != nil:
		return 0, w.err
	case w.n == 0:
		w.ended = true
		return 0, io.EOF
	default:
		return w.n, nil
	}
}

// answerTime is how long the peer may take to make room for an answer of TLS's: a
// connection that waits for it holds a buffer on loan.
const answerTime = time.Second

// Write writes to the socket: crypto/tls calls it, and bounds the handshake itself.
func (w *wire) Write(p []byte) (int, error) {
	if !w.waits {
		_ = w.SetWriteDeadline(time.Now().Add(answerTime)) // fails on a closed socket, which the write says
	}
	return w.Conn.Write(p)
}

// next reads what there is, at most a buffer full, without waiting: errNothing says
// that wait is next. io.EOF is an end in good order.
func (w *wire) next(p []byte) (int, error) {
	if w.secure == nil {
		return w.Read(p)
	}
	n, err := w.secure.Read(p)
	switch {
	case errors.Is(err, errNothing):
		return n, errNothing
	case w.ended && err != nil && n == 0:
		return 0, errCut
	default:
		return n, err
	}
}
