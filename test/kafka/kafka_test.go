package kafkatest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	kafkatest "github.com/barnabas-agent/barnabas/test/kafka"
	"github.com/barnabas-agent/barnabas/test/kafka/topic"
)

var kafka kafkatest.Shared

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(kafka.Around(m))
}

func producer(t *testing.T, cluster *kafkatest.Cluster) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(cluster.Bootstrap(), ",")...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// produce sends numbered records in turn to the partitions and waits until all
// of them are acknowledged.
func produce(t *testing.T, client *kgo.Client, name string, from, to int, partitions int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	records := make([]*kgo.Record, 0, to-from)
	for i := from; i < to; i++ {
		records = append(records, &kgo.Record{
			Topic: name, Partition: int32(i) % partitions,
			Key: []byte("key " + strconv.Itoa(i)), Value: []byte(strconv.Itoa(i)),
			Timestamp: time.UnixMilli(int64(1_700_000_000_000 + i)),
			Headers:   []kgo.RecordHeader{{Key: "h", Value: []byte{1}}, {Key: "h", Value: nil}},
		})
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// verify wants the numbers from 0 to n in the topic, each where and as it was
// sent. A client that lost its broker may have sent some again: what counts here
// is that the broker keeps what it acknowledged, so later copies are passed over.
func verify(t *testing.T, records []*kgo.Record, n int, partitions int32) {
	t.Helper()
	next := make([]int, partitions)
	for p := range next {
		next[p] = p
	}
	for _, r := range records {
		want := next[r.Partition]
		if number, err := strconv.Atoi(string(r.Value)); err == nil && number < want && number%int(partitions) == int(r.Partition) {
			continue
		}
		next[r.Partition] += int(partitions)
		got := fmt.Sprintf("%s=%s at %d with %v", r.Key, r.Value, r.Timestamp.UnixMilli(), r.Headers)
		expected := fmt.Sprintf("key %d=%[1]d at %d with [{h [1]} {h []}]", want, 1_700_000_000_000+want)
		if got != expected {
			t.Fatalf("partition %d offset %d holds %q, not %q", r.Partition, r.Offset, got, expected)
		}
	}
	for p, end := range next {
		if end < n {
			t.Errorf("partition %d ends before number %d", p, end)
		}
	}
}

// mustHang wants that the topic's broker takes no request.
func mustHang(t *testing.T, paused *topic.Topic) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if count, err := paused.Count(ctx); err == nil {
		t.Errorf("a paused broker says that the topic holds %d records", count)
	}
}

func TestOneBrokerSurvivesKillStopAndPause(t *testing.T) {
	cluster := kafkatest.Start(t, kafkatest.Options{})
	numbers := cluster.CreateTopic("numbers", 6, nil)
	client := producer(t, cluster)
	steps := []struct {
		name string
		do   func()
	}{
		{"start", func() {}},
		{"kill", func() { cluster.Kill(1); cluster.Restart(1) }},
		{"stop", func() { cluster.Stop(1); cluster.Restart(1) }},
		{"pause", func() { cluster.Pause(1); mustHang(t, numbers); cluster.Resume(1) }},
	}
	for i, step := range steps {
		start := time.Now()
		step.do()
		t.Logf("%s: %s", step.name, time.Since(start).Round(time.Millisecond))
		produce(t, client, "numbers", i*600, (i+1)*600, 6)
		if got := cluster.WaitCount("numbers", int64(i+1)*600, time.Minute); got < int64(i+1)*600 {
			t.Fatalf("after %s the topic holds %d records", step.name, got)
		}
	}
	verify(t, cluster.Read("numbers"), 2400, 6)
}

func TestThreeBrokersServeWhileOneIsDead(t *testing.T) {
	cluster := kafkatest.Start(t, kafkatest.Options{Brokers: 3})
	cluster.CreateTopic("numbers", 6, nil)
	client := producer(t, cluster)
	produce(t, client, "numbers", 0, 600, 6)
	for id := 1; id <= 3; id++ {
		cluster.Kill(id)
		produce(t, client, "numbers", 600*id, 600*(id+1), 6)
		cluster.Restart(id)
		// The broker that came back has to catch up before another may be killed:
		// the topic needs two replicas in sync.
		cluster.WaitInSync("numbers", 3, time.Minute)
	}
	if ends := cluster.EndOffsets("numbers"); slices.Min(ends) < 400 {
		t.Errorf("2400 records were acknowledged, but the partitions end at %v", ends)
	}
	verify(t, cluster.Read("numbers"), 2400, 6)
}

func TestPropertiesReachTheBroker(t *testing.T) {
	cluster := kafkatest.Start(t, kafkatest.Options{Properties: map[string]string{"message.max.bytes": "1000"}})
	cluster.CreateTopic("small", 1, nil)
	client := producer(t, cluster)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := client.ProduceSync(ctx, &kgo.Record{Topic: "small", Value: incompressible(2000)}).FirstErr()
	if !errors.Is(err, kerr.MessageTooLarge) {
		t.Fatalf("a record of 2000 bytes against message.max.bytes=1000: %v", err)
	}
}

func incompressible(n int) []byte {
	value := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(value)
	return value
}

// TestRecordsOfAnyAgeStay lets the broker look for old records at once and often:
// by its own defaults it deletes those whose timestamp is a week old.
func TestRecordsOfAnyAgeStay(t *testing.T) {
	cluster := kafkatest.Start(t, kafkatest.Options{Properties: map[string]string{
		"log.initial.task.delay.ms": "0", "log.retention.check.interval.ms": "100",
	}})
	cluster.CreateTopic("old", 1, nil)
	cluster.CreateTopic("trimmed", 1, map[string]string{"retention.ms": "1000"})
	client := producer(t, cluster)
	produce(t, client, "old", 0, 100, 1)
	produce(t, client, "trimmed", 0, 100, 1)
	trimmed := topic.Topic{Bootstrap: cluster.Bootstrap(), Name: "trimmed"}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		starts, err := trimmed.StartOffsets(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if starts[0] == 100 {
			break
		}
		<-ticker.C
	}
	verify(t, cluster.Read("old"), 100, 1)
	if left := cluster.Read("trimmed"); len(left) != 0 || cluster.EndOffsets("trimmed")[0] != 100 {
		t.Fatalf("%d records read where all are deleted", len(left))
	}
}

func TestSharedClusterIsOne(t *testing.T) {
	first, second := kafka.Cluster(t), kafka.Cluster(t)
	if first.Bootstrap() != second.Bootstrap() || first.Pid(1) != second.Pid(1) {
		t.Fatalf("two clusters: %s and %s", first.Bootstrap(), second.Bootstrap())
	}
	first.CreateTopic("shared", 1, map[string]string{"cleanup.policy": "compact"})
	if ends := second.EndOffsets("shared"); len(ends) != 1 || ends[0] != 0 {
		t.Fatalf("a new topic of one partition ends at %v", ends)
	}
	if records := second.Read("shared"); len(records) != 0 {
		t.Fatalf("a new topic holds %d records", len(records))
	}
	if err := syscall.Kill(first.Pid(1), 0); err != nil {
		t.Fatalf("the broker does not run: %v", err)
	}
}

func TestJavaPartitions(t *testing.T) {
	// Hashes from Apache Kafka's own UtilsTest.testMurmur2.
	hashes := map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	}
	var keys [][]byte
	var want []int32
	for key, hash := range hashes {
		keys, want = append(keys, []byte(key)), append(want, hash&0x7fffffff%7)
	}
	for i, partition := range kafkatest.JavaPartitions(t, keys, 7) {
		if partition != want[i] {
			t.Errorf("key %q: partition %d, not %d", keys[i], partition, want[i])
		}
	}
	binary := [][]byte{{}, {0}, {0xff, 0xfe, '\n', 0x80}, make([]byte, 100_000)}
	if got := kafkatest.JavaPartitions(t, binary, 1_000_003); len(got) != len(binary) {
		t.Errorf("%d partitions for %d keys", len(got), len(binary))
	}
}
