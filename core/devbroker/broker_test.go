package devbroker

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, c Config) *Broker {
	t.Helper()
	b, err := Start(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func client(t *testing.T, b *Broker, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(options, kgo.SeedBrokers(b.Address()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func produce(t *testing.T, b *Broker, topic string, values ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := client(t, b, kgo.AllowAutoTopicCreation())
	for _, value := range values {
		if err := c.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// consume reads until it has as many records as are wanted.
func consume(t *testing.T, b *Broker, topic string, want int) map[string]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := client(t, b, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	got := map[string]int{}
	for n := 0; n < want; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("after %d of %d records: %v", n, want, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			got[string(r.Value)]++
			n++
		})
	}
	return got
}

func TestRecordsSurviveARestart(t *testing.T) {
	dir := t.TempDir() + "/broker"
	first := start(t, Config{Dir: dir})
	produce(t, first, "access", "one", "two")
	first.Close()
	first.Close() // closing twice is harmless

	second := start(t, Config{Dir: dir})
	produce(t, second, "access", "three")
	got := consume(t, second, "access", 3)
	if fmt.Sprint(got) != "map[one:1 three:1 two:1]" {
		t.Errorf("read %v", got)
	}
}

// What was acknowledged is on disk before the broker is closed, so that a kill
// of the agent costs nothing: a copy of the live folder is what a kill leaves.
func TestRecordsSurviveAKill(t *testing.T) {
	dir, left := t.TempDir(), t.TempDir()
	produce(t, start(t, Config{Dir: dir}), "access", "one", "two")
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	b := start(t, Config{Dir: left})
	produce(t, b, "access", "three")
	if got := consume(t, b, "access", 3); fmt.Sprint(got) != "map[one:1 three:1 two:1]" {
		t.Errorf("read %v", got)
	}
}

func TestTopicsHaveSixPartitions(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // a topic that is there already is no error
		b := start(t, Config{Dir: dir, Topics: []string{"configured"}})
		produce(t, b, "asked-for", "v")
		for _, topic := range []string{"configured", "asked-for"} {
			if n := len(b.cluster.PartitionInfos(topic)); n != 6 {
				t.Errorf("%s has %d partitions", topic, n)
			}
		}
		b.Close()
	}
}

func TestADeletedTopicIsMadeAgainWhenItIsAskedFor(t *testing.T) {
	b := start(t, Config{Dir: t.TempDir()})
	produce(t, b, "access", "old")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := kadm.NewClient(client(t, b)).DeleteTopic(ctx, "access"); err != nil {
		t.Fatal(err)
	}
	produce(t, b, "access", "new")
	if got := consume(t, b, "access", 1); got["new"] != 1 {
		t.Errorf("read %v", got)
	}
}

func TestListensOnTheLoopbackAlone(t *testing.T) {
	b := start(t, Config{Dir: t.TempDir()})
	host, _, err := net.SplitHostPort(b.Address())
	if err != nil || !net.ParseIP(host).IsLoopback() {
		t.Errorf("address is %s, %v", b.Address(), err)
	}
}

func TestABusyPortIsNoObstacle(t *testing.T) {
	first := start(t, Config{Dir: t.TempDir()})
	var port int
	if _, err := fmt.Sscanf(first.Address(), "127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	second := start(t, Config{Dir: t.TempDir(), Port: port})
	if second.Address() == first.Address() {
		t.Fatal("two brokers have one address")
	}
	first.Close()
	second.Close()
	if third := start(t, Config{Dir: t.TempDir(), Port: port}); third.Address() != first.Address() {
		t.Errorf("a free port was asked for, and %s taken", third.Address())
	}
}

func TestDataIsForTheOwnerAlone(t *testing.T) {
	dir := t.TempDir() + "/broker"
	start(t, Config{Dir: dir})
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
}

func TestDamagedDataIsAnErrorThatSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	b := start(t, Config{Dir: dir})
	produce(t, b, "access", "one")
	b.Close()
	if err := os.WriteFile(dir+"/topics.json", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "move that folder away") {
		t.Errorf("error is %v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	b := start(t, Config{Dir: t.TempDir()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", b.Address()); err == nil {
		t.Errorf("the broker still listens: %v", conn.Close())
	}
}
