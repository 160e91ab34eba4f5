package devbroker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// watchWait is how long a fetch may wait for records, and how long a new
	// topic may go unseen: what is shown is that old at most.
	watchWait = 250 * time.Millisecond
	// lastWait bounds the showing of what the broker holds at the end.
	lastWait = time.Second
)

// Record is a record that the broker holds.
type Record struct {
	Topic      string
	Partition  int32
	Offset     int64
	Key, Value []byte // nil: null
}

// Watch follows every record that is produced after it was made, to any topic.
type Watch struct {
	client *kgo.Client // owned
	admin  *kadm.Client
	next   map[string]map[int32]int64 // by topic and partition: the offset that is shown next
}

// NewWatch begins a watch, which Close ends.
func (b *Broker) NewWatch(ctx context.Context) (*Watch, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.address), kgo.FetchMaxWait(watchWait), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		return nil, fmt.Errorf("watch the embedded broker: %w", err)
	}
	w := &Watch{client: client, admin: kadm.NewClient(client), next: make(map[string]map[int32]int64)}
	ends, err := w.ends(ctx)
	if err != nil {
		client.Close()
		return nil, err
	}
	for topic, partitions := range ends {
		for partition, end := range partitions {
			w.follow(topic, partition, end)
		}
	}
	return w, nil
}

// Close frees what the watch holds. It must not run beside Run.
func (w *Watch) Close() { w.client.Close() }

// Run calls show for every record until ctx ends, and then for what the broker
// holds by then. What show is given is valid during the call; its error ends Run.
func (w *Watch) Run(ctx context.Context, show func(Record) error) error {
	for ctx.Err() == nil {
		if err := w.findTopics(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		if err := w.poll(ctx, show); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWait)
	defer cancel()
	ends, err := w.ends(ctx)
	if err != nil {
		return err
	}
	for topic, partitions := range ends {
		for partition := range partitions {
			w.follow(topic, partition, 0)
		}
	}
	for ctx.Err() == nil && w.isBehind(ends) {
		if err := w.poll(ctx, show); err != nil {
			return err
		}
	}
	return nil
}

// poll shows what there is, waiting a little for it.
func (w *Watch) poll(ctx context.Context, show func(Record) error) error {
	ctx, cancel := context.WithTimeout(ctx, watchWait)
	defer cancel()
	fetches := w.client.PollFetches(ctx)
	var failed error
	fetches.EachError(func(topic string, partition int32, err error) {
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			failed = errors.Join(failed, fmt.Errorf("watch %s-%d of the embedded broker: %w", topic, partition, err))
		}
	})
	fetches.EachRecord(func(r *kgo.Record) {
		w.next[r.Topic][r.Partition] = r.Offset + 1
		if failed == nil {
			failed = show(Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Value: r.Value})
		}
	})
	return failed
}

// findTopics follows topics that were made since the watch began, from their beginning.
func (w *Watch) findTopics(ctx context.Context) error {
	topics, err := w.admin.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("list the topics of the embedded broker: %w", err)
	}
	topics.EachPartition(func(p kadm.PartitionDetail) { w.follow(p.Topic, p.Partition, 0) })
	return nil
}

// follow begins to read a partition, unless that has begun.
func (w *Watch) follow(topic string, partition int32, from int64) {
	if _, followed := w.next[topic][partition]; followed {
		return
	}
	if w.next[topic] == nil {
		w.next[topic] = make(map[int32]int64)
	}
	w.next[topic][partition] = from
	w.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(from)}})
}

// ends returns the end offset of every partition.
func (w *Watch) ends(ctx context.Context) (map[string]map[int32]int64, error) {
	listed, err := w.admin.ListEndOffsets(ctx)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask the embedded broker for its offsets: %w", err)
	}
	ends := make(map[string]map[int32]int64)
	listed.Each(func(o kadm.ListedOffset) {
		if ends[o.Topic] == nil {
			ends[o.Topic] = make(map[int32]int64)
		}
		ends[o.Topic][o.Partition] = o.Offset
	})
	return ends, nil
}

// isBehind reports whether something before ends is not shown yet.
func (w *Watch) isBehind(ends map[string]map[int32]int64) bool {
	for topic, partitions := range ends {
		for partition, end := range partitions {
			if w.next[topic][partition] < end {
				return true
			}
		}
	}
	return false
}
