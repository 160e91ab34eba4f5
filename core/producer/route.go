package producer

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"strings"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/barnabas-agent/barnabas/core/record"
)

const (
	// recordOverhead is what librdkafka adds to key, value and headers of a record
	// when it holds it against message.max.bytes (RD_KAFKAP_MESSAGE_V2_MAX_OVERHEAD).
	recordOverhead = 36
	// latestTimestamp is the last one that the client's binding can pass on, which
	// counts nanoseconds in 64 bits: in the year 2262.
	latestTimestamp = math.MaxInt64 / int64(time.Millisecond)
)

// routing is where the rows of one Send go.
type routing struct {
	rows       []uint32     // those that can be sent, ascending
	slots      []uint32     // of each of them, the index of its partition
	partitions []*partition // of all topics of the batch
	refused    []record.Failure

	topics []routedTopic // by the batch's number of the topic
}

// routedTopic is one topic in a routing.
type routedTopic struct {
	topic      *topic // nil until a row needs it
	name       string
	partitions []*partition
	first      int // slot of partition 0
	needsKey   bool
	invalid    bool   // Kafka allows no topic of that name
	keyless    uint32 // slot that keyless records get at this time
	dealt      int    // keyless records so far
}

// route finds the partition of each row and sets aside those that no broker would take.
func (c *Client) route(ctx context.Context, b *record.Batch, rows []uint32) (*routing, error) {
	to := &routing{
		rows: make([]uint32, 0, len(rows)), slots: make([]uint32, 0, len(rows)),
		topics: make([]routedTopic, len(b.Topics)),
	}
	for _, row := range rows {
		i := int(row)
		number := 0
		if b.TopicIndex != nil {
			number = int(b.TopicIndex[i])
		}
		t := &to.topics[number]
		if t.topic == nil && !t.invalid {
			if err := to.open(ctx, c.producer.topology, t, b.Topics[number]); err != nil {
				return nil, err
			}
		}
		if code, message := refuse(t, b, i, c.producer.config.MaxRequestSize); code != "" {
			to.refused = append(to.refused, record.Failure{Row: row, Stage: record.StageProducer, Code: code, Message: message})
			continue
		}
		to.rows = append(to.rows, row)
		to.slots = append(to.slots, t.slot(b, i))
	}
	return to, nil
}

// open waits until the topic's partitions are known and gives each a slot.
func (to *routing) open(ctx context.Context, all *topology, t *routedTopic, name string) error {
	t.name, t.invalid = name, !record.ValidTopic(name)
	if t.invalid {
		return nil
	}
	known := all.use(name)
	partitions, err := known.wait(ctx)
	if err != nil {
		return err
	}
	t.topic, t.partitions, t.first, t.needsKey = known, partitions, len(to.partitions), known.keyNeeded()
	to.partitions = append(to.partitions, partitions...)
	return nil
}

// slot returns the slot of row i: its own partition's, else its key's, else the one whose turn it is.
func (t *routedTopic) slot(b *record.Batch, i int) uint32 {
	if number := b.Partition(i); number != record.PartitionAny {
		return uint32(t.first) + uint32(number)
	}
	count := int32(len(t.partitions))
	if key := b.Key.Bytes(i); key != nil {
		return uint32(t.first) + uint32(keyPartition(key, count))
	}
	if t.dealt%chunkRows == 0 {
		t.keyless = uint32(t.first) + uint32(t.topic.turns.take(count))
	}
	t.dealt++
	return t.keyless
}

// group returns the rows ordered by slot and, of each slot, where its rows end in that order.
func (to *routing) group() (grouped []uint32, ends []int) {
	ends = make([]int, len(to.partitions))
	for _, slot := range to.slots {
		ends[slot]++
	}
	sum := 0
	for slot, n := range ends {
		ends[slot] = sum // where they begin, until the loop below has moved them
		sum += n
	}
	grouped = make([]uint32, len(to.rows))
	for n, slot := range to.slots {
		grouped[ends[slot]] = to.rows[n]
		ends[slot]++
	}
	return grouped, ends
}

// refuse finds what is known to be refused before it is sent: a stable code and a
// message for people, or "".
func refuse(t *routedTopic, b *record.Batch, i, largest int) (code, message string) {
	number, stamp := b.Partition(i), b.Timestamps[i]
	switch {
	case t.invalid:
		return "INVALID_TOPIC", fmt.Sprintf("%.300q is no name that Kafka allows for a topic", t.name)
	case b.Key.Kind(i) == record.Object || b.Value.Kind(i) == record.Object:
		return "NOT_SERIALIZED", "the key or value is an object: the pipeline needs a serializer for it"
	case b.Value.Kind(i) == record.Null && b.Key.Kind(i) == record.Null:
		return "NULL_WITHOUT_KEY", "a null value is a tombstone, which needs the key that it deletes"
	case t.needsKey && b.Key.Kind(i) == record.Null:
		return refusalWithoutKey(t.name)
	case number != record.PartitionAny && (number < 0 || int(number) >= len(t.partitions)):
		return "UNKNOWN_PARTITION", fmt.Sprintf("topic %s has no partition %d, only 0 to %d", t.name, number, len(t.partitions)-1)
	case stamp < 0 || stamp > latestTimestamp:
		return codeName(kafka.ErrInvalidTimestamp), fmt.Sprintf("timestamp %d is not between the years 1970 and 2262", stamp)
	}
	size := recordOverhead + b.Value.Size(i) + b.Key.Size(i)
	for _, h := range b.RowHeaders(i) {
		if strings.IndexByte(h.Name, 0) >= 0 {
			return "INVALID_HEADER", fmt.Sprintf("the client can't send a header whose name holds a zero byte: %.300q", h.Name)
		}
		size += varintSize(len(h.Name)) + len(h.Name) + varintSize(len(h.Value)) + len(h.Value)
	}
	if size > largest {
		return codeName(kafka.ErrMsgSizeTooLarge), fmt.Sprintf("the record is %d bytes with its overhead, max_request_size is %d", size, largest)
	}
	return "", ""
}

// refusalWithoutKey is the code and message for a record without key that a compacted topic doesn't take.
func refusalWithoutKey(topic string) (code, message string) {
	return codeName(kafka.ErrInvalidRecord), "topic " + topic + " is compacted: its broker refuses records without key"
}

// varintSize is the length of n as a zigzag varint of Kafka's record format.
func varintSize(n int) int {
	return (bits.Len64(uint64(n)<<1|1) + 6) / 7
}
