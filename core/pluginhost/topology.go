package pluginhost

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// topicCount is how many partitions a topic has.
type topicCount struct {
	topic      string
	partitions int32
}

// counts asks for the partitions of every topic that the rows go to. It waits
// while one is unknown: a partition is never guessed.
func counts(ctx context.Context, topology Topology, b *record.Batch, rows []uint32) ([]topicCount, error) {
	var known []topicCount
	for _, topic := range topicsOf(b, rows) {
		n, err := topology.Partitions(ctx, topic)
		if err != nil {
			return nil, fmt.Errorf("wait for the partitions of topic %q: %w", topic, err)
		}
		known = append(known, topicCount{topic: topic, partitions: n})
	}
	return known, nil
}

// partitions returns how many partitions a topic of the piece has, as the plugin was told.
func (p *piece) partitions(topic string) (count int32, known bool) {
	for _, c := range p.counts {
		if c.topic == topic {
			return c.partitions, true
		}
	}
	return 0, false
}

// topicsOf lists the topics of the rows, each once.
func topicsOf(b *record.Batch, rows []uint32) []string {
	if b.TopicIndex == nil {
		return b.Topics[:1]
	}
	used := make([]bool, len(b.Topics))
	var topics []string
	for _, row := range rows {
		if n := b.TopicIndex[row]; !used[n] {
			used[n] = true
			topics = append(topics, b.Topics[n])
		}
	}
	return topics
}

// tell pushes the counts when the process does not have them all yet: every
// topic that it knows, since a topology replaces the one before. Lanes that find
// the same news wait for the one that tells it. It takes at most limit; 0: no bound.
func (i *instance) tell(ctx context.Context, counts []topicCount, limit time.Duration) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	i.topologyMu.Lock()
	defer i.topologyMu.Unlock()
	merged := maps.Clone(i.topology)
	for _, c := range counts {
		merged[c.topic] = c.partitions
	}
	if maps.Equal(merged, i.topology) {
		return nil
	}
	update := &wirev1.Topology{}
	for _, topic := range slices.Sorted(maps.Keys(merged)) {
		update.Topics = append(update.Topics, &wirev1.TopicPartitions{Topic: topic, Partitions: uint32(merged[topic])})
	}
	if _, err := i.control.UpdateTopology(ctx, update); err != nil {
		return fmt.Errorf("update the topology: %w", err)
	}
	i.topology = merged
	return nil
}
