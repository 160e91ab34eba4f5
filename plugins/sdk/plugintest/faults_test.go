package plugintest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
	"github.com/barnabas-agent/barnabas/plugins/sdk/plugintest"
)

// faultVariable names what the faulty plugin does wrong.
const faultVariable = "PLUGINTEST_FAULT"

// faults are what a plugin can do wrong, each with the case that must show it
// and a part of the report.
func faults() []struct{ fault, in, report string } {
	return []struct{ fault, in, report string }{
		{"nameless", "description", "all three are needed"},
		{"listens elsewhere", "description", "PLUGIN_UNIX_SOCKET_DIR"},
		{"fickle description", "description", "asked twice"},
		{"no schema", "description", "config_schema is empty"},
		{"refuses its configuration", "configuration", "is refused"},
		{"takes a list as configuration", "configuration", "is accepted"},
		{"takes unknown members", "unknown member", "/plugintest_unknown_member"},
		{"takes any type", "wrong types", "want one at /prefix"},
		{"other default than it says", "defaults", "different results"},
		{"dies of an empty batch", "empty batch", "reply to batch 1"},
		{"dies of one record", "one record", "reply to batch 1"},
		{"dies of a tombstone", "tombstone", "reply to batch 1"},
		{"dies of a null key", "null key", "reply to batch 1"},
		{"dies of empty values", "empty value and key", "reply to batch 1"},
		{"dies of binary", "bytes that are not UTF-8", "reply to batch 1"},
		{"dies of duplicate headers", "duplicate headers", "reply to batch 1"},
		{"dies of 1 MiB", "value of 1 MiB", "reply to batch 1"},
		{"dies of 4096 records", "4096 records", "reply to batch 1"},
		{"loses a record", "counts", "rule count"},
		{"swaps replies", "order", "rule id"},
		{"changes what it does not write", "projection", "undeclared"},
		{"reads more than it said", "projection", "lacks"},
		{"uses columns that it did not ask for", "projection", "its result changes"},
		{"ignores the topology", "partitions", "of a topic with"},
		{"answers no empty batch", "canary", "no reply"},
		{"one lane at a time", "lanes", "no reply"},
		{"starves empty batches", "canary under load", "no reply"},
		{"refuses unknown fields", "unknown fields", "unknown field"},
		{"refuses a replay", "replay", "attempt 1"},
		{"answers a replay differently", "replay", "differently"},
		{"loses replies that wait", "slow reader", "rule id"},
		{"refuses acknowledgements", "acknowledgements", "acknowledge"},
		{"misnames its metrics", "metrics", "metrics: "},
		{"fails to close", "close", "close"},
		{"describes itself otherwise by command", "describe command", "describe prints"},
		{"does not shut down", "shutdown", "was killed"},
		{"ends with an error", "shutdown", "exit status 4"},
		{"outlives the agent", "end of the agent", "still runs"},
		{"prints every record", "standard output", "bytes to standard output"},
		{"logs every record", "standard error", "bytes to standard error"},
		{"leaves a lock", "kill in mid-batch", "does not start"},
	}
}

// TestEveryFaultIsFound runs each wrong plugin through the case that is there for it.
func TestEveryFaultIsFound(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults() {
		t.Run(f.fault, func(t *testing.T) {
			t.Parallel()
			environment := []string{
				roleVariable + "=faulty", faultVariable + "=" + f.fault, "GORACE=atexit_sleep_ms=0", "LOCK=" + t.TempDir() + "/lock",
			}
			timeout := 10 * time.Second
			if f.report == "no reply" {
				timeout = 500 * time.Millisecond // nothing else waits that long for a reply
			}
			all := plugintest.ProcessCases(binary, environment, `{}`, plugintest.WithTimeout(timeout))
			i := slices.IndexFunc(all, func(c plugintest.Case) bool { return c.Name == f.in })
			if i < 0 {
				t.Fatalf("there is no case %q", f.in)
			}
			if err := all[i].Run(t.Context()); err == nil || !strings.Contains(err.Error(), f.report) {
				t.Errorf("%s: got %v, want an error that says %q", f.in, err, f.report)
			}
		})
	}
}

// TestEveryCaseHasItsFault wants a wrong plugin for each case: one that nothing
// fails shows nothing. "keeper" is the one of borrowed memory.
func TestEveryCaseHasItsFault(t *testing.T) {
	shown := map[string]bool{"borrowed memory": true}
	for _, f := range faults() {
		shown[f.in] = true
	}
	for _, c := range plugintest.ProcessCases("", nil, `{}`) {
		if !shown[c.Name] {
			t.Errorf("no wrong plugin fails %q", c.Name)
		}
		if c.Rule == "" {
			t.Errorf("%q does not say its rule", c.Name)
		}
	}
}

// TestFaultlessFaultyPluginPasses shows that the faults alone fail it.
func TestFaultlessFaultyPluginPasses(t *testing.T) { runProcessCases(t, "faulty", nil) }

// faulty is a good plugin behind which a fault is put.
type faulty struct {
	wirev1.PluginServer
	fault     string
	described atomic.Int32
	canaries  atomic.Int32  // how many batches are being held
	busy      chan struct{} // held by the one lane that is served
}

// capture takes the server that a program registers.
type capture struct{ server wirev1.PluginServer }

func (c *capture) RegisterService(_ *grpc.ServiceDesc, server any) {
	c.server = server.(wirev1.PluginServer)
}

func newFaulty(fault string) *faulty {
	var inner capture
	program := sdk.InterceptorProgram("faulty", "1.0.0", func() sdk.Interceptor { return &reader{upper{Prefix: "> "}} })
	switch fault {
	case "uses columns that it did not ask for":
		program = sdk.InterceptorProgram("faulty", "1.0.0", newUpper)
	case "ignores the topology":
		program = sdk.PartitionerProgram("faulty", "1.0.0", func() sdk.Partitioner { return stubborn{} })
	}
	program.Register(&inner, sdk.RegisterOptions{})
	return &faulty{PluginServer: inner.server, fault: fault, busy: make(chan struct{}, 1)}
}

// reader is upper, but gets all columns.
type reader struct{ upper }

func (*reader) Columns() sdk.Columns {
	return sdk.Columns{Reads: sdk.AllColumns &^ sdk.ColumnTopic, Writes: sdk.ColumnValue}
}

// stubborn chooses a partition whatever the topic has.
type stubborn struct{}

func (stubborn) Partition(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		b.SetPartition(i, 5)
	}
	return nil
}

func (f *faulty) Describe(ctx context.Context, m *wirev1.DescribeRequest) (*wirev1.Description, error) {
	d, err := f.PluginServer.Describe(ctx, m)
	if err != nil {
		return nil, err
	}
	switch f.fault {
	case "nameless":
		d.Name = ""
	case "fickle description":
		d.Version = fmt.Sprint(f.described.Add(1))
	case "no schema":
		d.ConfigSchema = ""
	case "other default than it says":
		d.ConfigSchema = strings.ReplaceAll(d.ConfigSchema, `"default":"\u003e "`, `"default":"!"`)
	}
	return d, nil
}

func (f *faulty) Configure(ctx context.Context, m *wirev1.ConfigureRequest) (*wirev1.ConfigureReply, error) {
	var members map[string]any
	isObject := json.Unmarshal([]byte(m.Config), &members) == nil
	switch f.fault {
	case "refuses its configuration":
		return &wirev1.ConfigureReply{Errors: []*wirev1.ConfigError{{Pointer: "/prefix", Message: "no"}}}, nil
	case "takes a list as configuration":
		if !isObject {
			return &wirev1.ConfigureReply{}, nil
		}
	case "takes unknown members":
		delete(members, "plugintest_unknown_member")
	case "takes any type":
		if _, ok := members["prefix"].(string); !ok {
			delete(members, "prefix")
		}
	}
	if isObject {
		config, err := json.Marshal(members)
		if err != nil {
			return nil, err
		}
		m.Config = string(config)
	}
	reply, err := f.PluginServer.Configure(ctx, m)
	if err == nil && f.fault == "reads more than it said" && reply.Reads != nil {
		reply.Reads.Topic = true
	}
	return reply, err
}

func (f *faulty) Acknowledge(stream grpc.ClientStreamingServer[wirev1.Acknowledgements, wirev1.Empty]) error {
	if f.fault == "refuses acknowledgements" {
		os.Exit(5)
	}
	return f.PluginServer.Acknowledge(stream)
}

func (f *faulty) Metrics(ctx context.Context, m *wirev1.MetricsRequest) (*wirev1.MetricsReply, error) {
	if f.fault == "misnames its metrics" {
		return &wirev1.MetricsReply{Metrics: []*wirev1.Metric{{Name: "Records Seen"}}}, nil
	}
	return f.PluginServer.Metrics(ctx, m)
}

func (f *faulty) Close(ctx context.Context, m *wirev1.Empty) (*wirev1.Empty, error) {
	if f.fault == "fails to close" {
		return nil, errors.New("the door is stuck")
	}
	return f.PluginServer.Close(ctx, m)
}

func (f *faulty) Lane(stream grpc.BidiStreamingServer[wirev1.Batch, wirev1.Reply]) error {
	if f.fault == "one lane at a time" {
		f.busy <- struct{}{}
		defer func() { <-f.busy }()
	}
	return f.PluginServer.Lane(&faultyLane{BidiStreamingServer: stream, faulty: f})
}

// faultyLane changes what the inner plugin receives and sends.
type faultyLane struct {
	grpc.BidiStreamingServer[wirev1.Batch, wirev1.Reply]
	faulty *faulty
	last   wirev1.Batch  // what came last
	held   *wirev1.Reply // to be sent behind the next one
}

func (l *faultyLane) RecvMsg(m any) error {
	if err := l.BidiStreamingServer.RecvMsg(m); err != nil {
		return err
	}
	b := &m.(*wire.BatchFrame).Batch
	l.last.Reset()
	l.last.Id, l.last.Attempt, l.last.Count, l.last.Key = b.Id, b.Attempt, b.Count, b.Key
	if l.diesOf(b) {
		os.Exit(5)
	}
	switch l.faulty.fault {
	case "answers no empty batch", "starves empty batches":
		if b.Count == 0 && (l.faulty.fault == "answers no empty batch" || l.faulty.canaries.Load() > 0) {
			return l.RecvMsg(m)
		}
		l.faulty.canaries.Add(1)
	case "refuses unknown fields":
		if len(b.ProtoReflect().GetUnknown()) > 0 {
			return errors.New("unknown field")
		}
	case "refuses a replay":
		if b.Attempt > 0 {
			return errors.New("seen before")
		}
	case "prints every record":
		fmt.Print(strings.Repeat("a record\n", int(b.Count)))
	case "logs every record":
		fmt.Fprint(os.Stderr, strings.Repeat("a record\n", int(b.Count)))
	}
	return nil
}

// diesOf says whether a batch is what the plugin dies of.
func (l *faultyLane) diesOf(b *wirev1.Batch) bool {
	data := b.GetValue().GetData()
	switch l.faulty.fault {
	case "dies of an empty batch":
		return b.Count == 0
	case "dies of one record":
		return b.Count == 1
	case "dies of a tombstone":
		return bytes.IndexByte(b.GetValue().GetKinds(), 1) >= 0
	case "dies of a null key":
		return b.Count == 3 && bytes.IndexByte(b.GetKey().GetKinds(), 1) >= 0
	case "dies of empty values":
		return bytes.Contains(b.GetValue().GetLengths(), make([]byte, 4)) && len(b.GetValue().GetKinds()) == 0
	case "dies of binary":
		return bytes.Contains(data, []byte("\xff"))
	case "dies of duplicate headers":
		return bytes.Contains(b.GetHeaders().GetNames().GetData(), []byte("hhh"))
	case "dies of 1 MiB":
		return len(data) >= 1<<20
	case "dies of 4096 records":
		return b.Count == 4096
	}
	return false
}

func (l *faultyLane) Send(r *wirev1.Reply) error {
	switch l.faulty.fault {
	case "loses a record":
		if r.Count == 1000 {
			r.Count--
		}
	case "changes what it does not write":
		r.Partitions = &wirev1.NumberChange{Values: make([]byte, 4*r.Count)}
	case "uses columns that it did not ask for":
		if l.last.Key != nil {
			r.Verdicts = bytes.Repeat([]byte{1}, int(r.Count))
		}
	case "answers a replay differently":
		if l.last.Attempt > 0 {
			r.Verdicts = bytes.Repeat([]byte{1}, int(r.Count))
		}
	case "swaps replies":
		if l.held == nil && r.Count == 500 {
			l.held = proto.Clone(r).(*wirev1.Reply)
			return nil
		}
		if held := l.held; held != nil {
			l.held = nil
			return errors.Join(l.BidiStreamingServer.Send(r), l.BidiStreamingServer.Send(held))
		}
	case "loses replies that wait":
		if r.Id == 20 {
			return nil
		}
	}
	return l.BidiStreamingServer.Send(r)
}

// serveFaulty serves the plugin with a fault, and ends the process.
func serveFaulty(fault string) {
	f := newFaulty(fault)
	if len(os.Args) == 2 {
		d, _ := f.Describe(context.Background(), nil)
		if fault == "describes itself otherwise by command" {
			d.Version = "0"
		}
		printed, _ := protojson.Marshal(d)
		fmt.Println(string(printed))
		os.Exit(0)
	}
	if lock := os.Getenv("LOCK"); fault == "leaves a lock" {
		if _, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(5)
		}
	}
	if fault == "listens elsewhere" {
		os.Setenv("PLUGIN_UNIX_SOCKET_DIR", filepath.Dir(os.Getenv("LOCK")))
	}
	if fault != "outlives the agent" {
		go func() {
			_, _ = io.Copy(io.Discard, os.NewFile(3, "lifeline"))
			os.Exit(0)
		}()
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: map[int]plugin.PluginSet{wire.ProtocolVersion: {wire.PluginName: faultyPlugin{server: f}}},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, wire.NewTransport().ServerOptions(wire.SocketCredentials(nil))...)...)
		},
		Logger: hclog.NewNullLogger(),
	})
	switch fault {
	case "does not shut down":
		select {}
	case "ends with an error":
		os.Exit(4)
	}
	os.Exit(0)
}

type faultyPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	server wirev1.PluginServer
}

func (p faultyPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	wirev1.RegisterPluginServer(s, p.server)
	return nil
}

func (faultyPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.ErrUnsupported
}
