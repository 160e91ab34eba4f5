package plugintest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	"github.com/barnabas-agent/barnabas/core/wire"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// Constructor makes a plugin whose fields hold the defaults, as in the plugin's main.
type Constructor interface {
	func() sdk.Interceptor | func() sdk.Serializer | func() sdk.Partitioner
}

// programOf wraps a constructor as the plugin's main does.
func programOf[C Constructor](new C) *sdk.Program {
	switch f := any(new).(type) {
	case func() sdk.Interceptor:
		return sdk.InterceptorProgram("plugintest", "0.0.0", f)
	case func() sdk.Serializer:
		return sdk.SerializerProgram("plugintest", "0.0.0", f)
	case func() sdk.Partitioner:
		return sdk.PartitionerProgram("plugintest", "0.0.0", f)
	default:
		panic(fmt.Sprintf("BUG: a constructor of type %T", new))
	}
}

// inProcess serves a program in this process, over a unix socket as a plugin's process does.
func inProcess(p *sdk.Program, poison bool) connector {
	return func(ctx context.Context) (*connection, error) {
		folder, err := os.MkdirTemp("", "plugintest") // a socket's path must be short, so it is no t.TempDir
		if err != nil {
			return nil, err
		}
		path := filepath.Join(folder, "socket")
		listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(folder))
		}
		transport, creds := wire.NewTransport(), wire.SocketCredentials(nil)
		server := grpc.NewServer(transport.ServerOptions(creds)...)
		p.Register(server, sdk.RegisterOptions{Poison: poison})
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = server.Serve(listener) // ends with Stop
		}()
		stopServer := func() {
			server.Stop()
			<-served
			_ = os.RemoveAll(folder)
		}
		conn, err := grpc.NewClient("unix:"+path, transport.DialOptions(creds)...)
		if err != nil {
			stopServer()
			return nil, err
		}
		return &connection{conn: conn, stop: func() {
			_ = conn.Close()
			stopServer()
		}}, nil
	}
}
