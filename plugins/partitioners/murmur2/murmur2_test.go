package main

import (
	"context"
	"slices"
	"testing"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

func partition(t *testing.T, plugin sdk.Partitioner, records ...sdk.Fields) []int32 {
	t.Helper()
	b := sdk.NewBatch(records...)
	if err := plugin.Partition(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	var got []int32
	for i := range b.Len() {
		got = append(got, b.Partition(i))
	}
	return got
}

func TestKeysAndTurns(t *testing.T) {
	plugin := &Murmur2{}
	plugin.OnTopology(sdk.NewTopology(
		sdk.TopicPartitions{Topic: "a", Partitions: 6, Unavailable: []int32{0, 4}},
		sdk.TopicPartitions{Topic: "b", Partitions: 1000}))
	keyed := func(topic, key string) sdk.Fields {
		return sdk.Fields{Topic: topic, Key: []byte(key), Partition: sdk.PartitionAny}
	}
	keyless := sdk.Fields{Topic: "a", Partition: sdk.PartitionAny}
	got := partition(t, plugin,
		keyed("a", "foobar"), keyless, keyed("b", "foobar"), keyless, keyed("a", ""), keyless, keyless, keyless)
	// Keys go by the number of partitions, also to one without a leader.
	foobar, empty := int32(-790332482&0x7fffffff), int32(275646681)
	want := []int32{foobar % 6, 1, foobar % 1000, 2, empty % 6, 3, 5, 1}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestUnknownTopicWaits(t *testing.T) {
	for _, key := range [][]byte{nil, []byte("k")} {
		b := sdk.NewBatch(sdk.Fields{Topic: "unknown", Key: key, Partition: sdk.PartitionAny})
		if err := (&Murmur2{}).Partition(context.Background(), b); err == nil {
			t.Errorf("key %q: partition %d was guessed", key, b.Partition(0))
		}
	}
}

func BenchmarkPartition(b *testing.B) {
	records := make([]sdk.Fields, 1000)
	for i := range records {
		records[i] = sdk.Fields{Topic: "a", Key: []byte("user-4711-0815"), Partition: sdk.PartitionAny}
	}
	plugin := &Murmur2{}
	plugin.OnTopology(sdk.NewTopology(sdk.TopicPartitions{Topic: "a", Partitions: 6}))
	batch := sdk.NewBatch(records...)
	for b.Loop() {
		if err := plugin.Partition(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(records)), "ns/record")
}
