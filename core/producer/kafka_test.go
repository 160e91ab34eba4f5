package producer

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-agent/barnabas/core/record"
	kafkatest "github.com/barnabas-agent/barnabas/test/kafka"
)

// byPartition sorts what a cluster has in a topic.
func byPartition(records []*kgo.Record) map[int32][]*kgo.Record {
	all := map[int32][]*kgo.Record{}
	for _, r := range records {
		all[r.Partition] = append(all[r.Partition], r)
	}
	return all
}

// A real Kafka refuses what its own checks find, takes up sequence numbers where
// it left them, and comes back from SIGKILL.
func TestAgainstApacheKafka(t *testing.T) {
	cluster := kafkatest.Start(t, kafkatest.Options{})
	cluster.CreateTopic("compacted", 2, map[string]string{"cleanup.policy": "compact"})
	cluster.CreateTopic("small", 1, map[string]string{"max.message.bytes": "20000"})
	cluster.CreateTopic("plain", 3, nil)
	config := Config{
		Name: "test", BootstrapServers: []string{cluster.Bootstrap()}, Acks: "all", Idempotence: true, Retries: 2147483647,
		BufferMemory: 32 << 20, BatchSize: 16 << 10, Linger: 5 * time.Millisecond, Compression: "none",
		MaxRequestSize: 1 << 20, MaxInFlight: 5, ClientID: "barnabas-test",
	}
	var c *Client
	startProducer(t, config, func(p *Producer) { c = p.Client("one", Async) })

	t.Run("records without key in a compacted topic", func(t *testing.T) {
		var all []*outcome
		want, wantRefused := map[int32][]string{}, 0
		for from := 0; from < 3000; from += 300 {
			var rows []row
			for i := from; i < from+300; i++ {
				r := at(int32(i%2), fmt.Sprintf("v-%05d", i))
				if i%500 == 42 {
					wantRefused++
				} else {
					r.key = fmt.Appendf(nil, "k-%d", i)
					want[r.partition] = append(want[r.partition], string(r.value))
				}
				rows = append(rows, r)
			}
			all = append(all, send(t, c, newBatch("compacted", rows...)))
		}
		refused := 0
		for _, o := range all {
			o.wait()
			refused += len(o.refused)
		}
		if refused != wantRefused {
			t.Errorf("%d records are refused, want %d", refused, wantRefused)
		}
		got := byPartition(cluster.Read("compacted"))
		for n := range int32(2) {
			wantValues(t, fmt.Sprintf("partition %d", n), firstCopies(values(got[n])), want[n])
		}
	})

	t.Run("a record that only the broker finds too large", func(t *testing.T) {
		large := row{value: make([]byte, 30000), partition: 0}
		rows := append(rowsOf(0, numbered("v", 0, 100)), large)
		rows = append(rows, rowsOf(0, numbered("v", 100, 200))...)
		o := send(t, c, newBatch("small", rows...))
		o.wait()
		if f, found := o.refused[100]; len(o.refused) != 1 || !found || f.Code != "MSG_SIZE_TOO_LARGE" {
			t.Errorf("refused: %v", o.refused)
		}
		wantValues(t, "the others", firstCopies(values(cluster.Read("small"))), numbered("v", 0, 200))
	})

	t.Run("killed and started again", func(t *testing.T) {
		next := 0
		var all []*outcome
		sendSome := func(batches int) {
			for range batches {
				var rows []row
				for range 300 {
					rows = append(rows, row{value: fmt.Appendf(nil, "v-%05d", next), partition: int32(next % 3), headers: []record.Header{{Name: "n"}}})
					next++
				}
				all = append(all, send(t, c, newBatch("plain", rows...)))
			}
		}
		sendSome(10)
		cluster.Kill(1)
		sendSome(20)
		cluster.Restart(1)
		sendSome(10)
		for _, o := range all {
			o.allDelivered()
		}
		got := byPartition(cluster.Read("plain"))
		for n := range int32(3) {
			want := slices.DeleteFunc(numbered("v", 0, next), func(v string) bool {
				var i int32
				fmt.Sscanf(v, "v-%d", &i)
				return i%3 != n
			})
			wantValues(t, fmt.Sprintf("partition %d", n), values(got[n]), want)
		}
	})
}
