//go:build !linux

package wire

import "net"

// peerOf knows nobody where the kernel can't be asked: plugins can be built and
// tried there, and a check of the zero Peer refuses them.
func peerOf(*net.UnixConn) (Peer, error) { return Peer{}, nil }
