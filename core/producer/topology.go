package producer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

const (
	// refreshEvery is how often the partition counts of known topics are asked for.
	refreshEvery = 30 * time.Second
	// askUnknownEvery is how often a topic that is not known yet is asked for again.
	askUnknownEvery = 500 * time.Millisecond
	metadataTimeout = 2 * time.Second
)

// topology knows the topics in use and their partitions. Counts come from the
// brokers alone; a record whose topic's count is unknown waits.
type topology struct {
	log *slog.Logger

	mu     sync.RWMutex
	topics map[string]*topic
	asked  chan struct{} // holds a token when a topic was added or a count is doubted
	stale  atomic.Bool   // the counts of known topics are doubted
}

// topic is one topic in use.
type topic struct {
	name  string
	known chan struct{} // closed once the count is known
	turns turns

	mu         sync.RWMutex
	partitions []*partition // grows with the topic; never shrinks
	needsKey   bool         // compacted: the broker refuses records without key
	problem    string       // why the count is unknown
}

func newTopology(log *slog.Logger) *topology {
	return &topology{log: log, topics: make(map[string]*topic), asked: make(chan struct{}, 1)}
}

// use returns the topic, and has its partitions asked for when it is new.
func (t *topology) use(name string) *topic {
	t.mu.RLock()
	known := t.topics[name]
	t.mu.RUnlock()
	if known != nil {
		return known
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if known = t.topics[name]; known != nil {
		return known
	}
	known = &topic{name: name, known: make(chan struct{})}
	t.topics[name] = known
	select {
	case t.asked <- struct{}{}:
	default:
	}
	return known
}

// refresh has the counts of all topics asked for again, soon. It does not wait.
func (t *topology) refresh() {
	t.stale.Store(true)
	select {
	case t.asked <- struct{}{}:
	default:
	}
}

// list returns the topics in use.
func (t *topology) list() []*topic {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := make([]*topic, 0, len(t.topics))
	for _, one := range t.topics {
		all = append(all, one)
	}
	return all
}

// wait returns the topic's partitions once they are known.
func (t *topic) wait(ctx context.Context) ([]*partition, error) {
	select {
	case <-t.known:
		return t.all(), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// partition returns one partition, or nil when the topic is not known to have it.
func (t *topic) partition(number int32) *partition {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if number < 0 || int(number) >= len(t.partitions) {
		return nil
	}
	return t.partitions[number]
}

// all returns the partitions known so far.
func (t *topic) all() []*partition {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.partitions
}

func (t *topic) keyNeeded() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.needsKey
}

func (t *topic) setKeyNeeded() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.needsKey = true
}

// trouble says why the topic's partitions are not known, "" when they are.
func (t *topic) trouble() string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.problem
}

// update takes a count from the brokers, or the reason why there is none.
func (t *topic) update(count int, err error) (grown bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := len(t.partitions)
	if err != nil || count == 0 {
		if before == 0 {
			t.problem = "no partitions"
			if err != nil {
				t.problem = err.Error()
			}
		}
		return false
	}
	for n := before; n < count; n++ {
		t.partitions = append(t.partitions, newPartition(t, int32(n)))
	}
	t.problem = ""
	if before == 0 {
		close(t.known)
	}
	return count > before
}

// run asks for the partitions of the topics in use until ctx ends. query runs
// its argument with a client, or not at all.
func (t *topology) run(ctx context.Context, query func(func(*kafka.Producer) error)) {
	tick := time.NewTicker(askUnknownEvery)
	defer tick.Stop()
	refreshed := time.Now()
	for {
		select {
		case <-t.asked:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		all := t.stale.Swap(false) || time.Since(refreshed) > refreshEvery
		if all {
			refreshed = time.Now()
		}
		for _, one := range t.list() {
			if ctx.Err() == nil && (all || one.partition(0) == nil) {
				query(func(client *kafka.Producer) error { return t.ask(client, one) })
			}
		}
	}
}

// ask updates one topic from the brokers' metadata. The error is that no broker answered.
func (t *topology) ask(client *kafka.Producer, one *topic) error {
	metadata, unanswered := client.GetMetadata(&one.name, false, int(metadataTimeout.Milliseconds()))
	count, err := 0, unanswered
	if err == nil {
		found := metadata.Topics[one.name]
		count = len(found.Partitions)
		if found.Error.Code() != kafka.ErrNoError {
			err = found.Error
		}
	}
	t.take(one, count, err)
	return unanswered
}

// take updates one topic and tells of changes.
func (t *topology) take(one *topic, count int, err error) {
	problem, before := one.trouble(), one.count()
	grown := one.update(count, err)
	switch {
	case err == nil && count > 0 && count < before:
		t.log.Error("topic has fewer partitions than before: records for the missing ones wait", "topic", one.name, "before", before, "now", count)
	case grown && before > 0:
		t.log.Info("topic has more partitions: the key of a record may map to another one from here on", "topic", one.name, "before", before, "now", count)
	case grown:
		t.log.Info("topic found", "topic", one.name, "partitions", count)
	}
	if after := one.trouble(); after != "" && after != problem {
		t.log.Warn("records wait: the topic's partitions are not known", "topic", one.name, "error", after)
	}
}

func (t *topic) count() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.partitions)
}

// learnKeyNeeded asks the brokers whether a topic is compacted, which is why
// they refuse records without key.
func (t *topic) learnKeyNeeded(ctx context.Context, client *kafka.Producer) error {
	admin, err := kafka.NewAdminClientFromProducer(client)
	if err != nil {
		return err
	}
	defer admin.Close()
	results, err := admin.DescribeConfigs(ctx, []kafka.ConfigResource{{Type: kafka.ResourceTopic, Name: t.name}},
		kafka.SetAdminRequestTimeout(metadataTimeout))
	if err != nil {
		return err
	}
	if len(results) != 1 {
		return errors.New("the brokers described no configuration")
	}
	if results[0].Error.Code() != kafka.ErrNoError {
		return results[0].Error
	}
	if compacted(results[0].Config["cleanup.policy"].Value) {
		t.setKeyNeeded()
	}
	return nil
}
