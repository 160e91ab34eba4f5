package devbroker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// watchWait is how long a fetch may wait for records: what is shown is that old at most.
const watchWait = 250 * time.Millisecond

// Record is a record that the broker holds.
type Record struct {
	Topic      string
	Partition  int32
	Offset     int64
	Key, Value []byte // nil: null
}

// Watch calls show for every record that is produced from now on, to any topic,
// until ctx ends. What show is given is only valid during the call.
func (b *Broker) Watch(ctx context.Context, show func(Record)) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(b.address),
		kgo.ConsumeRegex(),
		kgo.ConsumeTopics("^[^_].*"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()),
		kgo.FetchMaxWait(watchWait),
	)
	if err != nil {
		return fmt.Errorf("watch the embedded broker: %w", err)
	}
	defer client.Close()
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var problems []string
		fetches.EachError(func(topic string, partition int32, err error) {
			problems = append(problems, fmt.Sprintf("%s-%d: %v", topic, partition, err))
		})
		if len(problems) > 0 {
			return fmt.Errorf("watch the embedded broker: %s", strings.Join(problems, "; "))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			show(Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Value: r.Value})
		})
	}
}
