package pluginhost

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// attachPause is between attempts to reach an attached plugin again.
const attachPause = time.Second

// attachment is the connection to a plugin that somebody else started.
type attachment struct {
	conn *grpc.ClientConn // of the control calls; owned
	peer atomic.Int64     // process id of the listener; 0 before the first connection
}

// leave gives the connection up; the process goes on.
func (a *attachment) leave() {
	a.conn.Close() // an error says that it is closed already
}

// attach connects to the plugin that listens at the stage's address.
func (h *Host) attach(ctx context.Context, spec *Spec, logger *slog.Logger) (*instance, error) {
	address := strings.TrimPrefix(strings.TrimPrefix(spec.Attach, "unix:"), "//")
	i := newInstance(&executable{plugin: spec.Plugin, path: address}, logger)
	if !filepath.IsAbs(address) {
		return nil, i.exe.errorf(Missing, "give the address that the plugin prints when it is started with `debug`", "%q is not the path of a unix socket", spec.Attach)
	}
	i.address, i.output, i.debug = address, newOutput(logger), &attachment{}
	var err error
	if i.debug.conn, err = i.dial(h.transport); err != nil {
		return nil, i.exe.errorf(Failed, "give the address that the plugin prints when it is started with `debug`", "it can't be attached to").because(err)
	}
	i.control = wirev1.NewPluginClient(i.debug.conn)
	ctx, cancel := context.WithTimeout(ctx, describeTimeout)
	defer cancel()
	if i.description, err = i.control.Describe(ctx, &wirev1.DescribeRequest{}); err == nil {
		err = boundDescription(i.description)
	}
	if err != nil {
		i.discard()
		return nil, i.exe.errorf(Failed, "start the plugin with `debug`, and give the address that it prints", "nothing that can be used answers at %s", address).because(err)
	}
	return i, nil
}
