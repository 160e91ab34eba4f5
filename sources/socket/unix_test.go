package socket

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/spool"
)

// unixNetworks are those with a name in the file system.
func unixNetworks() []Network { return []Network{Unix, Unixgram} }

// abandoned leaves a socket file as a killed process does.
func abandoned(t *testing.T, name string, kind int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, kind, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
}

// refuses opens a source that must not open.
func refuses(t *testing.T, l Listen, says string, change ...func(*Config)) {
	t.Helper()
	c := settings(t)
	c.Listen = l
	for _, f := range change {
		f(&c)
	}
	s, err := Open(t.Context(), c)
	if s != nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), l.String()) {
		t.Errorf("%v, expected an error with the address that says %q", err, says)
	}
}

func TestS13StaleSocketFile(t *testing.T) {
	for _, network := range unixNetworks() {
		for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
			name := filepath.Join(t.TempDir(), "s")
			abandoned(t, name, kind)
			r := start(t, listening(network, name))
			r.send(r.dial(), "a\n")
			r.expect("a")
			r.running.Stop()
			if _, err := os.Lstat(name); !os.IsNotExist(err) {
				t.Errorf("the socket is still there after the end: %v", err)
			}
		}
	}
}

func TestS13LiveSocketIsLeftAlone(t *testing.T) {
	for _, network := range unixNetworks() {
		name := filepath.Join(t.TempDir(), "s")
		r := start(t, listening(network, name))
		for _, second := range unixNetworks() {
			refuses(t, Listen{second, name}, "in use")
		}
		r.send(r.dial(), "a\n")
		r.expect("a")
	}
}

func TestS13NothingButASocketIsRemoved(t *testing.T) {
	dir := t.TempDir()
	file, link, target := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "target")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	abandoned(t, target, unix.SOCK_STREAM)
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "link", "fifo"} {
		for _, network := range unixNetworks() {
			refuses(t, Listen{network, filepath.Join(dir, name)}, "is not a socket")
		}
	}
	if text, err := os.ReadFile(file); string(text) != "kept" {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if _, err := os.Lstat(target); err != nil {
		t.Error(err)
	}
}

// At its end a source removes the name that it made, not one that another has since.
func TestNameOfAnotherIsNotRemoved(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	r := start(t, listening(Unix, name))
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	abandoned(t, name, unix.SOCK_STREAM)
	r.running.Stop()
	if _, err := os.Lstat(name); err != nil {
		t.Errorf("the other socket is gone: %v", err)
	}
}

func TestS14ModeAndGroup(t *testing.T) {
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	own := append(groups, os.Getgid())[0]
	for _, network := range unixNetworks() {
		for _, mode := range []os.FileMode{0o600, 0o660, 0o666, 0o777} {
			name := filepath.Join(t.TempDir(), "s")
			start(t, listening(network, name), func(c *Config, _ *spool.Config) {
				c.Mode, c.Group = mode, groupName(t, own)
			})
			info, err := os.Lstat(name)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != mode || int(info.Sys().(*syscall.Stat_t).Gid) != own {
				t.Errorf("mode %v, group %d; expected %v and %d", info.Mode(), info.Sys().(*syscall.Stat_t).Gid, mode, own)
			}
		}
	}
	dir := t.TempDir()
	refuses(t, Listen{Unix, filepath.Join(dir, "s")}, "no-such-group", func(c *Config) { c.Group = "no-such-group" })
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("a start that failed leaves %v, %v", left, err)
	}
}

func groupName(t *testing.T, id int) string {
	t.Helper()
	text, err := os.ReadFile("/etc/group")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Split(line, ":"); len(fields) > 2 && fields[2] == fmt.Sprint(id) {
			return fields[0]
		}
	}
	t.Fatalf("group %d has no name", id)
	return ""
}

func TestS14PathsThatCantBe(t *testing.T) {
	for _, network := range unixNetworks() {
		long := "/tmp/" + strings.Repeat("x", maxPath-4)
		refuses(t, Listen{network, long}, "has 108 bytes, the system takes 107")
		refuses(t, Listen{network, filepath.Join(t.TempDir(), "missing", "s")}, "folder of the socket")
	}
	exact := t.TempDir() + "/"
	exact += strings.Repeat("x", maxPath-len(exact))
	r := start(t, listening(Unix, exact))
	r.send(r.dial(), "a\n")
	r.expect("a")
}

func TestS15PeersAreWhoTheKernelSays(t *testing.T) {
	r := start(t, listening(Unix, filepath.Join(t.TempDir(), "s")))
	r.send(r.dial(), "unix:pid=1,uid=0\n")
	r.expect("unix:pid=1,uid=0")
	if got, want := r.lane.Records()[0].Stream.Origin().Peer, fmt.Sprintf("unix:pid=%d,uid=%d", os.Getpid(), os.Getuid()); got != want {
		t.Errorf("peer %q, expected %q", got, want)
	}
}

// handedOver is what a process has that was started with the sockets' descriptors.
func handedOver(t *testing.T, name string, sockets ...syscall.Conn) *Inherited {
	t.Helper()
	held := &Inherited{}
	for _, s := range sockets {
		raw, err := s.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			copied, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			held.files = append(held.files, os.NewFile(uintptr(copied), name))
		})
	}
	t.Cleanup(func() {
		for _, f := range held.files {
			f.Close()
		}
	})
	return held
}

// S17 under systemd: the socket outlives the source, so who connects while none
// runs is served by the next one.
func TestS17InheritedSocketRefusesNobody(t *testing.T) {
	for _, network := range []Network{TCP, Unix} {
		address := "127.0.0.1:0"
		if network == Unix {
			address = filepath.Join(t.TempDir(), "s")
		}
		l, err := net.Listen(string(network), address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		held := handedOver(t, "syslog.socket", l.(syscall.Conn))
		inherit := func(c *Config, _ *spool.Config) {
			c.Listen, c.Inherited = Listen{Systemd, "syslog.socket"}, held
		}
		first := start(t, inherit)
		first.send(dial(t, l.Addr()), "first\n")
		first.expect("first")
		first.running.Stop()
		first.source.Close()
		between := dial(t, l.Addr())
		first.send(between, "between\n")
		second := start(t, inherit)
		second.expect("between")
		second.send(between, "after\n")
		second.expect("between", "after")
		if network == Unix {
			if _, err := os.Lstat(address); err != nil {
				t.Errorf("systemd's socket has lost its name: %v", err)
			}
		}
	}
}

func TestInheritedDatagrams(t *testing.T) {
	var addresses []net.Addr
	var sockets []syscall.Conn
	for range 2 { // one unit may have several sockets of one name
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		addresses = append(addresses, c.LocalAddr())
		sockets = append(sockets, c.(syscall.Conn))
	}
	held := handedOver(t, "in", sockets...)
	r := start(t, func(c *Config, _ *spool.Config) { c.Listen, c.Inherited = Listen{Systemd, "in"}, held })
	for n, a := range addresses {
		r.send(dial(t, a), fmt.Sprint(n))
		r.lane.Wait(n + 1)
	}
	r.expect("0", "1")
	refuses(t, Listen{Systemd, "out"}, "only in", func(c *Config) { c.Inherited = held })
	refuses(t, Listen{Systemd, "out"}, "handed over no socket", func(*Config) {})
}

// What listening beyond loopback asks for, it asks for whoever has opened the socket.
func TestInheritedSocketsBeyondLoopbackNeedAllowOrTLS(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "[::]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		held := handedOver(t, "in", l.(syscall.Conn))
		refuses(t, Listen{Systemd, "in"}, "beyond loopback", func(c *Config) { c.Inherited = held })
		r := start(t, func(c *Config, _ *spool.Config) {
			c.Listen, c.Inherited, c.Allow = Listen{Systemd, "in"}, held, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		})
		r.send(dial(t, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: l.Addr().(*net.TCPAddr).Port}), "a\n")
		r.expect("a")
	}
}
