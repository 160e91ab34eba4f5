package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxPath is what sun_path of unix(7) holds, without its NUL.
const maxPath = 107

// path is a unix socket's name in the file system, from bind to remove.
type path struct {
	name   string
	device uint64
	inode  uint64
}

// lockPatience is how long another agent may take to bind its socket.
const lockPatience = 5 * time.Second

// underLock runs do while no other agent looks at or changes sockets in the folder
// of name. The lock is one on the folder, so it leaves no file.
func underLock(name string, do func() error) error {
	folder, err := os.Open(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("folder of the socket: %w", err)
	}
	defer folder.Close()
	ctx, cancel := context.WithTimeout(context.Background(), lockPatience)
	defer cancel()
	for retry := (backoff{}); ; {
		err := unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return do()
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("lock %s: %w", folder.Name(), err)
		case !pause(ctx, &retry):
			return fmt.Errorf("another process holds a lock on %s for longer than %v", folder.Name(), lockPatience)
		}
	}
}

// vacate makes sure that nothing has the name. A socket of which nobody listens any
// more is removed, if it is the agent's own or the agent is root.
func vacate(name string) error {
	var st unix.Stat_t
	switch err := unix.Lstat(name, &st); {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return &fs.PathError{Op: "lstat", Path: name, Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return fmt.Errorf("%s exists and is not a socket: remove it, or choose another path", name)
	}
	live, err := answers(name)
	switch {
	case err != nil:
		return err
	case live:
		return fmt.Errorf("%s is in use: another process listens on it", name)
	case os.Geteuid() != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s is left over from user %d: remove it", name, st.Uid)
	}
	return os.Remove(name)
}

// answers finds out whether some process has the socket open. A socket of the other
// kind answers that it is of the wrong type.
func answers(name string) (bool, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); {
	case errors.Is(err, unix.ECONNREFUSED):
		return false, nil
	case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EPROTOTYPE):
		return true, nil
	default:
		return false, fmt.Errorf("find out whether somebody listens on %s: %w", name, err)
	}
}

// bindUnix returns a bound socket and what to remove at the end. At no time may
// anybody connect whom mode and group do not allow: the socket has the permissions
// of its descriptor when it gets its name, and more only once it has its group.
func bindUnix(l Listen, mode fs.FileMode, group string) (fd int, bound *path, err error) {
	name := l.Address
	if len(name) > maxPath {
		return -1, nil, fmt.Errorf("the path has %d bytes, the system takes %d", len(name), maxPath)
	}
	gid := -1
	if group != "" {
		if gid, err = groupID(group); err != nil {
			return -1, nil, err
		}
	}
	kind := unix.SOCK_STREAM
	if l.Network == Unixgram {
		kind = unix.SOCK_DGRAM
	}
	fd, err = unix.Socket(unix.AF_UNIX, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, err
	}
	err = underLock(name, func() error {
		if err := vacate(name); err != nil {
			return err
		}
		first := mode
		if gid >= 0 {
			first &= 0o700
		}
		if err := unix.Fchmod(fd, uint32(first)); err != nil {
			return fmt.Errorf("set the socket's mode: %w", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
			return fmt.Errorf("bind: %w", err)
		}
		bound, err = permit(name, mode, gid)
		return err
	})
	if err != nil {
		unix.Close(fd)
		if bound != nil {
			bound.remove()
		}
		return -1, nil, err
	}
	return fd, bound, nil
}

func groupID(name string) (int, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("group %q: %w", name, err)
	}
	return strconv.Atoi(g.Gid)
}

// permit gives the socket its group and its mode, from which the process's umask
// may have taken bits. It holds the inode, so no other file gets them.
func permit(name string, mode fs.FileMode, gid int) (*path, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("%s was replaced while it was made", name)
	}
	bound := &path{name: name, device: st.Dev, inode: st.Ino}
	if gid >= 0 {
		if err := unix.Fchownat(fd, "", -1, gid, unix.AT_EMPTY_PATH); err != nil {
			return bound, fmt.Errorf("give the socket to group %d: %w: the agent's user must be in it", gid, err)
		}
	}
	if err := os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode); err != nil {
		return bound, fmt.Errorf("set the socket's mode: %w", err)
	}
	return bound, nil
}

// remove removes the socket's name, unless another socket has it by now. An error
// is not worth a word: the next start recognises what is left.
func (p *path) remove() {
	_ = underLock(p.name, func() error { p.removeLocked(); return nil })
}

func (p *path) removeLocked() {
	var st unix.Stat_t
	if unix.Lstat(p.name, &st) == nil && st.Dev == p.device && st.Ino == p.inode {
		_ = unix.Unlink(p.name)
	}
}

// peerOf names the peer of a connection.
func peerOf(socket net.Conn) string {
	if _, is := socket.(*net.UnixConn); !is {
		return socket.RemoteAddr().String()
	}
	raw, err := socket.(syscall.Conn).SyscallConn()
	if err != nil {
		return "unix:"
	}
	peer := "unix:"
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			peer = credentials(cred.Pid, cred.Uid)
		}
	})
	return peer
}

// listenUnix listens on a unix stream socket.
func listenUnix(l Listen, mode fs.FileMode, group string) (net.Listener, *path, error) {
	fd, bound, err := bindUnix(l, mode, group)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		unix.Close(fd)
		bound.remove()
		return nil, nil, fmt.Errorf("listen: %w", err)
	}
	file := os.NewFile(uintptr(fd), l.String())
	defer file.Close() // FileListener has a descriptor of its own
	listener, err := net.FileListener(file)
	if err != nil {
		bound.remove()
		return nil, nil, err
	}
	return listener, bound, nil
}

// listenUnixgram binds a unix datagram socket, with each datagram's sender.
func listenUnixgram(l Listen, mode fs.FileMode, group string) (net.PacketConn, *path, error) {
	fd, bound, err := bindUnix(l, mode, group)
	if err != nil {
		return nil, nil, err
	}
	file := os.NewFile(uintptr(fd), l.String())
	defer file.Close()
	socket, err := net.FilePacketConn(file)
	if err != nil {
		bound.remove()
		return nil, nil, err
	}
	return socket, bound, nil
}
