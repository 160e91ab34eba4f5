package socket

import (
	"fmt"
	"net/netip"
)

// Network is the kind of a listening socket.
type Network string

// The networks.
const (
	TCP      Network = "tcp"
	UDP      Network = "udp"
	Unix     Network = "unix"
	Unixgram Network = "unixgram"
	Systemd  Network = "systemd" // handed over by systemd, of any of the kinds above
)

// Listen says where a source listens.
type Listen struct {
	Network Network
	Address string // host:port, an absolute path, or the name that systemd gave the socket
}

// String is the address as it is written in a configuration.
func (l Listen) String() string { return string(l.Network) + "://" + l.Address }

// allowList is the peers that may send; nil allows all. Peers of unix sockets have
// no address: the socket's mode says who they are.
type allowList []netip.Prefix

func (l allowList) allows(address netip.Addr) bool {
	if l == nil || !address.IsValid() {
		return true
	}
	address = address.Unmap().WithZone("")
	for _, prefix := range l {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}

// credentials is the peer of a unix socket, as the kernel knows it.
func credentials(pid int32, uid uint32) string { return fmt.Sprintf("unix:pid=%d,uid=%d", pid, uid) }
