package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// dialTimeout is how long the process may take to accept a connection.
const dialTimeout = 5 * time.Second

// dialOptions are those of every connection to the process.
func (i *instance) dialOptions(transport *wire.Transport) []grpc.DialOption {
	return append(transport.DialOptions(wire.SocketCredentials(i.checkPeer)),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: dialTimeout}),
		grpc.WithChainUnaryInterceptor(boundCalls),
	)
}

// dial opens a connection of its own to the process: a lane's records are never
// in the way of control calls nor of other lanes.
func (i *instance) dial(transport *wire.Transport) (*grpc.ClientConn, error) {
	var dialer net.Dialer
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", i.address)
	}
	return grpc.NewClient("passthrough:///plugin", append(i.dialOptions(transport), grpc.WithContextDialer(dial))...)
}

// boundCalls gives go-plugin's own calls a deadline: it sends them without, and
// a stopped process would never answer.
func boundCalls(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, options ...grpc.CallOption) error {
	var limit time.Duration
	switch method {
	case "/plugin.GRPCController/Shutdown":
		limit = time.Second
	case "/grpc.health.v1.Health/Check":
		limit = 2 * time.Second
	default:
		return call(ctx, method, request, reply, conn, options...)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return call(ctx, method, request, reply, conn, options...)
}

// controlPlugin gives go-plugin the client of the control calls.
type controlPlugin struct{ plugin.NetRPCUnsupportedPlugin }

// GRPCServer is never called: the host serves nothing.
func (controlPlugin) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("the host serves no plugin")
}

// GRPCClient returns a wirev1.PluginClient.
func (controlPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return wirev1.NewPluginClient(conn), nil
}

// checkPeer accepts the listener only when it is the process that was started,
// or one of its group, under the agent's user.
func (i *instance) checkPeer(peer wire.Peer) error {
	if int(peer.UID) != os.Geteuid() {
		return fmt.Errorf("the listener runs as user %d", peer.UID)
	}
	if i.debug != nil {
		i.debug.peer.Store(int64(peer.PID))
		return nil
	}
	group, err := unix.Getpgid(peer.PID)
	if err != nil {
		return fmt.Errorf("read the listener's process group: %w", err)
	}
	if group != i.run.pid() {
		return fmt.Errorf("the listener is not of the plugin's process group %d", i.run.pid())
	}
	return nil
}
