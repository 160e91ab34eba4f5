package sdk_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
	"github.com/barnabas-agent/barnabas/plugins/sdk/internal/rows"
)

// deadline bounds what a process may take.
const deadline = 20 * time.Second

// running is the test's binary as a plugin.
type running struct {
	client    *plugin.Client
	command   *exec.Cmd
	conn      *grpc.ClientConn
	plugin    wirev1.PluginClient
	lifeline  *os.File
	closeFile string
	stderr    *bytes.Buffer // complete once the process has ended
}

func run(t *testing.T, config string) *running {
	t.Helper()
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &running{lifeline: ours, closeFile: filepath.Join(t.TempDir(), "closed"), stderr: &bytes.Buffer{}}
	p.command = exec.Command(binary)
	p.command.ExtraFiles = []*os.File{theirs}
	p.command.Env = []string{closeFileVariable + "=" + p.closeFile, wire.LifelineVariable + "=3", "GORACE=atexit_sleep_ms=0"}
	p.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: map[int]plugin.PluginSet{wire.ProtocolVersion: {}},
		Cmd:              p.command, SkipHostEnv: true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Logger:           hclog.NewNullLogger(), Stderr: p.stderr,
		GRPCDialOptions: wire.NewTransport().DialOptions(wire.SocketCredentials(nil)),
	})
	t.Cleanup(func() {
		p.client.Kill()
		_ = ours.Close()
	})
	protocol, err := p.client.Client()
	if err != nil {
		t.Fatalf("start: %v\n%s", err, p.stderr)
	}
	p.conn = protocol.(*plugin.GRPCClient).Conn
	p.plugin = wirev1.NewPluginClient(p.conn)
	reply, err := p.plugin.Configure(t.Context(), &wirev1.ConfigureRequest{Config: config})
	if err != nil || len(reply.Errors) > 0 {
		t.Fatalf("configure: %v, %v", reply, err)
	}
	return p
}

// waitEnd waits until the process has ended, by itself, and returns its exit code.
func (p *running) waitEnd(t *testing.T) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !p.client.Exited() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("the process still runs after %v", deadline)
		}
	}
	p.client.Kill() // joins go-plugin's goroutines
	return p.command.ProcessState.ExitCode()
}

// exchange sends one batch of values and applies the reply.
func exchange(t *testing.T, lane wirev1.Plugin_LaneClient, id uint64, values ...string) (*record.Batch, error) {
	t.Helper()
	var all []rows.Row
	for _, v := range values {
		all = append(all, rows.Row{Value: []byte(v), Topic: "t", Partition: -1})
	}
	b := rows.Batch(all)
	b.ID = id
	m, err := wire.NewEncoder(nil).Encode(b, b.Live, wire.AllColumns, wire.Frame{Timeout: deadline})
	if err != nil {
		t.Fatal(err)
	}
	if err := lane.Send(m); err != nil {
		return nil, err
	}
	reply, err := lane.Recv()
	if err != nil {
		return nil, err
	}
	_, err = wire.ApplyReply(b, append([]uint32(nil), b.Live...), reply, wire.Rules{Writes: wire.WritableColumns, MayDrop: true, AllowObjects: true})
	return b, err
}

func openLane(t *testing.T, client wirev1.PluginClient) wirev1.Plugin_LaneClient {
	t.Helper()
	lane, err := client.Lane(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return lane
}

func TestPanicOfARecordIsAnsweredBeforeTheProcessEnds(t *testing.T) {
	p := run(t, `{}`)
	lane := openLane(t, p.plugin)
	b, err := exchange(t, lane, 1, "a", "panic", "b")
	if err != nil {
		t.Fatalf("the batch was not answered: %v", err)
	}
	if got := string(b.Value.Bytes(0)) + string(b.Value.Bytes(2)); got != "a!b!" || len(b.Failures) != 1 {
		t.Fatalf("values %q, failures %v", got, b.Failures)
	}
	if f := b.Failures[0]; f.Row != 1 || f.Code != "panic" || !strings.Contains(f.Message, "main_test.go") {
		t.Errorf("failure %+v, want the stack", f)
	}
	if _, err := lane.Recv(); err == nil {
		t.Error("the stream goes on after a panic")
	}
	if code := p.waitEnd(t); code != 70 {
		t.Errorf("exit code %d, want 70", code)
	}
}

func TestPanicOfTheMethodEndsTheProcessWithAllStacks(t *testing.T) {
	p := run(t, `{"whole": true}`)
	if _, err := exchange(t, openLane(t, p.plugin), 1, "a"); err == nil {
		t.Error("the batch was answered")
	}
	if code := p.waitEnd(t); code != 2 {
		t.Errorf("exit code %d, want Go's own 2", code)
	}
	if out := p.stderr.String(); !strings.Contains(out, "whole batch") || strings.Count(out, "goroutine ") < 3 {
		t.Errorf("stderr has no stacks of all goroutines:\n%s", out)
	}
}

func TestEndOfTheAgentClosesThePluginAndEndsTheProcess(t *testing.T) {
	p := run(t, `{}`)
	if err := p.lifeline.Close(); err != nil {
		t.Fatal(err)
	}
	if code := p.waitEnd(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if content, err := os.ReadFile(p.closeFile); string(content) != "closed" {
		t.Errorf("the plugin was not closed: %q, %v", content, err)
	}
}

func TestSignalsOfTheTerminalDoNotEndAPlugin(t *testing.T) {
	p := run(t, `{}`)
	lane := openLane(t, p.plugin)
	for i, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if err := p.command.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if _, err := exchange(t, lane, uint64(i+1), "a"); err != nil {
			t.Fatalf("after %v: %v", signal, err)
		}
	}
}

func TestLogsAreLinesOfJSONThatTheAgentReads(t *testing.T) {
	p := run(t, `{}`)
	if _, err := exchange(t, openLane(t, p.plugin), 1, "a"); err != nil {
		t.Fatal(err)
	}
	p.client.Kill()
	for line := range strings.Lines(p.stderr.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if entry["@message"] == "batch" && entry["@level"] == "info" && entry["records"] == 1.0 {
			if _, err := time.Parse("2006-01-02T15:04:05.000000Z07:00", entry["@timestamp"].(string)); err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Errorf("no line of the plugin's log:\n%s", p.stderr)
}

// byHand runs the plugin's binary as a user would.
func byHand(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binary, args...)
	command.Env = append(os.Environ(), closeFileVariable+"=unused", "GORACE=atexit_sleep_ms=0")
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	if err := command.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatal(err)
		}
	}
	return out.String(), errs.String(), command.ProcessState.ExitCode()
}

func TestPluginRunByHandExplainsItself(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"serve"}} {
		stdout, stderr, code := byHand(t, args...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, "fragile 1.2.3 is a Barnabas interceptor") || !strings.Contains(stderr, "describe") {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
}

func TestDescribePrintsTheDescription(t *testing.T) {
	stdout, stderr, code := byHand(t, "describe")
	var d wirev1.Description
	if err := protojson.Unmarshal([]byte(stdout), &d); err != nil || code != 0 || stderr != "" {
		t.Fatalf("%v, exit code %d, stderr %q", err, code, stderr)
	}
	if d.Name != "fragile" || d.Version != "1.2.3" || d.Kind != wirev1.StageKind_STAGE_KIND_INTERCEPTOR || !d.MayDrop {
		t.Errorf("%v", &d)
	}
	var schema struct {
		Properties map[string]struct{ Default any }
	}
	if err := json.Unmarshal([]byte(d.ConfigSchema), &schema); err != nil {
		t.Fatal(err)
	}
	if schema.Properties["word"].Default != "panic" || schema.Properties["whole"].Default != nil {
		t.Errorf("defaults in %s", d.ConfigSchema)
	}
}
