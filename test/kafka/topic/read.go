package topic

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// fetchBytes is asked for at once: reading a topic back is bound by round trips
// otherwise.
const fetchBytes = 16 << 20

// Each calls visit with every record that is in the topic when Each is called,
// those of one partition in the order of their offsets. The record and its bytes
// may be kept.
func (t *Topic) Each(ctx context.Context, visit func(*kgo.Record)) error {
	starts, err := t.StartOffsets(ctx)
	if err != nil {
		return err
	}
	ends, err := t.EndOffsets(ctx)
	if err != nil {
		return err
	}
	assigned := make(map[int32]kgo.Offset)
	for partition, end := range ends {
		if starts[partition] < end {
			assigned[int32(partition)] = kgo.NewOffset().At(starts[partition])
		}
	}
	if len(assigned) == 0 {
		return nil
	}
	client, err := t.client(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.Name: assigned}),
		kgo.KeepControlRecords(), // a partition may end with one
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchBytes/2))
	if err != nil {
		return err
	}
	defer client.Close()
	for left := len(assigned); left > 0; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read topic %s: %w", t.Name, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end := ends[r.Partition]
			if r.Offset == end-1 {
				left--
			}
			if r.Offset < end && !r.Attrs.IsControl() {
				visit(r)
			}
		})
	}
	return nil
}

// Read returns every record that is in the topic, those of one partition in the
// order of their offsets.
func (t *Topic) Read(ctx context.Context) ([]*kgo.Record, error) {
	var records []*kgo.Record
	err := t.Each(ctx, func(r *kgo.Record) { records = append(records, r) })
	return records, err
}
