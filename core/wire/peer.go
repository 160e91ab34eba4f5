package wire

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
)

// Peer is the process at the other end of a unix socket, as the kernel knows it.
type Peer struct {
	PID int
	UID uint32
	GID uint32
}

// AuthType names the way of authentication.
func (Peer) AuthType() string { return "unix-peer" }

// SocketCredentials returns credentials for unix sockets: nothing is encrypted,
// the kernel says who the peer is (SO_PEERCRED), and check decides; nil accepts
// everybody. They also enlarge the socket's buffers.
func SocketCredentials(check func(Peer) error) credentials.TransportCredentials {
	return &socketCredentials{check: check}
}

type socketCredentials struct {
	check func(Peer) error
}

func (c *socketCredentials) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.handshake(conn)
}

func (c *socketCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.handshake(conn)
}

func (c *socketCredentials) handshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, fmt.Errorf("a plugin's connection is a %T, not a unix socket", conn)
	}
	if err := enlarge(socket); err != nil {
		return nil, nil, err
	}
	peer, err := peerOf(socket)
	if err != nil {
		return nil, nil, fmt.Errorf("ask who is at the other end of the plugin's socket: %w", err)
	}
	if c.check != nil {
		if err := c.check(peer); err != nil {
			return nil, nil, fmt.Errorf("refuse process %d at the plugin's socket: %w", peer.PID, err)
		}
	}
	return conn, authInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, Peer: peer}, nil
}

// enlarge asks for larger buffers; the kernel grants what net.core.wmem_max and rmem_max allow.
func enlarge(socket *net.UnixConn) error {
	if err := socket.SetWriteBuffer(socketBuffer); err != nil {
		return fmt.Errorf("enlarge the send buffer of the plugin's socket: %w", err)
	}
	if err := socket.SetReadBuffer(socketBuffer); err != nil {
		return fmt.Errorf("enlarge the receive buffer of the plugin's socket: %w", err)
	}
	return nil
}

func (c *socketCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix-peer"}
}

func (c *socketCredentials) Clone() credentials.TransportCredentials {
	clone := *c
	return &clone
}

func (c *socketCredentials) OverrideServerName(string) error { return nil }

// authInfo carries the peer in a connection's context.
type authInfo struct {
	credentials.CommonAuthInfo
	Peer
}
