package sdk_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// Audit is an interceptor that keeps account of what became of records.
type Audit struct {
	delivered sdk.Counter // unexported: exported fields are the configuration
	refused   sdk.Counter
	missed    sdk.Counter
	last      sdk.Gauge
}

// OnSend lets every record pass.
func (*Audit) OnSend(context.Context, *sdk.Batch) error { return nil }

// OnAcknowledgement counts. The slice is the plugin's own.
func (a *Audit) OnAcknowledgement(all []sdk.Acknowledgement) {
	for _, one := range all {
		if one.Error != "" {
			a.refused.Add(uint64(one.Count))
			continue
		}
		a.delivered.Add(uint64(one.Count))
		if one.FirstOffset >= 0 {
			a.last.Set(float64(one.FirstOffset) + float64(one.Count) - 1)
		}
	}
}

// OnAcknowledgementLoss counts what the plugin was too slow for.
func (a *Audit) OnAcknowledgementLoss(records uint64) { a.missed.Add(records) }

// Metrics shows the numbers on the agent's page, as barnabas_plugin_audit_delivered_total and so on.
func (a *Audit) Metrics() []sdk.Metric {
	return []sdk.Metric{
		a.delivered.Metric("delivered_total", "Records that the brokers have."),
		a.refused.Metric("refused_total", "Records that were refused."),
		a.missed.Metric("missed_total", "Records of which nothing was heard."),
		a.last.Metric("last_offset", "The offset that was acknowledged last, of any partition."),
	}
}

// What became of records is told in ranges of consecutive offsets.
func ExampleAcknowledger() {
	a := &Audit{}
	a.OnAcknowledgement([]sdk.Acknowledgement{
		{Topic: "access", Partition: 3, FirstOffset: 1041, Count: 2},
		{Topic: "access", Partition: -1, FirstOffset: -1, Count: 1, Error: "MSG_SIZE_TOO_LARGE: 2 MB"},
	})
	fmt.Println(a.delivered.Value(), "delivered, the last at", a.last.Value(), "and", a.refused.Value(), "refused")
	// Output: 2 delivered, the last at 1042 and 1 refused
}

// Counters and gauges are fields of the plugin; Metrics names them.
func ExampleMetricsProvider() {
	var plugin sdk.Interceptor = &Audit{}
	provider, ok := plugin.(sdk.MetricsProvider)
	fmt.Println(ok, len(provider.Metrics()))
	// Output: true 4
}

// RetryLater keeps the batch: nothing is lost and nothing is restarted while a
// dependency is away.
func ExampleRetryLater() {
	b := sdk.NewBatch(sdk.Fields{Value: []byte("1")})
	err := sdk.EachRecord(context.Background(), b, func(context.Context, *sdk.Record) error {
		return sdk.RetryLater(errors.New("the registry does not answer"))
	})
	_, _, failed := b.Failure(0)
	fmt.Println(err, failed)
	// Output: the registry does not answer false
}

// Passing leaves payloads as they are, so that none crosses to its process.
type Passing struct{}

// Serialize only names who serialized.
func (*Passing) Serialize(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		b.SetHeaders(i, []sdk.Header{{Name: "serializer", Value: []byte("passing")}})
	}
	return nil
}

// Columns declares the headers; the payload needs no declaration.
func (*Passing) Columns() sdk.Columns { return sdk.Columns{Writes: sdk.ColumnHeaders} }

// ReadsPayload spares the payload the way to the process.
func (*Passing) ReadsPayload() bool { return false }

func ExamplePayloadDeclarer() {
	b := sdk.NewBatch(sdk.Fields{Value: []byte("as it is")})
	if err := (&Passing{}).Serialize(context.Background(), b); err != nil {
		fmt.Println(err)
	}
	name, _ := b.Header(0, "serializer")
	fmt.Printf("%s, by %s\n", b.Value(0), name)
	// Output: as it is, by passing
}

// Sharded is a partitioner that sends records of a tenant to the same partition.
type Sharded struct {
	topology sdk.Topology
}

// OnTopology keeps the partition counts.
func (s *Sharded) OnTopology(t sdk.Topology) { s.topology = t }

// Partition uses the key's first byte.
func (s *Sharded) Partition(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		count, known := s.topology.Partitions(b.Topic(i))
		if key := b.Key(i); known && len(key) > 0 {
			b.SetPartition(i, int32(key[0])%count)
		}
	}
	return nil
}

func ExampleTopologyObserver() {
	s := &Sharded{}
	s.OnTopology(sdk.NewTopology(sdk.TopicPartitions{Topic: "access", Partitions: 4}))
	b := sdk.NewBatch(
		sdk.Fields{Key: []byte("B"), Topic: "access", Partition: sdk.PartitionAny},
		sdk.Fields{Topic: "access", Partition: sdk.PartitionAny},
	)
	if err := s.Partition(context.Background(), b); err != nil {
		fmt.Println(err)
	}
	fmt.Println(b.Partition(0), b.Partition(1) == sdk.PartitionAny)
	// Output: 2 true
}
