package sdk

import "slices"

// Topology is how many partitions topics have. It is immutable and safe for
// concurrent use; the zero Topology knows no topic.
type Topology struct {
	topics map[string]topicPartitions
}

type topicPartitions struct {
	count     int32
	available []int32 // ascending
}

// TopicPartitions is what is known of one topic.
type TopicPartitions struct {
	Topic       string
	Partitions  int32
	Unavailable []int32 // partitions without a leader just now; they stay valid
}

// NewTopology returns a topology of the given topics, which it copies: for tests
// of a plugin's OnTopology.
func NewTopology(topics ...TopicPartitions) Topology {
	t := Topology{topics: make(map[string]topicPartitions, len(topics))}
	for _, topic := range topics {
		known := topicPartitions{count: topic.Partitions}
		away := slices.Sorted(slices.Values(topic.Unavailable))
		for p := range topic.Partitions {
			if _, unavailable := slices.BinarySearch(away, p); !unavailable {
				known.available = append(known.available, p)
			}
		}
		t.topics[topic.Topic] = known
	}
	return t
}

// Partitions returns how many partitions a topic has, numbered from 0, and
// whether that is known: it may not be while the brokers are away.
func (t Topology) Partitions(topic string) (int32, bool) {
	known, ok := t.topics[topic]
	return known.count, ok
}

// Available returns the partitions of a topic that have a leader just now, in
// ascending order; the slice must not be changed. It may be empty while the
// topic is known.
func (t Topology) Available(topic string) []int32 { return t.topics[topic].available }
