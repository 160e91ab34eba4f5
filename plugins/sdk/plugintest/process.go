package plugintest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/barnabas-agent/barnabas/core/wire"
)

// startTimeout bounds the start of a plugin's process until its handshake.
const startTimeout = 10 * time.Second

// process is a plugin's process that go-plugin started.
type process struct {
	client   *plugin.Client
	lifeline *os.File // this end; closing it tells the plugin that the agent is gone
	output   *tail
}

// ofBinary starts a binary as the agent does, with nothing of this process's environment but PATH.
func ofBinary(binary string, environment []string) connector {
	return func(context.Context) (*connection, error) {
		p, conn, err := startProcess(binary, environment)
		if err != nil {
			return nil, err
		}
		return &connection{conn: conn, stop: p.stop}, nil
	}
}

func startProcess(binary string, environment []string) (*process, *grpc.ClientConn, error) {
	plugins, ours, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer plugins.Close() // the child has its own
	command := exec.Command(binary)
	command.ExtraFiles = []*os.File{plugins}
	command.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(),
		wire.LifelineVariable + "=3", wire.PoisonVariable + "=1", wire.LogLevelVariable + "=warn",
	}, environment...)
	p := &process{lifeline: ours, output: &tail{}}
	p.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: map[int]plugin.PluginSet{wire.ProtocolVersion: {}},
		Cmd:              command,
		SkipHostEnv:      true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		StartTimeout:     startTimeout,
		Logger:           hclog.NewNullLogger(),
		Stderr:           p.output,
		GRPCDialOptions:  wire.NewTransport().DialOptions(wire.SocketCredentials(nil)),
	})
	protocol, err := p.client.Client()
	if err != nil {
		p.stop()
		return nil, nil, fmt.Errorf("start %s: %w%s", binary, err, p.output)
	}
	return p, protocol.(*plugin.GRPCClient).Conn, nil
}

// stop ends the process and waits for it.
func (p *process) stop() {
	p.client.Kill()
	_ = p.lifeline.Close()
}

// describeByCommand runs "<binary> describe".
func describeByCommand(ctx context.Context, binary string, environment []string) ([]byte, error) {
	command := exec.CommandContext(ctx, binary, "describe")
	command.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}, environment...)
	var output tail
	command.Stderr = &output
	printed, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("%s describe: %w%s", binary, err, &output)
	}
	return printed, nil
}

// tail keeps the end of what a process writes. go-plugin writes to it from one
// goroutine, which has ended when it is read.
type tail struct {
	kept []byte
}

var _ io.Writer = (*tail)(nil)

// tailLength is how many bytes are kept.
const tailLength = 4 << 10

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.kept = append(t.kept, b...)
	if len(t.kept) > tailLength {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-tailLength:]...)
	}
	return len(b), nil
}

// String begins on a line of its own, and is empty for a silent process.
func (t *tail) String() string {
	if len(t.kept) == 0 {
		return ""
	}
	return "\nit wrote: " + strings.TrimSpace(string(t.kept))
}
