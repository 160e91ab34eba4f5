package socket

import (
	"net"
	"time"
)

// patience is how long the source waits for its peers, and how much for the disk.
type patience struct {
	frame     time.Duration // from a frame's first byte to its last
	handshake time.Duration // for TLS
	stop      time.Duration // for all that is read after the end of Run's context
	place     time.Duration // for a connection to end, before one beyond the limit is refused
	quiet     time.Duration // for a peer that was told of the end: silent for so long, it has nothing more on its way
	backlog   time.Duration // at the end, for connections that the kernel has made and nobody has accepted
	keepAlive net.KeepAliveConfig

	// receiveBuffer is asked of the kernel for datagrams that arrive while others are
	// written: without a right to it, it is net.core.rmem_max at most.
	receiveBuffer int
}

// documented is what docs/sockets.md says. TCP finds a peer that is gone without a
// word (a cable is unplugged, a firewall forgets) within 75 seconds, idle or not.
func documented() patience {
	return patience{
		frame: 30 * time.Second, handshake: 10 * time.Second,
		place: 5 * time.Second, stop: 2 * time.Second, quiet: 200 * time.Millisecond, backlog: 20 * time.Millisecond,
		keepAlive: net.KeepAliveConfig{Enable: true, Idle: 45 * time.Second, Interval: 10 * time.Second, Count: 3},

		receiveBuffer: 32 << 20,
	}
}
