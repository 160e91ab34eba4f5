package producer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/barnabas-agent/barnabas/core/record"
)

// rowsOf makes keyless rows for one partition.
func rowsOf(partition int32, values []string) []row {
	var rows []row
	for _, v := range values {
		rows = append(rows, at(partition, v))
	}
	return rows
}

// startAsync starts a broker with topic "t" and a producer with one async pipeline.
func startAsync(t testing.TB, partitions int32, opts ...kfake.Opt) (*broker, *running, *Client) {
	b := startBroker(t, append(opts, kfake.SeedTopics(partitions, "t"))...)
	var c *Client
	p := startProducer(t, testConfig(b), func(p *Producer) { c = p.Client("one", Async) })
	return b, p, c
}

func TestEverythingIsDeliveredOnceAndInOrder(t *testing.T) {
	const partitions, batches, rows = 6, 30, 500
	b := startBroker(t, kfake.SeedTopics(partitions, "t"))
	var clients []*Client
	startProducer(t, testConfig(b), func(p *Producer) {
		clients = append(clients, p.Client("one", Async), p.Client("two", Async))
	})
	done := make(chan []*outcome)
	for lane := range 2 {
		go func() {
			var all []*outcome
			for n := range batches {
				var made []row
				for i := range rows {
					number := n*rows + i
					made = append(made, keyed(fmt.Sprintf("lane%d-%d", lane, number%17), fmt.Sprintf("lane%d %06d", lane, number)))
				}
				all = append(all, send(t, clients[lane], newBatch("t", made...)))
			}
			done <- all
		}()
	}
	for range 2 {
		for _, o := range <-done {
			o.allDelivered()
		}
	}
	seen := map[string]bool{}
	partitionOf := map[string]int32{}
	for p, records := range consume(t, b, "t") {
		last := map[string]string{}
		for _, r := range records {
			value, key := string(r.Value), string(r.Key)
			if seen[value] {
				t.Errorf("%s is there twice", value)
			}
			seen[value] = true
			lane, _, _ := strings.Cut(value, " ")
			if value <= last[lane] {
				t.Errorf("partition %d: %s stands behind %s", p, value, last[lane])
			}
			last[lane] = value
			if at, known := partitionOf[key]; known && at != p {
				t.Errorf("key %s is in partitions %d and %d", key, at, p)
			}
			partitionOf[key] = p
		}
	}
	if len(seen) != 2*batches*rows {
		t.Errorf("%d records arrived, %d were sent", len(seen), 2*batches*rows)
	}
}

func TestRecordsArriveAsTheyAre(t *testing.T) {
	b, _, c := startAsync(t, 3)
	stamp := time.Date(2019, 3, 4, 5, 6, 7, 89e6, time.UTC).UnixMilli()
	rows := []row{
		{key: []byte("k"), value: []byte("both"), partition: 0, timestamp: stamp},
		{key: []byte("k"), value: nil, partition: 0, timestamp: stamp},
		{key: nil, value: []byte("no key"), partition: 0, timestamp: stamp},
		{key: []byte{}, value: []byte{}, partition: 0, timestamp: stamp},
		{value: []byte("headers"), partition: 0, timestamp: stamp, headers: []record.Header{
			{Name: "b", Value: []byte("1")}, {Name: "a", Value: nil}, {Name: "b", Value: []byte{}}, {Name: "", Value: []byte("x")},
		}},
		{value: []byte{0, 255, '\n'}, partition: 2, timestamp: stamp},
	}
	send(t, c, newBatch("t", rows...)).allDelivered()
	got := consume(t, b, "t")
	arrived := append(got[0], got[2]...)
	if len(arrived) != len(rows) || len(got[1]) != 0 {
		t.Fatalf("%d records arrived in partitions 0 and 2, %d in 1", len(arrived), len(got[1]))
	}
	for i, want := range rows {
		r := arrived[i]
		if string(r.Value) != string(want.value) || (r.Value == nil) != (want.value == nil) {
			t.Errorf("record %d: value %q, want %q", i, r.Value, want.value)
		}
		if string(r.Key) != string(want.key) || (r.Key == nil) != (want.key == nil) {
			t.Errorf("record %d: key %q, want %q", i, r.Key, want.key)
		}
		if r.Timestamp.UnixMilli() != stamp {
			t.Errorf("record %d: timestamp %v", i, r.Timestamp)
		}
		same := slices.EqualFunc(r.Headers, want.headers, func(a kgo.RecordHeader, b record.Header) bool {
			return a.Key == b.Name && string(a.Value) == string(b.Value) && (a.Value == nil) == (b.Value == nil)
		})
		if !same {
			t.Errorf("record %d: headers %v, want %v", i, r.Headers, want.headers)
		}
	}
}

func TestTopicsAndPartitionsOfRecordsAreKept(t *testing.T) {
	b := startBroker(t, kfake.SeedTopics(2, "t"), kfake.SeedTopics(5, "other"))
	var c *Client
	startProducer(t, testConfig(b), func(p *Producer) { c = p.Client("one", Async) })
	var rows []row
	for i := range 300 {
		r := at(int32(i%2), fmt.Sprintf("%03d", i))
		if i%3 == 0 {
			r.topic, r.partition = "other", int32(i%5)
		}
		rows = append(rows, r)
	}
	send(t, c, newBatch("t", rows...)).allDelivered()
	for name, count := range map[string]int{"t": 2, "other": 5} {
		got := consume(t, b, name)
		for p := range count {
			var want []string
			for _, r := range rows {
				if int(r.partition) == p && (r.topic == "other") == (name == "other") {
					want = append(want, string(r.value))
				}
			}
			wantValues(t, fmt.Sprintf("%s-%d", name, p), values(got[int32(p)]), want)
		}
	}
}

func TestRecordsThatNoBrokerWouldTakeAreRefusedAlone(t *testing.T) {
	b, _, c := startAsync(t, 2)
	zero := text("zero byte in a header")
	zero.headers = []record.Header{{Name: "a\x00b"}}
	object := text("object")
	rows := []row{
		text("good 1"),
		at(2, "partition 2 of 2"), at(-2, "partition -2"),
		{value: []byte("before 1970"), timestamp: -5, partition: record.PartitionAny},
		{value: []byte("year 9999"), timestamp: 253402300799000, partition: record.PartitionAny},
		{value: make([]byte, 2<<20), partition: record.PartitionAny},
		zero, object,
		{value: []byte("topic"), topic: "no such/topic", partition: record.PartitionAny},
		{value: []byte("topic"), topic: strings.Repeat("x", 250), partition: record.PartitionAny},
		text("good 2"),
		{partition: record.PartitionAny},
	}
	batch := newBatch("t", rows...)
	batch.Value.Spans[7].Kind = record.Object
	o := send(t, c, batch)
	o.wait()
	var refused []string
	for _, row := range slices.Sorted(maps.Keys(o.refused)) {
		f := o.refused[row]
		refused = append(refused, fmt.Sprintf("%d %s", f.Row, f.Code))
		if f.Stage != record.StageProducer || f.Message == "" {
			t.Errorf("row %d: %+v", row, f)
		}
	}
	want := []string{
		"1 UNKNOWN_PARTITION", "2 UNKNOWN_PARTITION", "3 INVALID_TIMESTAMP", "4 INVALID_TIMESTAMP", "5 MSG_SIZE_TOO_LARGE",
		"6 INVALID_HEADER", "7 NOT_SERIALIZED", "8 INVALID_TOPIC", "9 INVALID_TOPIC", "11 NULL_WITHOUT_KEY",
	}
	if !slices.Equal(refused, want) {
		t.Errorf("refused: %q", refused)
	}
	got := consume(t, b, "t")
	wantValues(t, "the rest", slices.Sorted(slices.Values(append(values(got[0]), values(got[1])...))), []string{"good 1", "good 2"})
}

// The client's own limit is what counts in the end; ours finds it beforehand, to the byte.
func TestTheLargestRecordThatFits(t *testing.T) {
	b, _, c := startAsync(t, 1, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "2000000"}))
	size := func(n, headers int) row {
		r := row{value: make([]byte, n), partition: 0, key: []byte("key")}
		for range headers {
			r.headers = append(r.headers, record.Header{Name: "name", Value: []byte("value")})
		}
		return r
	}
	for _, headers := range []int{0, 1, 300} {
		limit := c.producer.config.MaxRequestSize - recordOverhead - 3 - headers*(1+4+1+5)
		o := send(t, c, newBatch("t", at(0, "before"), size(limit, headers), size(limit+1, headers), at(0, "after")))
		o.wait()
		if len(o.refused) != 1 || o.refused[2].Code != "MSG_SIZE_TOO_LARGE" {
			t.Errorf("with %d headers: refused %v", headers, o.refused)
		}
		direct := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: new(string), Partition: 0}}
		*direct.TopicPartition.Topic = "t"
		message(direct, newBatch("t", size(limit+1, headers)), 0)
		err := c.producer.mainInstance().client.Produce(direct, nil)
		if err == nil || codeOf(err) != kafka.ErrMsgSizeTooLarge {
			t.Errorf("the client takes a record of one byte more: %v", err)
		}
	}
	wantDistinct(t, b, "t", 0, "before", "after")
}

// wantDistinct says that the short values of a partition are these, in any number.
func wantDistinct(t *testing.T, b *broker, topic string, partition int32, want ...string) {
	t.Helper()
	var short []string
	for _, v := range values(consume(t, b, topic)[partition]) {
		if len(v) < 100 {
			short = append(short, v)
		}
	}
	wantValues(t, "short values", firstCopies(short), want)
}

func TestABrokerThatIsDownCostsNothing(t *testing.T) {
	b, p, c := startAsync(t, 3)
	var outcomes []*outcome
	next := 0
	sendSome := func(batches int) {
		for range batches {
			var rows []row
			for i := range 200 {
				rows = append(rows, at(int32(i%3), fmt.Sprintf("%06d", next)))
				next++
			}
			outcomes = append(outcomes, send(t, c, newBatch("t", rows...)))
		}
	}
	sendSome(5)
	b.gate.set(true)
	sendSome(20)
	eventually(t, "the status says that no broker is reached", func() bool { return len(p.Status().Problems) > 0 })
	b.gate.set(false)
	sendSome(5)
	for _, o := range outcomes {
		o.allDelivered()
	}
	eventually(t, "the status is good again", func() bool { return len(p.Status().Problems) == 0 })
	for n, records := range consume(t, b, "t") {
		var want []string
		for i := int(n); i < next; i += 1 {
			if i%200%3 == int(n) {
				want = append(want, fmt.Sprintf("%06d", i))
			}
		}
		wantValues(t, fmt.Sprintf("partition %d", n), values(records), want)
	}
}

// Errors that are nobody's fault: whatever they do to the client, nothing is
// missing, and first copies stand in order.
func TestErrorsThatPass(t *testing.T) {
	for _, err := range []*kerr.Error{
		kerr.UnknownTopicOrPartition, kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend,
		kerr.RequestTimedOut, kerr.KafkaStorageError, kerr.ThrottlingQuotaExceeded, kerr.PolicyViolation, kerr.UnknownServerError,
		kerr.TopicAuthorizationFailed, kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID, kerr.InvalidProducerEpoch,
	} {
		t.Run(err.Message, func(t *testing.T) {
			t.Parallel()
			b, p, c := startAsync(t, 2)
			fault := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "t", Partitions: []int32{1}, Err: err, Count: 3,
				When: func(r kmsg.Request) bool { return slices.Contains(producedValues(r.(*kmsg.ProduceRequest)), "1-00150") }})
			var outcomes []*outcome
			for from := 0; from < 1000; from += 100 {
				rows := append(rowsOf(0, numbered("0", from, from+100)), rowsOf(1, numbered("1", from, from+100))...)
				outcomes = append(outcomes, send(t, c, newBatch("t", rows...)))
			}
			for _, o := range outcomes {
				o.allDelivered()
			}
			if fault.Hits() == 0 {
				t.Error("the fault never happened")
			}
			got := consume(t, b, "t")
			for n := range int32(2) {
				wantValues(t, fmt.Sprintf("partition %d", n), firstCopies(values(got[n])), numbered(fmt.Sprint(n), 0, 1000))
			}
			eventually(t, "the status is good again", func() bool { return len(p.Status().Problems) == 0 })
		})
	}
}

func TestRecordsWaitForTheirTopic(t *testing.T) {
	b := startBroker(t, kfake.SeedTopics(1, "another"))
	var c *Client
	p := startProducer(t, testConfig(b), func(p *Producer) { c = p.Client("one", Async) })
	sent := make(chan *outcome)
	go func() { sent <- send(t, c, newBatch("late", rowsOf(1, numbered("v", 0, 300))...)) }()
	eventually(t, "the status names the topic", func() bool {
		return strings.Contains(strings.Join(p.Status().Problems, "\n"), "topic late")
	})
	if err := b.CreateTopic("late", 2, nil); err != nil {
		t.Fatal(err)
	}
	(<-sent).allDelivered()
	wantValues(t, "partition 1", values(consume(t, b, "late")[1]), numbered("v", 0, 300))
}

func TestSendEndsWithItsContext(t *testing.T) {
	b := startBroker(t)
	var c *Client
	startProducer(t, testConfig(b), func(p *Producer) { c = p.Client("one", Async) })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	o := newOutcome(t, 1)
	if err := c.Send(ctx, newBatch("never", text("x")), []uint32{0}, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if o.unresolved() != 1 {
		t.Error("a row is resolved that was not sent")
	}
}

// A fatal error ends a client; the next one sends again what the first did not.
func TestFatalErrorOfTheClient(t *testing.T) {
	b, p, c := startAsync(t, 2)
	var outcomes []*outcome
	for from := 0; from < 2000; from += 100 {
		rows := append(rowsOf(0, numbered("0", from, from+100)), rowsOf(1, numbered("1", from, from+100))...)
		outcomes = append(outcomes, send(t, c, newBatch("t", rows...)))
		if from == 1000 {
			p.mainInstance().query(func(client *kafka.Producer) { client.TestFatalError(kafka.ErrOutOfOrderSequenceNumber, "a test") })
		}
	}
	for _, o := range outcomes {
		o.allDelivered()
	}
	got := consume(t, b, "t")
	for n := range int32(2) {
		wantValues(t, fmt.Sprintf("partition %d", n), firstCopies(values(got[n])), numbered(fmt.Sprint(n), 0, 2000))
	}
}

func TestOnlyTheGuiltyRecordIsRefused(t *testing.T) {
	type spot struct {
		partition int32
		value     string
	}
	tests := map[string][]spot{
		"one":                       {{0, "0-00450"}},
		"first and last of all":     {{0, "0-00000"}, {0, "0-00999"}},
		"two in one batch":          {{0, "0-00310"}, {0, "0-00311"}},
		"on two partitions at once": {{0, "0-00333"}, {1, "1-00333"}},
		"many":                      {{0, "0-00003"}, {0, "0-00200"}, {0, "0-00299"}, {1, "1-00500"}, {1, "1-00901"}},
	}
	for name, poison := range tests {
		for _, code := range []int16{kerr.InvalidRecord.Code, kerr.MessageTooLarge.Code} {
			t.Run(fmt.Sprintf("%s, code %d", name, code), func(t *testing.T) {
				t.Parallel()
				b, p, c := startAsync(t, 3)
				guilty := map[string]bool{}
				for _, s := range poison {
					guilty[s.value] = true
				}
				b.refuseBatches(code, func(v string) bool { return guilty[v] })
				var outcomes []*outcome
				for from := 0; from < 1000; from += 100 {
					var rows []row
					for n := range int32(3) {
						rows = append(rows, rowsOf(n, numbered(fmt.Sprint(n), from, from+100))...)
					}
					outcomes = append(outcomes, send(t, c, newBatch("t", rows...)))
				}
				refused := 0
				for n, o := range outcomes {
					o.wait()
					for row, f := range o.refused {
						refused++
						value := fmt.Sprintf("%d-%05d", row/100, n*100+int(row)%100)
						if !guilty[value] {
							t.Errorf("%s is refused: %s", value, f.Message)
						}
					}
				}
				if refused != len(guilty) {
					t.Errorf("%d records are refused, %d are guilty", refused, len(guilty))
				}
				got := consume(t, b, "t")
				for n := range int32(3) {
					want := slices.DeleteFunc(numbered(fmt.Sprint(n), 0, 1000), func(v string) bool { return guilty[v] })
					wantValues(t, fmt.Sprintf("partition %d", n), firstCopies(values(got[n])), want)
				}
				eventually(t, "the status is good again", func() bool { return len(p.Status().Problems) == 0 })
			})
		}
	}
}

// While one partition can't take a suspect, the others go on.
func TestASuspectThatWaitsHoldsItsPartitionAlone(t *testing.T) {
	b, p, c := startAsync(t, 2)
	b.refuseBatches(kerr.InvalidRecord.Code, func(v string) bool { return v == "poison" })
	first := send(t, c, newBatch("t", at(0, "before"), at(0, "poison"), at(0, "after")))
	topic := p.topology.use("t")
	eventually(t, "the suspects go alone", func() bool { return topic.partition(0).trouble() != "" })
	fault := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "t", Partitions: []int32{0}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	send(t, c, newBatch("t", rowsOf(1, numbered("v", 0, 200))...)).allDelivered()
	fault.Remove()
	first.wait()
	if len(first.refused) != 1 || len(first.delivered) != 2 {
		t.Errorf("refused %v, delivered %v", first.refused, first.delivered)
	}
	wantValues(t, "partition 0", firstCopies(values(consume(t, b, "t")[0])), []string{"before", "after"})
}

func TestSync(t *testing.T) {
	b := startBroker(t, kfake.SeedTopics(2, "t"))
	var c *Client
	startProducer(t, testConfig(b), func(p *Producer) { c = p.Client("one", Sync) })
	var largest atomic.Int64
	b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, Count: -1, When: func(r kmsg.Request) bool {
		if n := int64(len(producedValues(r.(*kmsg.ProduceRequest)))); n > largest.Load() {
			largest.Store(n)
		}
		return true
	}})
	b.refuseBatches(kerr.InvalidRecord.Code, func(v string) bool { return v == "v-00007" })
	batch := newBatch("t", rowsOf(1, numbered("v", 0, 100))...)
	o := newOutcome(t, batch.Rows())
	if err := c.Send(context.Background(), batch, batch.Live, o); err != nil {
		t.Fatal(err)
	}
	select {
	case <-o.done:
	default:
		t.Error("send returned before every report had come")
	}
	if len(o.refused) != 1 || o.refused[7].Code != "INVALID_RECORD" {
		t.Errorf("refused: %v", o.refused)
	}
	if largest.Load() != 1 {
		t.Errorf("a request held %d records", largest.Load())
	}
	want := slices.DeleteFunc(numbered("v", 0, 100), func(v string) bool { return v == "v-00007" })
	wantValues(t, "partition 1", values(consume(t, b, "t")[1]), want)
}

func TestSyncWaitsForTheBroker(t *testing.T) {
	b := startBroker(t, kfake.SeedTopics(1, "t"))
	var c *Client
	p := startProducer(t, testConfig(b), func(p *Producer) { c = p.Client("one", Sync) })
	send(t, c, newBatch("t", at(0, "v-00000"))).allDelivered()
	fault := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	sent := make(chan *outcome)
	go func() { sent <- send(t, c, newBatch("t", rowsOf(0, numbered("v", 1, 5))...)) }()
	eventually(t, "the status tells", func() bool { return len(p.Status().Problems) > 0 })
	fault.Remove()
	(<-sent).allDelivered()
	eventually(t, "the status is good again", func() bool { return len(p.Status().Problems) == 0 })
	wantValues(t, "partition 0", values(consume(t, b, "t")[0]), numbered("v", 0, 5))
}

func TestFireAndForgetAcceptsBeforeTheBrokerHasIt(t *testing.T) {
	b := startBroker(t, kfake.SeedTopics(1, "t"))
	var c *Client
	startProducer(t, testConfig(b), func(p *Producer) { c = p.Client("one", FireAndForget) })
	send(t, c, newBatch("t", at(0, "v-00000"))).allDelivered()
	b.gate.set(true)
	o := send(t, c, newBatch("t", rowsOf(0, numbered("v", 1, 200))...))
	eventually(t, "all rows are accepted", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.accepted) == 199 && len(o.delivered) == 0
	})
	b.gate.set(false)
	o.allDelivered()
	wantValues(t, "partition 0", values(consume(t, b, "t")[0]), numbered("v", 0, 200))
}

func TestWithoutIdempotenceEveryRecordIsAccountedForByItself(t *testing.T) {
	for _, acks := range []string{"all", "1", "0"} {
		t.Run("acks "+acks, func(t *testing.T) {
			b := startBroker(t, kfake.SeedTopics(2, "t"))
			config := testConfig(b)
			config.Acks, config.Idempotence = acks, false
			var c *Client
			startProducer(t, config, func(p *Producer) { c = p.Client("one", Async) })
			guilty := "0-00042"
			if acks == "0" {
				guilty = "" // no broker answers, so none refuses
			}
			b.refuseBatches(kerr.InvalidRecord.Code, func(v string) bool { return v == guilty })
			o := send(t, c, newBatch("t", append(rowsOf(0, numbered("0", 0, 100)), rowsOf(1, numbered("1", 0, 100))...)...))
			o.wait()
			var want []string
			for _, v := range numbered("0", 0, 100) {
				if v != guilty {
					want = append(want, v)
				}
			}
			if len(o.refused) != 100-len(want) {
				t.Errorf("refused: %v", o.refused)
			}
			if acks == "0" {
				eventually(t, "all arrived", func() bool { return b.PartitionInfo("t", 0).HighWatermark == 100 })
			}
			wantValues(t, "partition 0", firstCopies(values(consume(t, b, "t")[0])), want)
		})
	}
}

func TestDeliveryTimeout(t *testing.T) {
	b := startBroker(t, kfake.SeedTopics(1, "t"))
	config := testConfig(b)
	config.DeliveryTimeout = 300 * time.Millisecond
	var c *Client
	p := startProducer(t, config, func(p *Producer) { c = p.Client("one", Async) })
	send(t, c, newBatch("t", at(0, "v-00000"))).allDelivered()
	b.gate.set(true)
	o := send(t, c, newBatch("t", rowsOf(0, numbered("v", 1, 100))...))
	eventually(t, "records time out", func() bool {
		return strings.Contains(strings.Join(p.Status().Problems, "\n"), "partition 0")
	})
	b.gate.set(false)
	o.allDelivered()
	wantValues(t, "partition 0", firstCopies(values(consume(t, b, "t")[0])), numbered("v", 0, 100))
}

func TestShutdownWithTheBrokerDown(t *testing.T) {
	before := runtime.NumGoroutine()
	b, p, c := startAsync(t, 1)
	send(t, c, newBatch("t", at(0, "x"))).allDelivered()
	b.gate.set(true)
	o := send(t, c, newBatch("t", rowsOf(0, numbered("v", 0, 1000))...))
	start := time.Now()
	p.stop()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the end took %v", took)
	}
	if o.unresolved() != 1000 {
		t.Errorf("%d of 1000 rows are resolved that no broker has", 1000-o.unresolved())
	}
	b.Close()
	eventually(t, "the goroutines have ended", func() bool { return runtime.NumGoroutine() <= before+1 })
}

func TestGoroutinesStayFlatOverReplacements(t *testing.T) {
	b, p, c := startAsync(t, 1)
	send(t, c, newBatch("t", at(0, "v-00000"))).allDelivered()
	before := runtime.NumGoroutine()
	for n := 1; n <= 8; n++ {
		old := p.mainInstance()
		old.query(func(client *kafka.Producer) { client.TestFatalError(kafka.ErrUnknownProducerID, "a test") })
		send(t, c, newBatch("t", at(0, fmt.Sprintf("v-%05d", n)))).allDelivered()
		eventually(t, "the client is replaced", func() bool { return p.mainInstance() != old })
	}
	eventually(t, "no goroutine is left over", func() bool { return runtime.NumGoroutine() <= before+1 })
	wantValues(t, "partition 0", firstCopies(values(consume(t, b, "t")[0])), numbered("v", 0, 9))
}

// A topic that nothing may be written to waits; the others that share the client go on.
func TestATopicThatIsRefusedLeavesTheOthersAlone(t *testing.T) {
	b := startBroker(t, kfake.SeedTopics(1, "t"), kfake.SeedTopics(1, "closed"))
	var c *Client
	p := startProducer(t, testConfig(b), func(p *Producer) { c = p.Client("one", Async) })
	fault := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "closed", Err: kerr.TopicAuthorizationFailed, Count: -1})
	closed := send(t, c, newBatch("closed", rowsOf(0, numbered("closed", 0, 100))...))
	eventually(t, "the status names the topic", func() bool {
		return strings.Contains(strings.Join(p.Status().Problems, "\n"), "topic closed, partition 0")
	})
	start := time.Now()
	const rounds = 200
	for n := range rounds {
		send(t, c, newBatch("t", at(0, fmt.Sprintf("v-%05d", n)))).allDelivered()
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("%d records of another topic took %v", rounds, took)
	}
	if hits := fault.Hits(); hits > 20 {
		t.Errorf("the topic that is refused was tried %d times", hits)
	}
	if closed.unresolved() != 100 {
		t.Error("records are resolved that no broker has")
	}
	fault.Remove()
	closed.allDelivered()
	wantValues(t, "t", firstCopies(values(consume(t, b, "t")[0])), numbered("v", 0, rounds))
	wantValues(t, "closed", firstCopies(values(consume(t, b, "closed")[0])), numbered("closed", 0, 100))
}
