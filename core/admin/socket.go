package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

const (
	socketName = "admin.sock"
	// maxSocketPath is what fits into sockaddr_un with its final zero, see unix(7).
	maxSocketPath = 107
)

// socketPath returns the admin socket's path in a data directory, or an error
// where the kernel can't take it.
func socketPath(dataDir string) (string, error) {
	path := filepath.Join(dataDir, socketName)
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("the admin socket's path has %d bytes, and the system takes at most %d: choose a shorter data_dir than %s",
			len(path), maxSocketPath, dataDir)
	}
	return path, nil
}

// listenSocket opens the admin socket for its owner alone. What a killed agent
// left is replaced; a socket that answers, or a file that is none, is not.
func listenSocket(ctx context.Context, dataDir string) (net.Listener, error) {
	path, err := socketPath(dataDir)
	if err != nil {
		return nil, err
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: restrictMode}
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open the admin socket: %w", err)
	}
	return listener, nil
}

// restrictMode sets the mode that bind gives the socket's file, so that there
// is no moment at which others may connect (Linux: unix_bind takes the mode of
// the socket's inode).
func restrictMode(_, _ string, conn syscall.RawConn) error {
	var chmodErr error
	err := conn.Control(func(fd uintptr) { chmodErr = syscall.Fchmod(int(fd), 0o600) })
	return errors.Join(err, chmodErr)
}

// removeStale makes room for the socket.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for an admin socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is not a socket: move it away", path)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("another agent answers on %s", path), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("see whether an agent answers on the admin socket: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the admin socket of an agent that is gone: %w", err)
	}
	return nil
}
