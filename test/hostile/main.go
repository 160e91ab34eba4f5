// Command hostile is a plugin that does everything a plugin must not do. It
// speaks the protocol without the SDK, so that nothing keeps it from lying.
//
// HOSTILE in its environment names the behaviour. HOSTILE_MARKER names a file: a
// behaviour happens only while the file does not exist, and makes it.
// HOSTILE_ON is a value: a behaviour happens only for batches that hold it.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "unknown argument")
		os.Exit(1)
	}
	h := &hostile{behaviour: os.Getenv("HOSTILE"), marker: os.Getenv("HOSTILE_MARKER"), on: os.Getenv("HOSTILE_ON")}
	if h.beforeHandshake() {
		return
	}
	serve(h, wire.Handshake())
}

// serve serves until the agent ends it.
func serve(h *hostile, handshake plugin.HandshakeConfig) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  handshake,
		VersionedPlugins: map[int]plugin.PluginSet{h.version(): {wire.PluginName: served{hostile: h}}},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, grpc.ForceServerCodec(rawCodec{}), grpc.MaxRecvMsgSize(64<<20), grpc.MaxSendMsgSize(1<<30))...)
		},
	})
}

// hostile is the plugin.
type hostile struct {
	wirev1.UnimplementedPluginServer
	behaviour, marker, on string
	leaked                [][]byte
}

// kind is what the file's name says, as a plugin of that kind would.
func kind() wirev1.StageKind {
	switch name := filepath.Base(os.Args[0]); {
	case strings.Contains(name, "-partitioner-"):
		return wirev1.StageKind_STAGE_KIND_PARTITIONER
	case strings.Contains(name, "-serializer-"):
		return wirev1.StageKind_STAGE_KIND_SERIALIZER
	default:
		return wirev1.StageKind_STAGE_KIND_INTERCEPTOR
	}
}

// Describe declares the columns that most behaviours need. Headers are never declared.
func (h *hostile) Describe(context.Context, *wirev1.DescribeRequest) (*wirev1.Description, error) {
	d := &wirev1.Description{
		Name: "hostile", Version: "6.6.6", Kind: kind(), ProtocolVersions: []uint32{1}, MayDrop: true,
		Reads:  &wirev1.ColumnSet{Value: true},
		Writes: &wirev1.ColumnSet{Value: true, Topic: true, Partition: true, Timestamp: true},
	}
	d.WantsTopology = d.Kind == wirev1.StageKind_STAGE_KIND_PARTITIONER
	switch h.behaviour {
	case "describes another protocol":
		d.ProtocolVersions = []uint32{9}
	case "describes a terminal":
		d.Name = "\x1b[2J"
	}
	return d, nil
}

// Configure does what a plugin could do before its first batch.
func (h *hostile) Configure(context.Context, *wirev1.ConfigureRequest) (*wirev1.ConfigureReply, error) {
	switch h.behaviour {
	case "shows itself":
		return &wirev1.ConfigureReply{}, h.showItself()
	case "forks":
		return &wirev1.ConfigureReply{}, h.fork()
	case "reads stdin":
		return &wirev1.ConfigureReply{}, h.readStdin()
	}
	return &wirev1.ConfigureReply{}, nil
}

// UpdateTopology takes the partition counts and forgets them.
func (*hostile) UpdateTopology(context.Context, *wirev1.Topology) (*wirev1.Empty, error) {
	return &wirev1.Empty{}, nil
}

// Close does nothing.
func (*hostile) Close(context.Context, *wirev1.Empty) (*wirev1.Empty, error) {
	return &wirev1.Empty{}, nil
}

// Lane answers batches, each kept as it is where nothing else is asked for.
func (h *hostile) Lane(stream grpc.BidiStreamingServer[wirev1.Batch, wirev1.Reply]) error {
	for {
		b, err := stream.Recv()
		if err != nil {
			return err
		}
		reply := &wirev1.Reply{Id: b.Id, Count: b.Count}
		if b.Count == 0 || !h.now(b) {
			if err := stream.Send(reply); err != nil {
				return err
			}
			continue
		}
		h.misbehave()
		for _, answer := range h.answers(b, reply) {
			if err := stream.SendMsg(answer); err != nil {
				return err
			}
		}
	}
}

// now reports whether the behaviour is due for the batch.
func (h *hostile) now(b *wirev1.Batch) bool {
	if h.on != "" && !bytes.Contains(b.Value.GetData(), []byte(h.on)) {
		return false
	}
	return h.once()
}

// once reports whether the marker did not exist, and makes it.
func (h *hostile) once() bool {
	if h.marker == "" {
		return true
	}
	file, err := os.OpenFile(h.marker, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false
	}
	file.Close()
	return true
}

// waitForEver waits for a signal that nobody sends.
func waitForEver() {
	never := make(chan os.Signal, 1)
	signal.Notify(never, syscall.SIGUSR2)
	<-never
}

// served is go-plugin's view of the plugin.
type served struct {
	plugin.NetRPCUnsupportedPlugin
	hostile *hostile
}

// GRPCServer registers the plugin.
func (p served) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	wirev1.RegisterPluginServer(s, p.hostile)
	return nil
}

// GRPCClient is the host's.
func (served) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a plugin is no host")
}
