// Command murmur2 is the partitioner "murmur2": records with the same key go to
// the same partition, the very one that Kafka's Java client chooses, so that
// records of both stand together. Records without a key go to the topic's
// partitions in turn, those without a leader left out while others have one.
//
// An empty key is a key. The partition of a key changes with the number of
// partitions, as it does in Kafka.
//
// It has no configuration:
//
//	partitioner "murmur2" { }
package main

import (
	"context"

	"github.com/barnabas-agent/barnabas/plugins/rotation"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// Murmur2 is the partitioner.
type Murmur2 struct {
	keyless rotation.Rotation
}

// newMurmur2 returns a plugin with the defaults.
func newMurmur2() sdk.Partitioner { return &Murmur2{} }

// Columns are key and topic.
func (*Murmur2) Columns() sdk.Columns {
	return sdk.Columns{Reads: sdk.ColumnKey | sdk.ColumnTopic}
}

// OnTopology takes the numbers of partitions.
func (m *Murmur2) OnTopology(t sdk.Topology) { m.keyless.Observe(t) }

// Partition chooses a partition for every record.
func (m *Murmur2) Partition(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		partition, err := m.choose(b.Topic(i), b.Key(i))
		if err != nil {
			return err
		}
		b.SetPartition(i, partition)
	}
	return nil
}

// choose returns the partition for a key, nil being none.
func (m *Murmur2) choose(topic string, key []byte) (int32, error) {
	if key == nil {
		return m.keyless.Next(topic)
	}
	count, err := m.keyless.Count(topic)
	if err != nil {
		return 0, err
	}
	return partitionForKey(key, count), nil
}
