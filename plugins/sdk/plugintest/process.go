package plugintest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/barnabas-agent/barnabas/core/wire"
)

// startTimeout bounds the start of a plugin's process until its handshake.
const startTimeout = 10 * time.Second

// ErrNotStarted is in the error of a case whose process did not come to its handshake.
var ErrNotStarted = errors.New("the plugin does not start")

// process is a plugin's process that go-plugin started.
type process struct {
	client *plugin.Client
	run    *run // nil when it could not be made
	stdout tail // behind the handshake's line, with what go-plugin's GRPCStdio carries
	stderr tail // likewise
}

// ofBinary starts a binary as the agent does, with nothing of this process's environment but PATH.
func ofBinary(binary string, environment []string) connector {
	return func(context.Context) (*connection, error) {
		p, conn, err := startProcess(binary, environment)
		if err != nil {
			return nil, err
		}
		return &connection{conn: conn, process: p, stop: p.stop}, nil
	}
}

func startProcess(binary string, environment []string) (*process, *grpc.ClientConn, error) {
	p := &process{}
	p.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: map[int]plugin.PluginSet{wire.ProtocolVersion: {}},
		SkipHostEnv:      true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		StartTimeout:     startTimeout,
		Logger:           hclog.NewNullLogger(),
		SyncStdout:       &p.stdout,
		SyncStderr:       &p.stderr,
		GRPCDialOptions:  wire.NewTransport().DialOptions(wire.SocketCredentials(nil)),
		RunnerFunc: func(_ hclog.Logger, added *exec.Cmd, folder string) (runner.Runner, error) {
			command := exec.Command(binary)
			command.Env = append(plain(environment), wire.LogLevelVariable+"=info")
			command.Env = append(command.Env, added.Env...)
			var err error
			p.run, err = newRun(command, folder, &p.stdout, &p.stderr)
			return p.run, err
		},
	})
	protocol, err := p.client.Client()
	if err != nil {
		p.stop()
		return nil, nil, fmt.Errorf("%w: %s: %w%s", ErrNotStarted, binary, err, &p.stderr)
	}
	return p, protocol.(*plugin.GRPCClient).Conn, nil
}

// stop ends the process and waits for it.
func (p *process) stop() {
	p.client.Kill()
	if p.run != nil {
		p.run.end()
	}
}

// plain is the little that a plugin's process gets, and what a test adds.
func plain(environment []string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}, environment...)
}

// describeByCommand runs "<binary> describe".
func describeByCommand(ctx context.Context, binary string, environment []string) ([]byte, error) {
	command := exec.CommandContext(ctx, binary, "describe")
	command.Env = plain(environment)
	command.WaitDelay = time.Second
	var output tail
	command.Stderr = &output
	printed, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("%s describe: %w%s", binary, err, &output)
	}
	return printed, nil
}
