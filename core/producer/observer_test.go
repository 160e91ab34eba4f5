package producer

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/barnabas-agent/barnabas/core/metric"
)

// observed keeps what an observer is told.
type observed struct {
	mu      sync.Mutex
	offsets map[string][]int64 // by topic-partition, ascending
	unknown int
	refused []string
}

func (o *observed) Delivered(topic string, partition int32, first int64, count int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if first < 0 {
		o.unknown += count
		return
	}
	at := fmt.Sprintf("%s-%d", topic, partition)
	for n := range count {
		o.offsets[at] = append(o.offsets[at], first+int64(n))
	}
	slices.Sort(o.offsets[at])
}

func (o *observed) Refused(topic string, partition int32, reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refused = append(o.refused, fmt.Sprintf("%s-%d: %s", topic, partition, reason))
}

// wantOffsets compares with what the broker has.
func (o *observed) wantOffsets(t *testing.T, b *broker, topic string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.unknown > 0 {
		t.Errorf("the offsets of %d records are not known", o.unknown)
	}
	for partition, records := range consume(t, b, topic) {
		var want []int64
		for _, r := range records {
			want = append(want, r.Offset)
		}
		if got := o.offsets[fmt.Sprintf("%s-%d", topic, partition)]; !slices.Equal(got, want) {
			t.Errorf("partition %d: told of %d offsets, the broker has %d; first told %v", partition, len(got), len(want), got[:min(len(got), 5)])
		}
	}
}

func TestAnObserverIsToldEveryOffsetOnceInEveryMode(t *testing.T) {
	for _, mode := range []SendMode{Async, Sync, FireAndForget} {
		t.Run(string(mode), func(t *testing.T) {
			o := &observed{offsets: map[string][]int64{}}
			b := startBroker(t, kfake.SeedTopics(3, "t"))
			var client *Client
			startProducer(t, testConfig(b), func(p *Producer) {
				client = p.Client("p", mode)
				client.Observe(o)
			})
			batches := 20
			if mode == Sync {
				batches = 2
			}
			for n := range batches {
				var rows []row
				for i := range 100 {
					rows = append(rows, at(int32(i%3), fmt.Sprintf("%d-%d", n, i)))
				}
				send(t, client, newBatch("t", rows...)).allDelivered()
			}
			o.wantOffsets(t, b, "t")
			send(t, client, newBatch("t", at(7, "nowhere"))).wait()
			if len(o.refused) != 1 || !strings.HasPrefix(o.refused[0], "t-7: UNKNOWN_PARTITION: ") {
				t.Errorf("refused: %q", o.refused)
			}
		})
	}
}

func TestSyncLogsWhereEachRecordIs(t *testing.T) {
	b := startBroker(t)
	var log bytes.Buffer // written by this goroutine's Send alone
	p, err := New(testConfig(b), metric.New(), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	client := p.Client("p", Sync)
	client.deliveredAlone(t.Context(), newPartition(&topic{name: "t"}, 3), 42)
	if !strings.Contains(log.String(), "at=t-3@42") {
		t.Errorf("logged: %s", log.String())
	}
}

// Offsets that are not consecutive, for which another producer or a transaction
// is enough, are told as stretches, and never as a stretch that is not one.
func TestStretchesOfOffsetsAreNeverInvented(t *testing.T) {
	var o offsetRuns
	for _, offset := range []int64{7, 8, 9, 11, 12, -1001, 20, 30, 40, 41} {
		o.add(offset)
	}
	want := [mostRuns]offsetRun{{7, 3}, {11, 2}, {20, 1}, {30, 1}}
	if o.runs != want || o.used != mostRuns || o.unknown != 3 {
		t.Errorf("%+v, %d stretches, %d unknown", o.runs, o.used, o.unknown)
	}
}
