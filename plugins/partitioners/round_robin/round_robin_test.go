package main

import (
	"context"
	"testing"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

func TestKeysDoNotMatter(t *testing.T) {
	plugin := &RoundRobin{}
	plugin.OnTopology(sdk.NewTopology(
		sdk.TopicPartitions{Topic: "a", Partitions: 3, Unavailable: []int32{1}},
		sdk.TopicPartitions{Topic: "b", Partitions: 2}))
	record := sdk.Fields{Topic: "a", Key: []byte("same"), Partition: sdk.PartitionAny}
	other := sdk.Fields{Topic: "b", Partition: sdk.PartitionAny}
	for round, want := range [][]int32{{0, 0, 2, 1, 0}, {2, 0, 0, 1, 2}} {
		b := sdk.NewBatch(record, other, record, other, record)
		if err := plugin.Partition(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		for i, p := range want {
			if b.Partition(i) != p {
				t.Errorf("batch %d, record %d: partition %d, want %d", round, i, b.Partition(i), p)
			}
		}
	}
}

func TestUnknownTopicWaits(t *testing.T) {
	b := sdk.NewBatch(sdk.Fields{Topic: "unknown", Partition: sdk.PartitionAny})
	if err := (&RoundRobin{}).Partition(context.Background(), b); err == nil {
		t.Errorf("partition %d was guessed", b.Partition(0))
	}
}
