package plugintest_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/barnabas-agent/barnabas/core/wire"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
	"github.com/barnabas-agent/barnabas/plugins/sdk/plugintest"
)

// roleVariable names the plugin that the test's binary is when it is started as one.
const roleVariable = "PLUGINTEST_PLUGIN"

// TestMain makes the test's binary a plugin when it is started as one.
func TestMain(m *testing.M) {
	if os.Getenv(wire.CookieKey) != "" || len(os.Args) == 2 && os.Args[1] == "describe" {
		switch os.Getenv(roleVariable) {
		case "upper":
			sdk.ServeInterceptor("upper", "1.0.0", newUpper)
		case "keeper":
			sdk.ServeInterceptor("keeper", "1.0.0", newKeeper)
		case "hasher":
			sdk.ServePartitioner("hasher", "1.0.0", func() sdk.Partitioner { return &hasher{} })
		case "faulty":
			serveFaulty(os.Getenv(faultVariable))
		}
		os.Exit(3)
	}
	goleak.VerifyTestMain(m)
}

// upper is a plugin as it should be.
type upper struct {
	Prefix string `json:"prefix" jsonschema:"description=Put before every value,maxLength=8"`
	closed *bool
}

func newUpper() sdk.Interceptor { return &upper{Prefix: "> "} }

func (u *upper) OnSend(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		if b.ValueKind(i) == sdk.KindBytes {
			b.SetValue(i, append([]byte(u.Prefix), bytes.ToUpper(b.Value(i))...))
		}
	}
	return nil
}

func (u *upper) Deterministic() bool { return true }

func (u *upper) Columns() sdk.Columns {
	return sdk.Columns{Reads: sdk.ColumnValue, Writes: sdk.ColumnValue}
}

func (u *upper) Close(context.Context) error {
	if u.closed != nil {
		*u.closed = true
	}
	return nil
}

// keeper keeps a value that was lent.
type keeper struct{ last []byte }

func newKeeper() sdk.Interceptor { return &keeper{} }

func (k *keeper) OnSend(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		mine := b.Value(i)
		if k.last != nil {
			b.SetValue(i, k.last)
		}
		if i == b.Len()-1 && len(mine) > 0 && len(mine) < 1000 {
			k.last = mine
		}
	}
	return nil
}

// hasher chooses partitions by the length of the key.
type hasher struct{ topology sdk.Topology }

func (h *hasher) OnTopology(t sdk.Topology) { h.topology = t }

func (h *hasher) Partition(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		if partitions, known := h.topology.Partitions(b.Topic(i)); known {
			b.SetPartition(i, int32(len(b.Key(i)))%partitions)
		}
	}
	return nil
}

func TestGoodPluginPassesInProcess(t *testing.T) {
	plugintest.Run(t, newUpper, `{"prefix": "! "}`)
}

func TestGoodPluginPassesAsProcess(t *testing.T) {
	for _, role := range []string{"upper", "hasher"} {
		t.Run(role, func(t *testing.T) { runProcessCases(t, role, nil) })
	}
}

// runProcessCases wants exactly the named cases to fail.
func runProcessCases(t *testing.T, role string, failing []string) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var failed []string
	for _, c := range plugintest.ProcessCases(binary, []string{roleVariable + "=" + role, "GORACE=atexit_sleep_ms=0"}, `{}`) {
		if err := c.Run(t.Context()); err != nil {
			failed = append(failed, c.Name)
			t.Logf("%s: %v", c.Name, err)
		}
	}
	if strings.Join(failed, ",") != strings.Join(failing, ",") {
		t.Errorf("failed cases: %q, want %q", failed, failing)
	}
}

func TestKeeperIsCaught(t *testing.T) {
	runProcessCases(t, "keeper", []string{"borrowed memory"})
}

func TestHarnessShowsWhatBecameOfRecords(t *testing.T) {
	h := plugintest.New(t, newUpper, `{"prefix": "a:"}`)
	got := h.Send(sdk.Fields{Value: []byte("one"), Key: []byte("k")}, sdk.Fields{})
	if string(got[0].Record.Value) != "a:ONE" || string(got[0].Record.Key) != "k" || got[0].Verdict != "kept" {
		t.Errorf("first record: %+v", got[0])
	}
	if got[1].Record.Value != nil || got[1].ValueKind != sdk.KindNull || got[1].Record.Topic != plugintest.Topic {
		t.Errorf("tombstone: %+v", got[1])
	}
}

func TestHarnessClosesThePlugin(t *testing.T) {
	closed := false
	h := plugintest.New(t, func() sdk.Interceptor { return &upper{closed: &closed} }, ``)
	h.Close()
	if !closed {
		t.Error("the plugin's Close was not called")
	}
}

func TestCheckConfigNamesMembers(t *testing.T) {
	for config, want := range map[string][]sdk.ConfigError{
		`{}`:                       nil,
		`{"prefix": "x"}`:          nil,
		`{"prefx": "x", "a/b": 1}`: {{Pointer: "/a~1b", Message: "unknown member"}, {Pointer: "/prefx", Message: "unknown member"}},
		`{"prefix": 1}`:            {{Pointer: "/prefix", Message: "got number, want string"}},
		`{"prefix": "123456789"}`:  {{Pointer: "/prefix", Message: "maxLength: got 9, want 8"}},
		`[]`:                       {{Pointer: "", Message: "got array, want object"}},
	} {
		got := plugintest.CheckConfig(t, newUpper, config)
		if len(got) != len(want) {
			t.Errorf("%s: %v, want %v", config, got, want)
			continue
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: %v, want %v", config, got[i], want[i])
			}
		}
	}
}

// sleeper hangs on a value.
type sleeper struct{ wake chan struct{} }

func (s *sleeper) OnSend(_ context.Context, b *sdk.Batch) error {
	if b.Len() > 1 {
		<-s.wake
	}
	return nil
}

func TestHangIsAnErrorNotAHang(t *testing.T) {
	s := &sleeper{wake: make(chan struct{})}
	var last error
	for _, c := range plugintest.Cases(func() sdk.Interceptor { return s }, `{}`, plugintest.WithTimeout(50*time.Millisecond)) {
		if c.Name == "tombstone" {
			last = c.Run(t.Context())
		}
	}
	close(s.wake)
	if last == nil || !strings.Contains(last.Error(), "no reply") {
		t.Errorf("got %v, want an error that says that there is no reply", last)
	}
}

// broken says so.
type broken struct{ err error }

func (f *broken) OnSend(context.Context, *sdk.Batch) error { return f.err }

func TestErrorOfThePluginFailsCases(t *testing.T) {
	f := &broken{err: errors.New("no good")}
	for _, c := range plugintest.Cases(func() sdk.Interceptor { return f }, `{}`) {
		if err := c.Run(t.Context()); c.Name == "one record" && (err == nil || !strings.Contains(err.Error(), "no good")) {
			t.Errorf("%s: %v, want the plugin's own error", c.Name, err)
		}
	}
}
