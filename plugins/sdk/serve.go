package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// ServeInterceptor is the main of an interceptor: new makes a plugin whose
// fields hold the defaults, each time a fresh one. name is what configurations
// call the plugin and what follows barnabas-interceptor- in its file's name;
// version is shown to people. It ends the process.
func ServeInterceptor(name, version string, new func() Interceptor) {
	os.Exit(InterceptorProgram(name, version, new).Main(os.Args[1:]))
}

// ServeSerializer is the main of a serializer, as ServeInterceptor.
func ServeSerializer(name, version string, new func() Serializer) {
	os.Exit(SerializerProgram(name, version, new).Main(os.Args[1:]))
}

// ServePartitioner is the main of a partitioner, as ServeInterceptor.
func ServePartitioner(name, version string, new func() Partitioner) {
	os.Exit(PartitionerProgram(name, version, new).Main(os.Args[1:]))
}

// The exit codes of a plugin's process.
const (
	exitDone   = 0
	exitFailed = 1
	exitBroken = 70 // EX_SOFTWARE: a record's function panicked
)

// Main runs the program in this process and returns its exit code. With the
// argument "describe" it prints what the plugin is, as JSON; with "debug" it
// serves agents that attach to it; without arguments the agent that started it.
func (p *Program) Main(args []string) int {
	switch {
	case len(args) == 1 && args[0] == "describe":
		return p.printDescription(os.Stdout, os.Stderr)
	case len(args) == 1 && args[0] == "debug":
		return p.debug(os.Stdout, os.Stderr)
	case len(args) > 0 || os.Getenv(wire.CookieKey) != wire.CookieValue:
		fmt.Fprintf(os.Stderr, helpText, p.name, p.version, p.kindName(), os.Args[0])
		return exitFailed
	default:
		return p.serve()
	}
}

const helpText = `%[1]s %[2]s is a Barnabas %[3]s plugin. The agent starts it; it does nothing by itself.

  %[4]s describe   prints what it is and its configuration, as JSON
  %[4]s debug      serves an agent that attaches to it: run it under a debugger

To use it, name it in a pipeline of the agent's configuration:

  %[3]s "%[1]s" {
    config = { }
  }
`

// kindName is the kind as the agent's configuration writes it.
func (p *Program) kindName() string {
	switch p.kind {
	case wirev1.StageKind_STAGE_KIND_SERIALIZER:
		return "value_serializer"
	case wirev1.StageKind_STAGE_KIND_PARTITIONER:
		return "partitioner"
	default:
		return "interceptor"
	}
}

func (p *Program) printDescription(out, problems io.Writer) int {
	description, err := p.describe()
	if err == nil {
		var encoded []byte
		encoded, err = protojson.MarshalOptions{Multiline: true, EmitUnpopulated: true}.Marshal(description)
		encoded = append(encoded, '\n')
		if err == nil {
			_, err = out.Write(encoded)
		}
	}
	if err != nil {
		fmt.Fprintf(problems, "describe %s: %v\n", p.name, err)
		return exitFailed
	}
	return exitDone
}

// serve prepares the process and serves until the agent ends it.
func (p *Program) serve() int {
	// The agent decides when a plugin ends: a signal to the whole process group
	// must not cut the drain short.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	debug.SetTraceback("all")
	boundMemory()
	level := logLevel(os.Getenv(wire.LogLevelVariable))
	slog.SetDefault(slog.New(logHandler(os.Stderr, level)))

	proc := &process{program: p, server: newServer(p, RegisterOptions{})}
	proc.server.options = RegisterOptions{
		Poison: os.Getenv(wire.PoisonVariable) == "1",
		Broken: func() { go proc.endBroken() },
	}
	if err := proc.watchLifeline(os.Getenv(wire.LifelineVariable)); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.name, err)
		return exitFailed
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: map[int]plugin.PluginSet{wire.ProtocolVersion: {wire.PluginName: grpcPlugin{server: proc.server}}},
		GRPCServer:       proc.newGRPCServer,
		Logger: hclog.New(&hclog.LoggerOptions{
			Name: p.name, Level: hclog.LevelFromString(level.String()), Output: os.Stderr, JSONFormat: true,
		}),
	})
	if proc.broken.Load() {
		return exitBroken
	}
	return exitDone
}

// process is the plugin's process while it serves. Its goroutines end with it.
type process struct {
	program *Program
	server  *server
	grpc    *grpc.Server // made once, before the first connection
	broken  atomic.Bool  // the process ends because a record's function panicked
}

func (p *process) newGRPCServer(options []grpc.ServerOption) *grpc.Server {
	options = append(options, wire.NewTransport().ServerOptions(wire.SocketCredentials(onlyAgent(os.Getenv(wire.AgentVariable))))...)
	p.grpc = grpc.NewServer(options...)
	return p.grpc
}

// onlyAgent lets in the process that the agent said it is, under the same user
// or as root; where it said nothing, every process of these. A process id of 0
// is one that can't be seen from here, as from a container.
func onlyAgent(pid string) func(wire.Peer) error {
	return func(peer wire.Peer) error {
		if uid := os.Getuid(); uid >= 0 && peer.UID != 0 && peer.UID != uint32(uid) && uid != 0 {
			return fmt.Errorf("it runs as user %d, not as %d or root", peer.UID, uid)
		}
		if pid != "" && peer.PID != 0 && pid != strconv.Itoa(peer.PID) {
			return fmt.Errorf("it is not the agent, which is process %s", pid)
		}
		return nil
	}
}

// lastWords is how long the plugin's Close may take when nobody waits for it,
// and how long an answer may take to leave the process.
const lastWords = time.Second

// endBroken ends the process once the last answers have left it.
func (p *process) endBroken() {
	p.broken.Store(true)
	time.AfterFunc(lastWords, func() { os.Exit(exitBroken) })
	p.grpc.GracefulStop()
	os.Exit(exitBroken)
}

// endOrphaned ends the process after the agent's end.
func (p *process) endOrphaned() {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	time.AfterFunc(lastWords, func() { os.Exit(exitDone) })
	if _, err := p.server.Close(ctx, &wirev1.Empty{}); err != nil {
		slog.Error("close after the agent's end", "error", err)
	}
	os.Exit(exitDone)
}

// grpcPlugin registers the server with go-plugin.
type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

var _ plugin.GRPCPlugin = grpcPlugin{}

// GRPCServer registers the protocol's service.
func (g grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	wirev1.RegisterPluginServer(s, g.server)
	return nil
}

// GRPCClient is for hosts, which have their own.
func (grpcPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.ErrUnsupported
}
