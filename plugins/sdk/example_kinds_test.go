package sdk_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// Base64 is a serializer of values or keys.
type Base64 struct{}

// Serialize handles one batch.
func (Base64) Serialize(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		if b.PayloadKind(i) == sdk.KindBytes { // null stays null
			b.SetPayload(i, base64.StdEncoding.AppendEncode(nil, b.Payload(i)))
		}
	}
	return nil
}

// The same serializer serves values and keys: its payload is the one or the other.
func ExampleNewBatchFor() {
	for _, role := range []sdk.Role{sdk.RoleValue, sdk.RoleKey} {
		b := sdk.NewBatchFor(role, sdk.Fields{Key: []byte("k"), Value: []byte("v")})
		if err := (Base64{}).Serialize(context.Background(), b); err != nil {
			fmt.Println(err)
		}
		fmt.Printf("key %s, value %s\n", b.Key(0), b.Value(0))
	}
	// Output:
	// key k, value dg==
	// key aw==, value v
}

// ByLength is a partitioner that chooses by the length of the key.
type ByLength struct{ topology sdk.Topology }

// OnTopology is told how many partitions topics have.
func (p *ByLength) OnTopology(t sdk.Topology) { p.topology = t }

// Partition handles one batch.
func (p *ByLength) Partition(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		if partitions, known := p.topology.Partitions(b.Topic(i)); known && b.Key(i) != nil {
			b.SetPartition(i, int32(len(b.Key(i)))%partitions)
		}
	}
	return nil
}

// A partitioner keeps the topology that it is told, and leaves keyless records to the producer.
func ExampleTopology() {
	p := &ByLength{}
	p.OnTopology(sdk.NewTopology(sdk.TopicPartitions{Topic: "events", Partitions: 4}))
	b := sdk.NewBatch(
		sdk.Fields{Topic: "events", Key: []byte("alice"), Partition: sdk.PartitionAny},
		sdk.Fields{Topic: "events", Partition: sdk.PartitionAny},
	)
	err := p.Partition(context.Background(), b)
	fmt.Println(b.Partition(0), b.Partition(1) == sdk.PartitionAny, err)
	// Output: 1 true <nil>
}

// Registry is something that a plugin needs and that may be away.
type Registry func(topic string) (string, error)

// OnSend handles one batch: without the registry none of it is used.
func (lookUp Registry) OnSend(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		schema, err := lookUp(b.Topic(i))
		if err != nil {
			return sdk.RetryAfter(fmt.Errorf("ask the registry: %w", err), 2*time.Second)
		}
		b.SetHeaders(i, append(b.Headers(i)[:len(b.Headers(i)):len(b.Headers(i))], sdk.Header{Name: "schema", Value: []byte(schema)}))
	}
	return nil
}

// A plugin whose registry is away asks for the same batch later.
func ExampleRetryAfter() {
	away := Registry(func(string) (string, error) { return "", errors.New("connection refused") })
	fmt.Println(away.OnSend(context.Background(), sdk.NewBatch(sdk.Fields{Topic: "events"})))
	// Output: ask the registry: connection refused
}

// An interceptor makes an object of a value, which a serializer turns into bytes.
func ExampleBatch_SetObject() {
	b := sdk.NewBatch(sdk.Fields{Value: []byte(`{"user": "alice", "n": 7}`)})
	for i := range b.Len() {
		var object map[string]any
		if err := json.Unmarshal(b.Value(i), &object); err != nil {
			b.Fail(i, sdk.Errorf("json", "%w", err))
			continue
		}
		object["seen"] = true
		if err := b.SetObject(i, object); err != nil {
			b.Fail(i, err)
		}
	}
	object, err := b.Object(0)
	fmt.Println(b.ValueKind(0), object, err)
	// Output: object map[n:7 seen:true user:alice] <nil>
}

// A record that is not good enough is refused alone, with a code that stays the same.
func ExampleErrorf() {
	b := sdk.NewBatch(sdk.Fields{Value: []byte("too short")})
	b.Fail(0, sdk.Errorf("length.min", "%d bytes, want at least %d", len(b.Value(0)), 10))
	code, message, failed := b.Failure(0)
	fmt.Println(failed, code, message)
	// Output: true length.min 9 bytes, want at least 10
}
