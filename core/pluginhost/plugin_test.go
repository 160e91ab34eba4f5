package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// TestMain is also the main of every plugin of these tests: the test binary
// behaves by the name that it is run under.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ExecCommand {
		os.Exit(Exec(os.Args[2:]))
	}
	name := filepath.Base(os.Args[0])
	if behave, ok := behaviours()[name]; ok {
		behave()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// behaviours are the programs that the test binary can be, by file name.
func behaviours() map[string]func() {
	return map[string]func(){
		"barnabas-interceptor-trial": func() {
			sdk.ServeInterceptor("trial", "1.2.3", func() sdk.Interceptor { return &trial{} })
		},
		"barnabas-interceptor-later": func() {
			sdk.ServeInterceptor("trial", "2.0.0", func() sdk.Interceptor { return &trial{Suffix: "?"} })
		},
		"barnabas-interceptor-earlier": func() {
			sdk.ServeInterceptor("trial", "1.2.3", func() sdk.Interceptor { return &trial{Suffix: "!"} })
		},
		"barnabas-interceptor-curious": func() {
			sdk.ServeInterceptor("curious", "1.0.0", func() sdk.Interceptor { return &curious{} })
		},
		"barnabas-interceptor-counting": func() {
			sdk.ServeInterceptor("counting", "1.0.0", func() sdk.Interceptor { return &counting{} })
		},
		"barnabas-serializer-plain": func() {
			sdk.ServeSerializer("plain", "1.0.0", func() sdk.Serializer { return &plain{} })
		},
		"barnabas-partitioner-spread": func() {
			sdk.ServePartitioner("spread", "1.0.0", func() sdk.Partitioner { return &spread{} })
		},
		"barnabas-interceptor-exits":   func() { fmt.Fprintln(os.Stderr, "no licence found"); os.Exit(3) },
		"barnabas-interceptor-garbage": func() { fmt.Println("hello, I am a shell script\x1b[2J"); waitForEver() },
		"barnabas-interceptor-hangs":   waitForEver,
		"barnabas-interceptor-future":  func() { fmt.Println("1|9|unix|/tmp/nowhere|grpc"); waitForEver() },
		"barnabas-interceptor-remote":  func() { fmt.Println("1|1|tcp|127.0.0.1:1|grpc"); waitForEver() },
		"barnabas-interceptor-liar":    func() { serveRaw(&liar{}) },
		"barnabas-interceptor-stuck":   stuck,
		"host-that-is-killed":          hostThatIsKilled,
		"dials-a-plugin":               dialsAPlugin,
	}
}

// waitForEver waits for a signal that nobody sends: select{} would end with a
// deadlock report.
func waitForEver() {
	never := make(chan os.Signal, 1)
	signal.Notify(never, syscall.SIGUSR2)
	<-never
}

// stuck describes itself and then does not serve.
func stuck() {
	if len(os.Args) > 1 {
		os.Exit(sdk.InterceptorProgram("stuck", "1", func() sdk.Interceptor { return &trial{} }).Main(os.Args[1:]))
	}
	waitForEver()
}

// trial is an interceptor that misbehaves as its configuration says. What it
// does once, it does while the file named by Marker does not exist.
type trial struct {
	Suffix string `json:"suffix,omitempty" jsonschema:"maxLength=8"`
	Marker string `json:"marker,omitempty"`

	CrashOn string `json:"crash_on,omitempty"`
	HangOn  string `json:"hang_on,omitempty"`
	StopOn  string `json:"stop_on,omitempty"`
	BreakOn string `json:"break_on,omitempty"`
	RetryOn string `json:"retry_on,omitempty"`
	FailOn  string `json:"fail_on,omitempty"`
	DropOn  string `json:"drop_on,omitempty"`
	Forbid  string `json:"forbid,omitempty"`
	Fork    bool   `json:"fork,omitempty"`
	Flood   bool   `json:"flood,omitempty"`
	Grow    int    `json:"grow,omitempty"`
	GrowOn  string `json:"grow_on,omitempty"`
	ShowEnv string `json:"show_env,omitempty"`

	PanicWhen  string `json:"panic_when,omitempty"`  // each time that a value holds it
	KillWhen   string `json:"kill_when,omitempty"`   // likewise
	HangWhen   string `json:"hang_when,omitempty"`   // likewise
	RetryWhile string `json:"retry_while,omitempty"` // while the file Marker exists, where a value holds it
	DieUnless  string `json:"die_unless,omitempty"`  // soon after it is configured, while this file does not exist
	Nap        int    `json:"nap,omitempty"`         // milliseconds per batch
}

func (p *trial) Configure(context.Context) error {
	if p.Forbid != "" {
		return &sdk.ConfigError{Pointer: "/forbid", Message: "not today"}
	}
	if p.ShowEnv != "" {
		return os.WriteFile(p.ShowEnv, []byte(strings.Join(os.Environ(), "\n")), 0o600)
	}
	if _, err := os.Stat(p.DieUnless); p.DieUnless != "" && err != nil {
		time.AfterFunc(20*time.Millisecond, func() { panic("out of licences") })
	}
	if p.Fork {
		// A grandchild outside the process group that keeps the pipes open.
		cmd := exec.Command("/bin/sleep", "20")
		cmd.Stdout, cmd.Stderr = os.NewFile(1, "stdout"), os.NewFile(2, "stderr")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return err
		}
		return os.WriteFile(p.Marker, fmt.Append(nil, cmd.Process.Pid), 0o600)
	}
	return nil
}

// once reports whether the marker did not exist, and makes it.
func (p *trial) once() bool {
	file, err := os.OpenFile(p.Marker, os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		file.Close()
	}
	return err == nil
}

// misbehave does what a value makes the plugin do each time that it sees it.
func (p *trial) misbehave(value string) error {
	holds := func(trigger string) bool { return trigger != "" && strings.Contains(value, trigger) }
	switch {
	case holds(p.PanicWhen):
		fmt.Fprintln(os.NewFile(2, "stderr"), "looking at "+value)
		panic("can't bear " + value + "\x1b[2J")
	case holds(p.KillWhen):
		fmt.Fprintln(os.NewFile(2, "stderr"), "can't bear "+value+"\x1b[2J")
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case holds(p.HangWhen):
		waitForEver()
	case holds(p.RetryWhile):
		if _, err := os.Stat(p.Marker); err == nil {
			return sdk.RetryLater(errors.New("the registry is down"))
		}
	}
	return nil
}

func (p *trial) OnSend(_ context.Context, b *sdk.Batch) error {
	if p.Nap > 0 {
		<-time.After(time.Duration(p.Nap) * time.Millisecond)
	}
	for i := range b.Len() {
		value := string(b.Value(i))
		if err := p.misbehave(value); err != nil {
			return err
		}
		is := func(trigger string) bool { return trigger != "" && value == trigger }
		switch {
		case is(p.CrashOn) && p.once():
			fmt.Fprintln(os.NewFile(2, "stderr"), "about to crash on "+value)
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case is(p.HangOn) && p.once():
			waitForEver()
		case is(p.StopOn) && p.once():
			syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			waitForEver() // other threads may take the signal, later
		case is(p.BreakOn) && p.once():
			return errors.New("I give up")
		case is(p.RetryOn) && p.once():
			return sdk.RetryLater(errors.New("the registry is down"))
		case p.FailOn != "" && strings.Contains(value, p.FailOn) && (p.Marker == "" || p.once()):
			b.Fail(i, sdk.Errorf("trial.bad", "%s is bad", value))
			continue
		case p.DropOn != "" && strings.Contains(value, p.DropOn):
			b.Drop(i)
			continue
		}
		if p.Flood && i == 0 {
			flood()
		}
		if p.Grow > 0 && (p.GrowOn == "" || is(p.GrowOn)) {
			b.SetValue(i, make([]byte, p.Grow))
		}
		if p.Suffix != "" {
			b.SetValue(i, []byte(value+p.Suffix))
		}
	}
	return nil
}

// flood prints long lines without end, hostile log lines and much of it, on the real descriptors.
func flood() {
	raw := []io.Writer{os.NewFile(1, "stdout"), os.NewFile(2, "stderr")}
	for _, w := range raw {
		fmt.Fprintln(w, `{"@message":1,"@level":{},"@timestamp":[]}`)
		fmt.Fprintln(w, "\x1b[2Jforged\rline")
		io.WriteString(w, strings.Repeat("x", 1<<20))
		for range 2000 {
			io.WriteString(w, "\nanother line")
		}
	}
}

// plain serializes bytes and takes no objects.
type plain struct{}

func (plain) Serialize(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		b.SetPayload(i, append([]byte("p:"), b.Payload(i)...))
	}
	return nil
}

// spread is a partitioner that needs the topology.
type spread struct {
	topology sdk.Topology
	next     atomic.Int32
}

func (p *spread) OnTopology(t sdk.Topology) { p.topology = t }

func (p *spread) Partition(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		n, ok := p.topology.Partitions(b.Topic(i))
		if !ok {
			return fmt.Errorf("the partitions of %s are unknown", b.Topic(i))
		}
		b.SetPartition(i, p.next.Add(1)%n)
	}
	return nil
}

// liar speaks the protocol itself and answers wrongly until its marker exists.
type liar struct {
	wirev1.UnimplementedPluginServer
	config string
}

func (*liar) Describe(context.Context, *wirev1.DescribeRequest) (*wirev1.Description, error) {
	return &wirev1.Description{
		Name: "liar", Version: "0.1", Kind: wirev1.StageKind_STAGE_KIND_INTERCEPTOR, ProtocolVersions: []uint32{1},
		Reads: &wirev1.ColumnSet{Value: true}, Writes: &wirev1.ColumnSet{},
	}, nil
}

func (l *liar) Configure(_ context.Context, r *wirev1.ConfigureRequest) (*wirev1.ConfigureReply, error) {
	l.config = r.Config
	return &wirev1.ConfigureReply{}, nil
}

func (*liar) Close(context.Context, *wirev1.Empty) (*wirev1.Empty, error) {
	return &wirev1.Empty{}, nil
}

func (l *liar) Lane(stream grpc.BidiStreamingServer[wirev1.Batch, wirev1.Reply]) error {
	marker := strings.Split(l.config, `"`)[3]
	if _, err := os.Stat(marker); err != nil && filepath.Base(marker) == "deaf" {
		os.WriteFile(marker, nil, 0o600)
		waitForEver()
	}
	for {
		b, err := stream.Recv()
		if err != nil {
			return err
		}
		reply := &wirev1.Reply{Id: b.Id, Count: b.Count}
		file, err := os.OpenFile(marker, os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			file.Close()
			reply.Count++
		}
		if err := stream.Send(reply); err != nil {
			return err
		}
	}
}

// rawPlugin serves a wirev1.PluginServer as a plugin in another language would.
type rawPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	server wirev1.PluginServer
}

func (p rawPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	wirev1.RegisterPluginServer(s, p.server)
	return nil
}

func (rawPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a server")
}

func serveRaw(server wirev1.PluginServer) {
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "unknown argument")
		os.Exit(1)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: map[int]plugin.PluginSet{wire.ProtocolVersion: {wire.PluginName: rawPlugin{server: server}}},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, grpc.MaxRecvMsgSize(wire.MaxMessageSize))...)
		},
	})
}
