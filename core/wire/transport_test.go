package wire_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// echo answers each batch with its own values, doubled.
type echo struct {
	wirev1.UnimplementedPluginServer
}

func (echo) Lane(stream grpc.BidiStreamingServer[wirev1.Batch, wirev1.Reply]) error {
	var frame wire.BatchFrame
	var view wire.View
	var reply wire.ReplyBuilder
	for {
		err := stream.RecvMsg(&frame)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := view.Decode(&frame.Batch); err != nil {
			return err
		}
		reply.Reset(view.Count())
		for i := range view.Count() {
			value := view.Value().Bytes(i)
			reply.SetValue(i, append(value, value...), view.Value().Kind(i))
		}
		if err := stream.Send(reply.Build(frame.Batch.Id)); err != nil {
			return err
		}
		frame.Poison(0xDB)
	}
}

func (echo) Close(context.Context, *wirev1.Empty) (*wirev1.Empty, error) { return &wirev1.Empty{}, nil }

// dial serves echo on a unix socket and connects to it; each end checks the other.
func dial(t *testing.T, checkClient, checkServer func(wire.Peer) error) *grpc.ClientConn {
	t.Helper()
	folder, err := os.MkdirTemp("", "wire")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	listener, err := net.Listen("unix", filepath.Join(folder, "s"))
	if err != nil {
		t.Fatal(err)
	}
	transport := wire.NewTransport()
	server := grpc.NewServer(transport.ServerOptions(wire.SocketCredentials(checkClient))...)
	wirev1.RegisterPluginServer(server, echo{})
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("unix:"+listener.Addr().String(), transport.DialOptions(wire.SocketCredentials(checkServer))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return conn
}

func TestFramesCrossASocketWhileOthersAreInFlight(t *testing.T) {
	conn := dial(t, nil, nil)
	stream, err := wirev1.NewPluginClient(conn).Lane(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	encoder := wire.NewEncoder(nil)
	var frame wire.ReplyFrame
	const window = 4
	var inFlight []*record.Batch
	send := func(id, size int) {
		b := batchOf([]row{{value: bytes.Repeat([]byte{byte('a' + id%20)}, size), topic: "main"}, {value: []byte("x"), topic: "main"}}, false)
		b.ID = uint64(id)
		m, err := encoder.Encode(b, b.Live, wire.ColumnValue, wire.Frame{})
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
		inFlight = append(inFlight, b)
	}
	for id, size := range []int{1, 3_000, 70_000, 600_000, 5_000_000, 0, 40_000, 90_000, 10, 1 << 20, 2 << 20, 5, 5, 5} {
		send(id, size)
		if len(inFlight) < window {
			continue
		}
		b := inFlight[0]
		inFlight = inFlight[1:]
		want := bytes.Repeat(b.Value.Bytes(0), 2)
		if err := stream.RecvMsg(&frame); err != nil {
			t.Fatal(err)
		}
		if _, err := wire.ApplyReply(b, b.Live, &frame.Reply, wire.Rules{Writes: wire.ColumnValue}); err != nil {
			t.Fatal(err)
		}
		frame.LendTo(b)
		if !bytes.Equal(b.Value.Bytes(0), want) || string(b.Value.Bytes(1)) != "xx" {
			t.Fatalf("batch %d came back with other bytes", b.ID)
		}
		b.Reset()
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for range inFlight {
		if err := stream.RecvMsg(&frame); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.RecvMsg(&frame); !errors.Is(err, io.EOF) {
		t.Fatalf("end of the stream: %v", err)
	}
}

func TestOtherMessagesGoThroughTheStandardCodec(t *testing.T) {
	conn := dial(t, nil, nil)
	status, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || status.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", status, err)
	}
	if _, err := wirev1.NewPluginClient(conn).Close(t.Context(), &wirev1.Empty{}); err != nil {
		t.Errorf("an empty message: %v", err)
	}
}

func TestBothEndsSeeWhoIsThere(t *testing.T) {
	var peers []wire.Peer
	seen := make(chan wire.Peer, 2)
	note := func(p wire.Peer) error { seen <- p; return nil }
	conn := dial(t, note, note)
	if _, err := wirev1.NewPluginClient(conn).Close(t.Context(), &wirev1.Empty{}); err != nil {
		t.Fatal(err)
	}
	peers = append(peers, <-seen, <-seen)
	for _, p := range peers {
		if p.PID != os.Getpid() || p.UID != uint32(os.Getuid()) || p.GID != uint32(os.Getgid()) {
			t.Errorf("peer %+v, want this process", p)
		}
	}
}

func TestStrangerIsRefused(t *testing.T) {
	stranger := func(wire.Peer) error { return errors.New("a stranger") }
	for name, conn := range map[string]*grpc.ClientConn{
		"by the plugin": dial(t, stranger, nil), "by the host": dial(t, nil, stranger),
	} {
		_, err := wirev1.NewPluginClient(conn).Close(t.Context(), &wirev1.Empty{})
		if err == nil {
			t.Errorf("refused %s: the call went through", name)
		} else if name == "by the host" && !strings.Contains(err.Error(), "a stranger") {
			t.Errorf("refused %s: %v, want the reason", name, err)
		}
	}
}

func TestConnectionThatIsNoSocketIsRefused(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	if _, _, err := wire.SocketCredentials(nil).ClientHandshake(t.Context(), "", one); err == nil {
		t.Error("a pipe was taken for a unix socket")
	}
}

func TestMessageOwnsItsBytesUnlessReceivedIntoAFrame(t *testing.T) {
	codec := wire.NewCodec(wire.NewBufferPool())
	data, err := codec.Marshal(&wirev1.Description{Name: "name", ConfigSchema: strings.Repeat("x", 5000)})
	if err != nil {
		t.Fatal(err)
	}
	received := mem.BufferSlice{mem.SliceBuffer(data.Materialize())}
	var m wirev1.Description
	if err := codec.Unmarshal(received, &m); err != nil {
		t.Fatal(err)
	}
	clear(received[0].ReadOnlyData())
	if m.Name != "name" || m.ConfigSchema != strings.Repeat("x", 5000) {
		t.Error("the message refers to gRPC's buffer")
	}
}

func TestPoolHandsOutTheSmallestTierThatFits(t *testing.T) {
	pool := wire.NewBufferPool()
	for length, want := range map[int]int{
		0: 4 << 10, 1: 4 << 10, 4 << 10: 4 << 10, 4<<10 + 1: 16 << 10, 33 << 10: 64 << 10,
		200 << 10: 256 << 10, 512<<10 + 1: 1 << 20, 2 << 20: 2 << 20, 2<<20 + 1: 2<<20 + 1,
	} {
		b := pool.Get(length)
		if len(*b) != length || cap(*b) != want {
			t.Errorf("Get(%d): length %d, capacity %d, want capacity %d", length, len(*b), cap(*b), want)
		}
		pool.Put(b)
		if again := pool.Get(length); len(*again) != length {
			t.Errorf("Get(%d) again: length %d", length, len(*again))
		}
	}
}

func TestMessagesThatGrowWhenDecodedAreRefused(t *testing.T) {
	codec := wire.NewCodec(wire.NewBufferPool())
	failures := make([]*wirev1.Failure, record.MaxRows+1)
	for i := range failures {
		failures[i] = &wirev1.Failure{}
	}
	many := make([]*wirev1.ConfigError, 1<<20)
	for i := range many {
		many[i] = &wirev1.ConfigError{}
	}
	topics := &wirev1.TopicChange{Topic: &wirev1.TopicColumn{Topics: make([]string, record.MaxRows+1)}}
	for name, c := range map[string]struct{ from, to any }{
		"failures":       {&wirev1.Reply{Failures: failures}, &wire.ReplyFrame{}},
		"topics":         {&wirev1.Reply{Topic: topics}, &wire.ReplyFrame{}},
		"reply by value": {&wirev1.Reply{Topic: topics}, &wirev1.Reply{}},
		"config errors":  {&wirev1.ConfigureReply{Errors: many}, &wirev1.ConfigureReply{}},
	} {
		data, err := codec.Marshal(c.from)
		if err != nil {
			t.Fatal(err)
		}
		if err := codec.Unmarshal(data, c.to); err == nil {
			t.Errorf("%s: a message with more elements than any batch has records was decoded", name)
		}
		data.Free()
	}
}
