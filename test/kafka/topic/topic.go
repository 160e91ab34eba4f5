// Package topic makes topics, counts what is in them, and reads them back, on
// any Kafka broker. It is how tests and benchmarks see what arrived.
package topic

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// pollInterval is how often WaitCount asks for the end offsets.
const pollInterval = 25 * time.Millisecond

// answerTimeout bounds one request to a broker that hangs. A call may outlast
// its context by as much, because the client does not watch the context while it
// opens a connection.
const answerTimeout = 3 * time.Second

// Topic is one topic of a cluster. It holds no connection and may be used
// concurrently and while brokers come and go.
type Topic struct {
	Bootstrap string // the cluster's bootstrap.servers
	Name      string
}

// Create makes a topic with the cluster's own replication factor and returns
// when all its partitions have a leader. The configuration may be nil.
func Create(ctx context.Context, bootstrap, name string, partitions int32, config map[string]string) (*Topic, error) {
	t := &Topic{Bootstrap: bootstrap, Name: name}
	client, err := t.client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	values := make(map[string]*string, len(config))
	for key, value := range config {
		values[key] = &value
	}
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(ctx, partitions, -1, values, name); err != nil {
		return nil, fmt.Errorf("create topic %s: %w", name, err)
	}
	err = poll(ctx, func() (bool, error) {
		offsets, err := listOffsets(ctx, admin, (*kadm.Client).ListEndOffsets, name)
		return err == nil && len(offsets) == int(partitions), err
	})
	if err != nil {
		return nil, fmt.Errorf("wait for the leaders of topic %s: %w", name, err)
	}
	return t, nil
}

// EndOffsets returns the end offset of each partition. In a topic that nobody
// compacts and nobody writes transactions to, that is how many records it was
// ever sent.
func (t *Topic) EndOffsets(ctx context.Context) ([]int64, error) {
	return t.offsets(ctx, "end", (*kadm.Client).ListEndOffsets)
}

// StartOffsets returns the offset of the oldest record that each partition still
// keeps.
func (t *Topic) StartOffsets(ctx context.Context) ([]int64, error) {
	return t.offsets(ctx, "start", (*kadm.Client).ListStartOffsets)
}

func (t *Topic) offsets(ctx context.Context, which string, list lister) ([]int64, error) {
	client, err := t.client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	offsets, err := listOffsets(ctx, kadm.NewClient(client), list, t.Name)
	if err != nil {
		return nil, fmt.Errorf("%s offsets of topic %s: %w", which, t.Name, err)
	}
	return offsets, nil
}

// Count is the sum of the end offsets.
func (t *Topic) Count(ctx context.Context) (int64, error) {
	offsets, err := t.EndOffsets(ctx)
	return sum(offsets), err
}

// WaitCount waits until the sum of the end offsets is at least want and returns
// it. While the brokers can't be asked it goes on asking. When ctx ends first
// its error says how many there were.
func (t *Topic) WaitCount(ctx context.Context, want int64) (int64, error) {
	client, err := t.client()
	if err != nil {
		return 0, err
	}
	defer client.Close()
	var count int64
	admin := kadm.NewClient(client)
	err = poll(ctx, func() (bool, error) {
		offsets, err := listOffsets(ctx, admin, (*kadm.Client).ListEndOffsets, t.Name)
		if err == nil {
			count = sum(offsets)
		}
		return err == nil && count >= want, err
	})
	if err != nil {
		return count, fmt.Errorf("topic %s has %d records of %d: %w", t.Name, count, want, err)
	}
	return count, nil
}

// WaitInSync waits until every partition has at least the number of replicas in sync.
func (t *Topic) WaitInSync(ctx context.Context, replicas int) error {
	client, err := t.client()
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	err = poll(ctx, func() (bool, error) {
		topics, err := admin.ListTopics(ctx, t.Name)
		if err != nil {
			return false, err
		}
		if err := topics[t.Name].Err; err != nil {
			return false, err
		}
		for _, p := range topics[t.Name].Partitions {
			if p.Err != nil || len(p.ISR) < replicas {
				return false, p.Err
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("wait for %d replicas in sync of topic %s: %w", replicas, t.Name, err)
	}
	return nil
}

func (t *Topic) client(options ...kgo.Opt) (*kgo.Client, error) {
	options = append(options,
		kgo.SeedBrokers(strings.Split(t.Bootstrap, ",")...),
		kgo.RequestTimeoutOverhead(answerTimeout),
		kgo.MetadataMinAge(50*time.Millisecond)) // a test's leaders move often
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", t.Bootstrap, err)
	}
	return client, nil
}

// poll calls done until it says so or ctx ends; errors of Kafka and of the
// network are taken for passing ones and kept for the message.
func poll(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		ok, last := done()
		if ok {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			if last != nil {
				return fmt.Errorf("%w; last: %w", ctx.Err(), last)
			}
			return ctx.Err()
		}
	}
}

// lister asks for one offset of every partition of topics.
type lister func(*kadm.Client, context.Context, ...string) (kadm.ListedOffsets, error)

// listOffsets returns the offsets by partition; it fails unless all are known.
func listOffsets(ctx context.Context, admin *kadm.Client, list lister, name string) ([]int64, error) {
	listed, err := list(admin, ctx, name)
	if err != nil {
		return nil, err
	}
	partitions := listed[name]
	offsets := make([]int64, len(partitions))
	for id, p := range partitions {
		if p.Err != nil {
			return nil, p.Err
		}
		if int(id) >= len(offsets) || id < 0 {
			return nil, fmt.Errorf("partition %d listed among %d: %w", id, len(offsets), kerr.UnknownTopicOrPartition)
		}
		offsets[id] = p.Offset
	}
	return offsets, nil
}

func sum(offsets []int64) int64 {
	var total int64
	for _, offset := range offsets {
		total += offset
	}
	return total
}
