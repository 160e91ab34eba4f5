package producer

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests; nothing waits that long but a test that fails.
const patience = 60 * time.Second

// broker is a Kafka broker in this process whose connections can be cut.
type broker struct {
	*kfake.Cluster
	gate *gate
}

func startBroker(t testing.TB, opts ...kfake.Opt) *broker {
	t.Helper()
	g := &gate{open: make(map[net.Conn]struct{})}
	opts = append([]kfake.Opt{kfake.NumBrokers(1), kfake.ListenFn(g.listen)}, opts...)
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return &broker{Cluster: cluster, gate: g}
}

// gate is a listener whose connections can be cut and refused: a broker that is down.
type gate struct {
	mu   sync.Mutex
	shut bool
	open map[net.Conn]struct{}
}

func (g *gate) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	return &gateListener{Listener: l, gate: g}, err
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	if shut {
		for c := range g.open {
			c.Close()
		}
		clear(g.open)
	}
}

type gateListener struct {
	net.Listener
	gate *gate
}

func (l *gateListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.gate.mu.Lock()
		if !l.gate.shut {
			l.gate.open[c] = struct{}{}
			l.gate.mu.Unlock()
			return c, nil
		}
		l.gate.mu.Unlock()
		c.Close()
	}
}

func testConfig(b *broker) Config {
	return Config{
		Name: "test", BootstrapServers: b.ListenAddrs(), Acks: "all", Idempotence: true,
		Retries: 2147483647, BufferMemory: 32 << 20, BatchSize: 1 << 20, Linger: 5 * time.Millisecond,
		Compression: "none", MaxRequestSize: 1 << 20, MaxInFlight: 5, ClientID: "barnabas-test",
	}
}

// running is a producer that runs until the test ends.
type running struct {
	*Producer
	stop func()
}

func startProducer(t testing.TB, c Config, open func(*Producer)) *running {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	p, err := New(c, metric.New(), log)
	if err != nil {
		t.Fatal(err)
	}
	open(p)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the producer ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("the producer does not end")
		}
	})
	t.Cleanup(stop)
	return &running{Producer: p, stop: stop}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(b[:len(b)-1]))
	return len(b), nil
}

// row is one record to send.
type row struct {
	key, value []byte
	headers    []record.Header
	timestamp  int64
	topic      string
	partition  int32
}

func text(value string) row { return row{value: []byte(value), partition: record.PartitionAny} }

func keyed(key, value string) row {
	r := text(value)
	r.key = []byte(key)
	return r
}

func at(partition int32, value string) row {
	r := text(value)
	r.partition = partition
	return r
}

// stream is where the records of the tests come from.
type stream struct{}

func (*stream) Origin() record.Origin { return record.Origin{Kind: "file"} }
func (*stream) Delivered(int64)       {}

// newBatch makes a batch for a topic out of rows.
func newBatch(topic string, rows ...row) *record.Batch {
	b := &record.Batch{Topics: []string{topic}}
	block := make([]byte, 0, 1<<16)
	var spans []record.Span
	for _, r := range rows {
		spans = append(spans, record.Span{Offset: uint32(len(block)), Length: uint32(len(r.value))})
		if r.value == nil {
			spans[len(spans)-1].Kind = record.Null
		}
		block = append(block, r.value...)
	}
	b.Value.AddBlock(block)
	from := &stream{}
	now := time.Now().UnixMilli()
	for i, r := range rows {
		stamp := r.timestamp
		if stamp == 0 {
			stamp = now
		}
		b.Append(from, spans[i], stamp, int64(i), int64(i+1))
	}
	for i, r := range rows {
		if r.key != nil {
			block := b.Key.AddBlock(r.key)
			b.Key.Set(len(rows), i, record.Span{Block: block, Length: uint32(len(r.key))})
		}
		if r.headers != nil {
			b.SetHeaders(i, r.headers)
		}
		if r.topic != "" {
			b.SetTopic(i, r.topic)
		}
		if r.partition != record.PartitionAny {
			b.SetPartition(i, r.partition)
		}
	}
	return b
}

// outcome is told what became of a batch, and holds the producer to its word:
// every row once.
type outcome struct {
	t testing.TB

	mu        sync.Mutex
	left      int
	delivered map[uint32]bool
	accepted  map[uint32]bool
	refused   map[uint32]record.Failure
	done      chan struct{} // closed when every row is delivered or refused
}

func newOutcome(t testing.TB, rows int) *outcome {
	o := &outcome{
		t: t, left: rows, done: make(chan struct{}),
		delivered: map[uint32]bool{}, accepted: map[uint32]bool{}, refused: map[uint32]record.Failure{},
	}
	if rows == 0 {
		close(o.done)
	}
	return o
}

func (o *outcome) Accepted(rows []uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range rows {
		if o.accepted[r] {
			o.t.Errorf("row %d is accepted twice", r)
		}
		o.accepted[r] = true
	}
}

func (o *outcome) Delivered(rows []uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range rows {
		o.once(r)
		o.delivered[r] = true
	}
	o.resolve(len(rows))
}

func (o *outcome) Refused(f record.Failure) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.once(f.Row)
	o.refused[f.Row] = f
	o.resolve(1)
}

func (o *outcome) once(r uint32) {
	if _, refused := o.refused[r]; refused || o.delivered[r] {
		o.t.Errorf("row %d is resolved twice", r)
	}
}

func (o *outcome) resolve(n int) {
	o.left -= n
	if o.left == 0 {
		close(o.done)
	}
}

func (o *outcome) unresolved() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.left
}

func (o *outcome) wait() {
	o.t.Helper()
	select {
	case <-o.done:
	case <-time.After(patience):
		o.mu.Lock()
		defer o.mu.Unlock()
		o.t.Fatalf("%d rows are not resolved", o.left)
	}
}

// allDelivered waits and fails the test where a row was refused.
func (o *outcome) allDelivered() {
	o.t.Helper()
	o.wait()
	for _, f := range o.refused {
		o.t.Errorf("row %d is refused: %s: %s", f.Row, f.Code, f.Message)
	}
}

// send sends a batch; what became of it is told by the outcome.
func send(t testing.TB, c *Client, b *record.Batch) *outcome {
	t.Helper()
	o := newOutcome(t, b.Rows())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Send(ctx, b, b.Live, o); err != nil {
		t.Fatalf("send: %v", err)
	}
	return o
}

// consume returns the records of a topic by partition, in order.
func consume(t testing.TB, b *broker, topic string) map[int32][]*kgo.Record {
	t.Helper()
	ends := map[int32]int64{}
	var total int64
	for _, p := range b.PartitionInfos(topic) {
		ends[p.Partition] = p.HighWatermark
		total += p.HighWatermark
	}
	offsets := map[int32]kgo.Offset{}
	for p := range ends {
		offsets[p] = kgo.NewOffset().AtStart()
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.ListenAddrs()...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	got := map[int32][]*kgo.Record{}
	for n := int64(0); n < total; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("read %d of %d records of %s", n, total, topic)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			got[r.Partition] = append(got[r.Partition], r)
			n++
		})
	}
	return got
}

// values returns the values of a partition in order.
func values(records []*kgo.Record) []string {
	var all []string
	for _, r := range records {
		all = append(all, string(r.Value))
	}
	return all
}

// firstCopies leaves out what was seen before.
func firstCopies(all []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(all), func(v string) bool {
		again := seen[v]
		seen[v] = true
		return again
	})
}

func wantValues(t testing.TB, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("%s: %d records, want %d; the first that differs is record %d: %s, want %s", what, len(got), len(want), i, g, w)
			return
		}
	}
}

// numbered returns n values "prefix-0", "prefix-1"…
func numbered(prefix string, from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("%s-%05d", prefix, i))
	}
	return all
}

// eventually waits until f returns true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never happened: %s", what)
		}
	}
}

// refuseBatches has the broker answer code to every produce request that holds a record that guilty knows.
func (b *broker) refuseBatches(code int16, guilty func(value string) bool) {
	b.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		req := kreq.(*kmsg.ProduceRequest)
		if !slices.ContainsFunc(producedValues(req), guilty) {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode, rp.BaseOffset = p.Partition, code, -1
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
}

// producedValues returns the values of all records of a produce request.
func producedValues(req *kmsg.ProduceRequest) []string {
	var all []string
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			var batch kmsg.RecordBatch
			if err := batch.ReadFrom(p.Records); err != nil {
				panic(err)
			}
			records, err := kfake.BatchRecords(batch)
			if err != nil {
				panic(err)
			}
			for _, r := range records {
				all = append(all, string(r.Value))
			}
		}
	}
	return all
}
