package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"google.golang.org/grpc"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

const attachText = `%[1]s %[2]s serves at unix://%[3]s; in another terminal:

  barnabas run --attach PIPELINE/%[1]s=unix://%[3]s

where PIPELINE/%[1]s is the stage of the configuration that uses the plugin. Ctrl-C ends it.
`

// debug serves agents that attach to this process, which has been started by
// hand, one after the other, until SIGINT or SIGTERM. It returns the exit code.
func (p *Program) debug(out, problems io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	slog.SetDefault(slog.New(logHandler(problems, logLevel("debug"))))
	if err := p.serveDebug(ctx, out); err != nil {
		fmt.Fprintf(problems, "%s: %v\n", p.name, err)
		return exitFailed
	}
	return exitDone
}

// serveDebug serves on a socket in a private directory until ctx ends.
func (p *Program) serveDebug(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "barnabas-debug-")
	if err != nil {
		return fmt.Errorf("make a directory for the socket: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var listening net.ListenConfig
	listener, err := listening.Listen(ctx, "unix", filepath.Join(dir, "socket"))
	if err != nil {
		return err
	}
	serving := newServer(p, RegisterOptions{})
	serving.reusable = true
	s := grpc.NewServer(wire.NewTransport().ServerOptions(wire.SocketCredentials(onlyAgent("")))...)
	wirev1.RegisterPluginServer(s, serving)
	if _, err := fmt.Fprintf(out, attachText, p.name, p.version, listener.Addr()); err != nil {
		return errors.Join(err, listener.Close())
	}
	stopped := context.AfterFunc(ctx, s.Stop)
	defer stopped()
	if err := s.Serve(listener); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}
