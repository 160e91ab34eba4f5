package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
	"github.com/barnabas-agent/barnabas/plugins/sdk/plugintest"
)

// serve serves a program in this process, not yet configured.
func serve(t *testing.T, p *sdk.Program, o sdk.RegisterOptions) wirev1.PluginClient {
	t.Helper()
	folder, err := os.MkdirTemp("", "sdk")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(folder, "s"))
	if err != nil {
		t.Fatal(err)
	}
	transport := wire.NewTransport()
	server := grpc.NewServer(append(transport.ServerOptions(wire.SocketCredentials(nil)), grpc.WaitForHandlers(true))...)
	p.Register(server, o)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("unix:"+listener.Addr().String(), transport.DialOptions(wire.SocketCredentials(nil))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-served
		_ = os.RemoveAll(folder)
	})
	return wirev1.NewPluginClient(conn)
}

func configure(t *testing.T, client wirev1.PluginClient, m *wirev1.ConfigureRequest) *wirev1.ConfigureReply {
	t.Helper()
	reply, err := client.Configure(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// observer is an interceptor made of functions.
type observer struct {
	onSend     func(ctx context.Context, b *sdk.Batch) error
	concurrent bool
}

func (o *observer) OnSend(ctx context.Context, b *sdk.Batch) error { return o.onSend(ctx, b) }
func (o *observer) Concurrent() bool                               { return o.concurrent }

func observing(o *observer) *sdk.Program {
	return sdk.InterceptorProgram("observer", "1", func() sdk.Interceptor { return o })
}

// meet runs four lanes at once and returns the most calls of the plugin that overlapped.
func meet(t *testing.T, concurrent bool) int64 {
	t.Helper()
	var inside, most atomic.Int64
	arrived := make(chan struct{}, 4)
	o := &observer{concurrent: concurrent, onSend: func(ctx context.Context, _ *sdk.Batch) error {
		n := inside.Add(1)
		defer inside.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		arrived <- struct{}{}
		if concurrent { // stay until all are here
			for len(arrived) < cap(arrived) && ctx.Err() == nil {
				runtime.Gosched()
			}
		}
		return nil
	}}
	client := serve(t, observing(o), sdk.RegisterOptions{})
	configure(t, client, &wirev1.ConfigureRequest{})
	var lanes sync.WaitGroup
	for range 4 {
		lanes.Go(func() {
			if _, err := exchange(t, openLane(t, client), 1, "a"); err != nil {
				t.Error(err)
			}
		})
	}
	lanes.Wait()
	return most.Load()
}

func TestOneCallAtATimeUnlessThePluginIsConcurrent(t *testing.T) {
	if most := meet(t, false); most != 1 {
		t.Errorf("%d calls at a time of a plugin that is not concurrent", most)
	}
	if most := meet(t, true); most != 4 {
		t.Errorf("%d calls at a time of a concurrent plugin on 4 lanes", most)
	}
}

func TestCanaryWaitsInTheQueueBehindTheBatch(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	o := &observer{onSend: func(context.Context, *sdk.Batch) error {
		close(entered)
		<-leave
		return nil
	}}
	client := serve(t, observing(o), sdk.RegisterOptions{})
	configure(t, client, &wirev1.ConfigureRequest{})
	var both sync.WaitGroup
	defer both.Wait()
	both.Go(func() {
		if _, err := exchange(t, openLane(t, client), 1, "a"); err != nil {
			t.Error(err)
		}
	})
	<-entered
	answered := make(chan error, 1)
	both.Go(func() {
		_, err := exchange(t, openLane(t, client), 1)
		answered <- err
	})
	select {
	case <-answered:
		t.Error("the canary was answered while the plugin hung")
	case <-time.After(50 * time.Millisecond):
	}
	close(leave)
	if err := <-answered; err != nil {
		t.Errorf("canary: %v", err)
	}
}

func TestErrorOfTheMethodEndsTheStream(t *testing.T) {
	o := &observer{onSend: func(context.Context, *sdk.Batch) error {
		return errors.New("broken for good \xff" + strings.Repeat("x", 1<<20))
	}}
	client := serve(t, observing(o), sdk.RegisterOptions{})
	configure(t, client, &wirev1.ConfigureRequest{})
	if _, err := exchange(t, openLane(t, client), 1, "a"); err == nil || !strings.Contains(err.Error(), "broken for good") {
		t.Errorf("got %v", err)
	}
}

func TestRetryLaterIsAReplyAndTheStreamGoesOn(t *testing.T) {
	calls := 0
	o := &observer{onSend: func(_ context.Context, b *sdk.Batch) error {
		b.SetValue(0, []byte("half done"))
		if calls++; calls == 1 {
			return sdk.RetryAfter(errors.New("registry is away"), 250*time.Millisecond)
		}
		return nil
	}}
	client := serve(t, observing(o), sdk.RegisterOptions{})
	configure(t, client, &wirev1.ConfigureRequest{})
	lane := openLane(t, client)
	_, err := exchange(t, lane, 1, "a")
	later, ok := errors.AsType[*wire.RetryError](err)
	if !ok || later.After != 250*time.Millisecond || !strings.Contains(later.Reason, "registry is away") {
		t.Fatalf("got %v", err)
	}
	if b, err := exchange(t, lane, 1, "a"); err != nil || string(b.Value.Bytes(0)) != "half done" {
		t.Errorf("the second time: %v", err)
	}
}

func TestBatchHasTheDeadlineOfItsFrame(t *testing.T) {
	left := make(chan time.Duration, 1)
	o := &observer{onSend: func(ctx context.Context, _ *sdk.Batch) error {
		end, _ := ctx.Deadline()
		left <- time.Until(end)
		return nil
	}}
	client := serve(t, observing(o), sdk.RegisterOptions{})
	configure(t, client, &wirev1.ConfigureRequest{})
	if _, err := exchange(t, openLane(t, client), 1, "a"); err != nil {
		t.Fatal(err)
	}
	if d := <-left; d <= 0 || d > deadline {
		t.Errorf("%v left, want at most %v", d, deadline)
	}
}

func TestBatchBeforeConfigurationOrAfterCloseIsRefused(t *testing.T) {
	o := &observer{onSend: func(context.Context, *sdk.Batch) error { return nil }}
	client := serve(t, observing(o), sdk.RegisterOptions{})
	if _, err := exchange(t, openLane(t, client), 1, "a"); err == nil {
		t.Error("a batch was taken before the configuration")
	}
	configure(t, client, &wirev1.ConfigureRequest{})
	if _, err := client.Configure(t.Context(), &wirev1.ConfigureRequest{}); err == nil {
		t.Error("a second configuration was taken")
	}
	if _, err := client.Close(t.Context(), &wirev1.Empty{}); err != nil {
		t.Fatal(err)
	}
	if _, err := exchange(t, openLane(t, client), 1, "a"); err == nil {
		t.Error("a batch was taken after Close")
	}
}

// codec is a serializer whose columns, and errors, depend on its configuration.
type codec struct {
	Columned bool     `json:"columned,omitempty"`
	Wrong    []string `json:"wrong,omitempty"`
	Count    int8     `json:"count,omitempty"`
}

func (c *codec) Serialize(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		if _, _, failed := b.Failure(i); !failed {
			b.SetPayload(i, fmt.Appendf(nil, "<%s>", b.Payload(i)))
		}
	}
	return nil
}

func (c *codec) Configure(context.Context) error {
	var all []error
	for _, pointer := range c.Wrong {
		all = append(all, &sdk.ConfigError{Pointer: pointer, Message: "wrong"})
	}
	return errors.Join(all...)
}

func (c *codec) Columns() sdk.Columns {
	if c.Columned {
		return sdk.Columns{Reads: sdk.ColumnTopic, Writes: sdk.ColumnHeaders}
	}
	return sdk.Columns{Reads: sdk.AllColumns, Writes: sdk.AllColumns}
}

func newCodec() sdk.Serializer { return &codec{} }

func TestColumnsFollowConfigurationAndRole(t *testing.T) {
	for _, c := range []struct {
		request       *wirev1.ConfigureRequest
		reads, writes sdk.ColumnSet
	}{
		{&wirev1.ConfigureRequest{}, sdk.AllColumns, wire.WritableColumns &^ sdk.ColumnKey},
		{&wirev1.ConfigureRequest{Role: wirev1.Role_ROLE_KEY}, sdk.AllColumns, wire.WritableColumns &^ sdk.ColumnValue},
		{&wirev1.ConfigureRequest{Config: `{"columned": true}`}, sdk.ColumnTopic | sdk.ColumnValue, sdk.ColumnHeaders | sdk.ColumnValue},
		{&wirev1.ConfigureRequest{Config: `{"columned": true}`, Role: wirev1.Role_ROLE_KEY}, sdk.ColumnTopic | sdk.ColumnKey, sdk.ColumnHeaders | sdk.ColumnKey},
	} {
		client := serve(t, sdk.SerializerProgram("codec", "1", newCodec), sdk.RegisterOptions{})
		reply := configure(t, client, c.request)
		if reads, writes := wire.ColumnsOf(reply.Reads), wire.ColumnsOf(reply.Writes); reads != c.reads || writes != c.writes {
			t.Errorf("%v: reads %s, writes %s, want %s and %s", c.request, reads, writes, c.reads, c.writes)
		}
	}
}

func TestConfigErrorsNameTheirMembers(t *testing.T) {
	for config, want := range map[string]string{
		`{"wrong": ["/a", "/b/0"]}`: "/a: wrong; /b/0: wrong; ",
		`{"count": 300}`:            "/count: got number 300, want int8; ",
		`{"wrong": [1, "a", 2]}`:    "/wrong/0: got number, want string; /wrong/2: got number, want string; ",
		`{`:                         "not JSON: unexpected EOF; ",
	} {
		got := ""
		for _, e := range plugintest.CheckConfig(t, newCodec, config) {
			got += e.Error() + "; "
		}
		if got != want {
			t.Errorf("%s: %q, want %q", config, got, want)
		}
	}
}

func TestSerializerThatTakesNoObjectsRefusesThem(t *testing.T) {
	h := plugintest.New(t, newCodec, `{"columned": true}`)
	got := h.Send(sdk.Fields{Value: []byte("a")}, sdk.Fields{Object: map[string]any{"a": 1}})
	if string(got[0].Record.Value) != "<a>" || got[1].Verdict != "failed" || got[1].Code != "object.unsupported" {
		t.Errorf("%+v", got)
	}
	h = plugintest.New(t, newCodec, `{"columned": true}`, plugintest.ForKeys())
	got = h.Send(sdk.Fields{Key: []byte("k"), Object: map[string]any{"a": 1}})
	if string(got[0].Record.Key) != "<k>" || got[0].Verdict != "kept" {
		t.Errorf("key serializer: %+v", got)
	}
}

// rotor is a partitioner that wants everything.
type rotor struct {
	topology sdk.Topology
	acks     []sdk.Acknowledgement
}

func (r *rotor) Partition(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		if available := r.topology.Available(b.Topic(i)); len(available) > 0 {
			b.SetPartition(i, available[len(available)-1])
		}
	}
	return nil
}

func (r *rotor) OnTopology(t sdk.Topology)                      { r.topology = t }
func (r *rotor) OnAcknowledgement(ranges []sdk.Acknowledgement) { r.acks = append(r.acks, ranges...) }

func TestPartitionerSeesTopologyAndAcknowledgements(t *testing.T) {
	r := &rotor{}
	h := plugintest.New(t, func() sdk.Partitioner { return r }, ``,
		plugintest.WithTopology(sdk.TopicPartitions{Topic: "known", Partitions: 4, Unavailable: []int32{3}}))
	got := h.Send(sdk.Fields{Topic: "known", Partition: -1}, sdk.Fields{Topic: "unknown", Partition: -1})
	if got[0].Record.Partition != 2 || got[1].Record.Partition != -1 {
		t.Errorf("partitions %d and %d, want 2 and -1", got[0].Record.Partition, got[1].Record.Partition)
	}
	ack := sdk.Acknowledgement{Topic: "known", Partition: 2, FirstOffset: 40, Count: 3, Error: "e"}
	h.Acknowledge(ack)
	h.Close()
	if len(r.acks) != 1 || r.acks[0] != ack {
		t.Errorf("acknowledgements %+v", r.acks)
	}
}

func TestDescriptionSaysWhatThePluginImplements(t *testing.T) {
	client := serve(t, sdk.PartitionerProgram("rotor", "1", func() sdk.Partitioner { return &rotor{} }), sdk.RegisterOptions{})
	d, err := client.Describe(t.Context(), &wirev1.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if !d.WantsTopology || !d.WantsAcknowledgements || d.MayDrop || d.Deterministic ||
		wire.ColumnsOf(d.Reads) != sdk.ColumnKey|sdk.ColumnTopic || wire.ColumnsOf(d.Writes) != sdk.ColumnPartition {
		t.Errorf("%v", d)
	}
}

func TestBrokenIsCalledOnceTheBatchIsAnswered(t *testing.T) {
	broken := make(chan struct{})
	f := sdk.InterceptorProgram("fragile", "1", func() sdk.Interceptor { return &fragile{Word: "x"} })
	client := serve(t, f, sdk.RegisterOptions{Broken: func() { close(broken) }})
	configure(t, client, &wirev1.ConfigureRequest{})
	if b, err := exchange(t, openLane(t, client), 1, "x"); err != nil || len(b.Failures) != 1 {
		t.Errorf("batch: %v", err)
	}
	<-broken
}

// blind is a serializer that leaves payloads as they are, unless it is told to look.
type blind struct {
	Look bool `json:"look,omitempty"`
}

func (*blind) Serialize(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		if b.Topic(i) == "upper" {
			b.SetPayload(i, []byte("UPPER"))
		}
	}
	return nil
}
func (*blind) Columns() sdk.Columns { return sdk.Columns{Reads: sdk.ColumnTopic} }
func (b *blind) ReadsPayload() bool { return b.Look }

func TestPayloadsThatASerializerDoesNotReadStayWhereTheyAre(t *testing.T) {
	program := sdk.SerializerProgram("blind", "1", func() sdk.Serializer { return &blind{} })
	for config, want := range map[string]sdk.ColumnSet{`{}`: sdk.ColumnTopic, `{"look": true}`: sdk.ColumnTopic | sdk.ColumnValue} {
		reply := configure(t, serve(t, program, sdk.RegisterOptions{}), &wirev1.ConfigureRequest{Config: config})
		if reads := wire.ColumnsOf(reply.Reads); reads != want {
			t.Errorf("%s: it reads %s, want %s", config, reads, want)
		}
	}
	h := plugintest.New(t, func() sdk.Serializer { return &blind{} }, `{}`)
	got := h.Send(sdk.Fields{Value: []byte("a"), Topic: "upper"}, sdk.Fields{Value: []byte("b"), Topic: "t"})
	if string(got[0].Record.Value) != "UPPER" || string(got[1].Record.Value) != "b" {
		t.Errorf("%+v", got)
	}
}
