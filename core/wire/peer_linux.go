package wire

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerOf asks the kernel who opened the other end.
func peerOf(socket *net.UnixConn) (Peer, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var known *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) {
		known, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Peer{}, err
	}
	if asked != nil {
		return Peer{}, asked
	}
	return Peer{PID: int(known.Pid), UID: known.Uid, GID: known.Gid}, nil
}
