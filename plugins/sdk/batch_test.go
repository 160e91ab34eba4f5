package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

func TestBatchShowsTheRecords(t *testing.T) {
	b := sdk.NewBatch(
		sdk.Fields{
			Value: []byte("v"), Key: []byte("k"), Topic: "t", Partition: 3, Timestamp: 42,
			Headers: []sdk.Header{{Name: "h", Value: []byte("1")}, {Name: "h", Value: []byte("2")}, {Name: "null"}},
			Source:  sdk.Source{Kind: "file", File: "/f", Host: "host", Offset: 9},
		},
		sdk.Fields{Value: []byte{}, Partition: sdk.PartitionAny},
		sdk.Fields{Object: map[string]any{"n": 1, "list": []any{"a", nil, true, 1.5}}},
	)
	if b.Len() != 3 || string(b.Value(0)) != "v" || string(b.Key(0)) != "k" || b.Topic(0) != "t" || b.Partition(0) != 3 || b.Timestamp(0) != 42 {
		t.Errorf("record 0: %q %q %q %d %d", b.Value(0), b.Key(0), b.Topic(0), b.Partition(0), b.Timestamp(0))
	}
	if got, want := b.Source(0), (sdk.Source{Kind: "file", File: "/f", Host: "host", Offset: 9}); got != want {
		t.Errorf("source %+v", got)
	}
	if last, ok := b.Header(0, "h"); !ok || string(last) != "2" {
		t.Errorf("header h: %q, %v", last, ok)
	}
	if null, ok := b.Header(0, "null"); !ok || null != nil {
		t.Errorf("null header: %q, %v", null, ok)
	}
	if _, ok := b.Header(1, "h"); ok {
		t.Error("a header that the record does not have")
	}
	if b.Value(1) == nil || b.ValueKind(1) != sdk.KindBytes || b.Key(1) != nil || b.KeyKind(1) != sdk.KindNull {
		t.Error("an empty value is not null, a missing key is")
	}
	object, err := b.Object(2)
	if want := map[string]any{"n": int64(1), "list": []any{"a", nil, true, 1.5}}; err != nil || !reflect.DeepEqual(object, want) {
		t.Errorf("object %#v, %v", object, err)
	}
	if _, err := b.Object(0); err == nil {
		t.Error("bytes were decoded as an object")
	}
}

func TestWhatWasSetIsReadBackAndIsACopy(t *testing.T) {
	b := sdk.NewBatch(sdk.Fields{Value: []byte("old")}, sdk.Fields{Value: []byte("other")})
	mine := []byte("new")
	headers := []sdk.Header{{Name: "h", Value: []byte("v")}}
	b.SetValue(0, mine)
	b.SetKey(0, mine)
	b.SetHeaders(0, headers)
	b.SetTopic(0, "topic")
	b.SetPartition(0, 5)
	b.SetTimestamp(0, 7)
	copy(mine, "xxx")
	headers[0].Value[0] = 'x'
	if string(b.Value(0)) != "new" || string(b.Key(0)) != "new" || string(b.Headers(0)[0].Value) != "v" {
		t.Errorf("value %q, key %q, headers %v", b.Value(0), b.Key(0), b.Headers(0))
	}
	if b.Topic(0) != "topic" || b.Partition(0) != 5 || b.Timestamp(0) != 7 || string(b.Value(1)) != "other" {
		t.Error("the other columns")
	}
	b.SetValue(0, b.Value(0)[1:])
	if string(b.Value(0)) != "ew" {
		t.Errorf("a value set to a part of itself is %q", b.Value(0))
	}
	b.SetValueNull(0)
	b.SetKeyNull(0)
	if b.Value(0) != nil || b.ValueKind(0) != sdk.KindNull || b.Key(0) != nil {
		t.Error("null was not set")
	}
	if err := b.SetObject(0, map[string]any{"b": 1, "a": []string{"x"}}); err != nil {
		t.Fatal(err)
	}
	if object, err := b.Object(0); err != nil || !reflect.DeepEqual(object, map[string]any{"a": []any{"x"}, "b": int64(1)}) {
		t.Errorf("object %#v, %v", object, err)
	}
	if err := b.SetObject(0, make(chan int)); err == nil {
		t.Error("a channel was encoded")
	}
}

func TestVerdicts(t *testing.T) {
	b := sdk.NewBatch(make([]sdk.Fields, 5)...)
	b.Drop(0)
	b.Fail(1, sdk.Errorf("my.code", "because %w", errors.ErrUnsupported))
	b.Fail(2, errors.New("plain"))
	b.Fail(3, nil)
	b.Drop(3)
	b.SetPartition(4, -2)
	if !b.Dropped(0) || b.Dropped(1) || b.Dropped(3) {
		t.Error("dropped")
	}
	for i, want := range map[int]string{1: "my.code: because unsupported operation", 2: "refused: plain", 3: "refused: ", 4: "partition.negative: partition -2"} {
		code, message, failed := b.Failure(i)
		if got := code + ": " + message; !failed || got != want {
			t.Errorf("record %d: %q, %v, want %q", i, got, failed, want)
		}
	}
}

func TestPayloadIsTheKeyForAKeySerializer(t *testing.T) {
	fields := sdk.Fields{Value: []byte("v"), Key: []byte("k")}
	for role, want := range map[sdk.Role]string{sdk.RoleValue: "v", sdk.RoleKey: "k"} {
		b := sdk.NewBatchFor(role, fields, fields)
		if string(b.Payload(0)) != want || b.PayloadKind(0) != sdk.KindBytes || b.Role() != role {
			t.Errorf("role %d: payload %q", role, b.Payload(0))
		}
		b.SetPayload(0, []byte("new"))
		b.SetPayloadNull(1)
		if got := fmt.Sprintf("%q %q %q %q", b.Value(0), b.Key(0), b.Value(1), b.Key(1)); (role == sdk.RoleValue) != (got == `"new" "k" "" "k"`) ||
			(role == sdk.RoleKey) != (got == `"v" "new" "v" ""`) {
			t.Errorf("role %d: %s", role, got)
		}
	}
}

func TestRecordOutOfRangeIsABugOfThePlugin(t *testing.T) {
	b := sdk.NewBatch(sdk.Fields{})
	for name, f := range map[string]func(){
		"Value":    func() { b.Value(1) },
		"SetValue": func() { b.SetValue(1, nil) },
		"Drop":     func() { b.Drop(-1) },
		"Fail":     func() { b.Fail(1, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of a record that is not there did not panic", name)
				}
			}()
			f()
		}()
	}
}

func TestEachRecordRefusesAloneAndGoesOn(t *testing.T) {
	b := sdk.NewBatch(sdk.Fields{Value: []byte("a")}, sdk.Fields{Value: []byte("b")}, sdk.Fields{Value: []byte("c")}, sdk.Fields{Value: []byte("d")})
	err := sdk.EachRecord(t.Context(), b, func(_ context.Context, r *sdk.Record) error {
		switch string(r.Value()) {
		case "a":
			return sdk.Errorf("a.code", "no a")
		case "b":
			var none map[string]int
			none["x"]++ //nolint:staticcheck // it is to panic
		case "c":
			r.Drop()
		default:
			r.SetValue([]byte("D"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if code, message, _ := b.Failure(0); code != "a.code" || message != "no a" {
		t.Errorf("refused record: %s %s", code, message)
	}
	if code, message, _ := b.Failure(1); code != "panic" || !strings.Contains(message, "nil map") || !strings.Contains(message, "batch_test.go") {
		t.Errorf("record that panicked: %s %s, want the panic and its stack", code, message)
	}
	if !b.Dropped(2) || string(b.Value(3)) != "D" {
		t.Error("the records behind the panic were not handled")
	}
}

func TestEachRecordStopsForRetryLaterAndAtTheEndOfTime(t *testing.T) {
	b := sdk.NewBatch(sdk.Fields{}, sdk.Fields{})
	away, calls := errors.New("registry is away"), 0
	err := sdk.EachRecord(t.Context(), b, func(context.Context, *sdk.Record) error {
		calls++
		return fmt.Errorf("look up: %w", sdk.RetryLater(away))
	})
	if !errors.Is(err, away) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	if _, _, failed := b.Failure(0); failed {
		t.Error("a record was refused for something that is away")
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = sdk.EachRecord(ctx, b, func(context.Context, *sdk.Record) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of time: %v", err)
	}
}

func TestTopology(t *testing.T) {
	topology := sdk.NewTopology(sdk.TopicPartitions{Topic: "a", Partitions: 4, Unavailable: []int32{3, 1}}, sdk.TopicPartitions{Topic: "b", Partitions: 1})
	if n, ok := topology.Partitions("a"); n != 4 || !ok {
		t.Errorf("partitions of a: %d, %v", n, ok)
	}
	if got := fmt.Sprint(topology.Available("a"), topology.Available("b"), topology.Available("c")); got != "[0 2] [0] []" {
		t.Errorf("available: %s", got)
	}
	if _, ok := topology.Partitions("c"); ok {
		t.Error("an unknown topic is known")
	}
	if _, ok := (sdk.Topology{}).Partitions("a"); ok {
		t.Error("the zero topology knows a topic")
	}
}
