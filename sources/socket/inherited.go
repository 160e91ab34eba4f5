package socket

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Inherited is what systemd has handed over to this process (sd_listen_fds(3)).
// The descriptors stay open as long as the process: connections that arrive while
// no source takes them wait in the kernel, and systemd holds the same sockets.
type Inherited struct {
	files []*os.File // named by FileDescriptorName=; open for good
}

// Inherit takes over the descriptors. Call it once in a process, before it starts
// others, to which the variables of the environment do not belong any more.
func Inherit() *Inherited { return &Inherited{files: activation.Files(true)} }

// named returns the descriptors of that name.
func (i *Inherited) named(name string) ([]*os.File, error) {
	var found []*os.File
	var known []string
	if i != nil {
		for _, f := range i.files {
			known = append(known, f.Name())
			if f.Name() == name {
				found = append(found, f)
			}
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	if len(known) == 0 {
		return nil, fmt.Errorf("systemd handed over no socket: start the agent by its unit, with a socket unit whose Service= or name is the unit's")
	}
	slices.Sort(known)
	return nil, fmt.Errorf("systemd handed over no socket of that name, only %s: FileDescriptorName= of the socket unit gives the name", strings.Join(slices.Compact(known), ", "))
}

// AllUDP says that l is UDP sockets of systemd's and nothing else.
func (i *Inherited) AllUDP(l Listen) bool {
	if l.Network != Systemd {
		return false
	}
	files, err := i.named(l.Address)
	if err != nil {
		return false
	}
	for _, f := range files {
		fd := int(f.Fd())
		kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		family, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if kind != unix.SOCK_DGRAM || family == unix.AF_UNIX {
			return false
		}
	}
	return true
}

// openInherited makes listeners and datagram sockets of the descriptors of that
// name, each with a descriptor of its own, so that closing it closes nothing of systemd's.
func openInherited(inherited *Inherited, name string) (listeners []net.Listener, sockets []net.PacketConn, err error) {
	files, err := inherited.named(name)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range files {
		kind, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_TYPE)
		if err != nil {
			return listeners, sockets, fmt.Errorf("what systemd handed over is not a socket: %w", err)
		}
		if kind == unix.SOCK_DGRAM {
			socket, err := net.FilePacketConn(f)
			if err != nil {
				return listeners, sockets, err
			}
			sockets = append(sockets, socket)
			continue
		}
		listener, err := net.FileListener(f)
		if err != nil {
			return listeners, sockets, fmt.Errorf("%w: with Accept=yes systemd hands over connections, and the agent wants the socket: leave it out", err)
		}
		listeners = append(listeners, listener)
	}
	return listeners, sockets, nil
}

// checkInherited asks of systemd's sockets what the configuration asks of the others,
// whose addresses are written in it.
func (s *Source) checkInherited() error {
	if s.config.Listen.Network != Systemd || s.certificates != nil || s.config.Allow != nil {
		return nil
	}
	for _, address := range s.Addresses() {
		if at, err := netip.ParseAddrPort(address.String()); err == nil && !at.Addr().Unmap().IsLoopback() {
			return fmt.Errorf("the socket of systemd's on %s is open beyond loopback, and anybody could send records: "+
				"write allow with the networks of the senders, or tls", address)
		}
	}
	return nil
}
