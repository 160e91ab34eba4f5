package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

func configured(t testing.TB, s *Set) *Set {
	t.Helper()
	if err := s.Configure(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s
}

func line() sdk.Fields {
	return sdk.Fields{Value: []byte("GET /index.html 200"), Key: []byte("old"), Topic: "access", Partition: sdk.PartitionAny, Timestamp: 5,
		Headers: []sdk.Header{{Name: "a", Value: []byte("1")}, {Name: "b", Value: []byte("2")}, {Name: "a", Value: []byte("3")}, {Name: "n"}},
		Source:  sdk.Source{Kind: "file", File: "/var/log/a.log", Host: "web-1"}}
}

func send(t testing.TB, s *Set, records ...sdk.Fields) *sdk.Batch {
	t.Helper()
	b := sdk.NewBatch(records...)
	if err := configured(t, s).OnSend(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	for i := range b.Len() {
		if code, message, failed := b.Failure(i); failed && (code == "" || message == "") {
			t.Errorf("record %d failed with code %q, message %q", i, code, message)
		}
	}
	return b
}

// show writes a key or value with its kind.
func show(kind sdk.Kind, b []byte, object func() (any, error)) string {
	switch kind {
	case sdk.KindNull:
		return "null"
	case sdk.KindObject:
		decoded, err := object()
		return fmt.Sprint(decoded, err)
	default:
		return fmt.Sprintf("%q", b)
	}
}

func showKey(b *sdk.Batch, i int) string { return show(b.KeyKind(i), b.Key(i), nil) }

func showValue(b *sdk.Batch, i int) string {
	return show(b.ValueKind(i), b.Value(i), func() (any, error) { return b.Object(i) })
}

// outcome is what shown says, or the code of a record that failed.
func outcome(b *sdk.Batch, i int, shown string) string {
	if code, _, failed := b.Failure(i); failed {
		return code
	}
	return shown
}

func TestKeyAndValue(t *testing.T) {
	for _, c := range []struct{ source, value, key string }{
		{`value.split(' ')[1]`, `"/index.html"`, `"/index.html"`},
		{`''`, `""`, `""`},
		{`b'\xff'`, `"\xff"`, `"\xff"`},
		{`int(value.substring(16)) + 1`, `"201"`, `"201"`},
		{`1.5`, `"1.5"`, `"1.5"`},
		{`value.startsWith('GET')`, `"true"`, `"true"`},
		{`timestamp`, `"1970-01-01T00:00:00.005Z"`, `"1970-01-01T00:00:00.005Z"`},
		{`null`, `null`, `null`},
		{`value.contains('x') ? value : null`, `"GET /index.html 200"`, `"GET /index.html 200"`},
		{`{'a': 1}`, `map[a:1] <nil>`, `expression`},
		{`value.split(' ')`, `[GET /index.html 200] <nil>`, `expression`},
		{`value.split(' ')[7]`, `expression`, `expression`},
		{`type(value)`, `expression`, `expression`},
	} {
		b := send(t, &Set{Value: c.source}, line())
		if got := outcome(b, 0, showValue(b, 0)); got != c.value || showKey(b, 0) != `"old"` {
			t.Errorf("value = %s: got %s, want %s; the key is %s", c.source, got, c.value, showKey(b, 0))
		}
		b = send(t, &Set{Key: c.source}, line())
		if got := outcome(b, 0, showKey(b, 0)); got != c.key || showValue(b, 0) != `"GET /index.html 200"` {
			t.Errorf("key = %s: got %s, want %s; the value is %s", c.source, got, c.key, showValue(b, 0))
		}
	}
}

func TestTopicPartitionTimestamp(t *testing.T) {
	b := send(t, &Set{Topic: `value.contains('200') ? 'ok' : topic`, Partition: `size(value) % 7`, Timestamp: `timestamp + duration('1s')`}, line())
	if b.Topic(0) != "ok" || b.Partition(0) != 5 || b.Timestamp(0) != 1005 {
		t.Errorf("topic %s, partition %d, timestamp %d", b.Topic(0), b.Partition(0), b.Timestamp(0))
	}
	b = send(t, &Set{Topic: `topic + '.x'`, Partition: `partition`, Timestamp: `1234`}, line())
	if b.Topic(0) != "access.x" || b.Partition(0) != sdk.PartitionAny || b.Timestamp(0) != 1234 {
		t.Errorf("topic %s, partition %d, timestamp %d", b.Topic(0), b.Partition(0), b.Timestamp(0))
	}
	for _, s := range []Set{
		{Topic: `''`}, {Topic: `headers['n']`}, {Partition: `-2`}, {Partition: `2147483648`}, {Partition: `headers['a']`},
		{Partition: `18446744073709551615u`}, {Timestamp: `-1`}, {Timestamp: `headers['a']`}, {Timestamp: `timestamp - duration('1h')`},
	} {
		b := send(t, &s, line())
		if code, _, failed := b.Failure(0); !failed || code != "expression" {
			t.Errorf("%+v: topic %q, partition %d, timestamp %d, code %q", s, b.Topic(0), b.Partition(0), b.Timestamp(0), code)
		}
	}
}

func TestHeaders(t *testing.T) {
	b := send(t, &Set{Headers: map[string]string{"z": `1`, "a": `headers['a'] + '!'`, "n": `null`, "empty": `''`}}, line(), sdk.Fields{Headers: []sdk.Header{{Name: "a"}}})
	want := []sdk.Header{{Name: "b", Value: []byte("2")}, {Name: "a", Value: []byte("3!")}, {Name: "empty", Value: []byte{}}, {Name: "z", Value: []byte("1")}}
	if got := b.Headers(0); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if code, _, failed := b.Failure(1); !failed || code != "expression" {
		t.Errorf("null + '!' gave %q", b.Headers(1))
	}
	b = send(t, &Set{Headers: map[string]string{"a": `['a list']`}}, line())
	if _, message, failed := b.Failure(0); !failed || !strings.Contains(message, "no form as text") {
		t.Errorf("a list became a header: %q", b.Headers(0))
	}
}

func TestFields(t *testing.T) {
	records := []sdk.Fields{line(), {}, {Object: map[string]any{"n": 1, "status": "old"}}, {Value: []byte("\xff")}, {Object: []any{1}}, {Value: []byte{}}}
	b := send(t, &Set{Fields: map[string]string{"status": `type(value) == string ? value.split(' ') : value`, "host": `source.host`}}, records...)
	for i, want := range []string{
		`map[host:web-1 message:GET /index.html 200 status:[GET /index.html 200]] <nil>`,
		`map[host: status:<nil>] <nil>`,
		`map[host: n:1 status:map[n:1 status:old]] <nil>`,
		`not_utf8`, `expression`,
		`map[host: message: status:[]] <nil>`,
	} {
		if got := outcome(b, i, showValue(b, i)); got != want {
			t.Errorf("record %d: got %s, want %s", i, got, want)
		}
	}
}

func TestFieldsGoIntoTheNewValue(t *testing.T) {
	b := send(t, &Set{Value: `{'a': 1, 'b': 2}`, Fields: map[string]string{"b": `value`, "message": `'m'`}}, line())
	if got, want := showValue(b, 0), `map[a:1 b:GET /index.html 200 message:m] <nil>`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestExpressionsSeeTheRecordAsItCame(t *testing.T) {
	b := send(t, &Set{Key: `value`, Value: `key`, Topic: `key`, Headers: map[string]string{"t": `topic`}}, line())
	if string(b.Key(0)) != "GET /index.html 200" || string(b.Value(0)) != "old" || b.Topic(0) != "old" {
		t.Errorf("key %q, value %q, topic %q", b.Key(0), b.Value(0), b.Topic(0))
	}
	if value, _ := b.Header(0, "t"); string(value) != "access" {
		t.Errorf("the header is %q", value)
	}
}

// TestAFailedRecordIsLeftAsItWas holds that nothing is set when a later expression fails,
// and that the records around it are.
func TestAFailedRecordIsLeftAsItWas(t *testing.T) {
	bad := line()
	bad.Value = []byte("short")
	b := send(t, &Set{Key: `'new'`, Fields: map[string]string{"status": `value.split(' ')[2]`}}, line(), bad, line())
	if showKey(b, 0) != `"new"` || showKey(b, 1) != `"old"` || showKey(b, 2) != `"new"` || showValue(b, 1) != `"short"` {
		t.Errorf("keys %s %s %s, value %s", showKey(b, 0), showKey(b, 1), showKey(b, 2), showValue(b, 1))
	}
	if _, _, failed := b.Failure(1); !failed {
		t.Error("the record did not fail")
	}
}

func TestColumns(t *testing.T) {
	for _, c := range []struct {
		set           Set
		reads, writes sdk.ColumnSet
	}{
		{Set{Key: `value.split(' ')[0]`}, sdk.ColumnValue, sdk.ColumnKey},
		{Set{Topic: `'x'`}, 0, sdk.ColumnTopic},
		{Set{Headers: map[string]string{"a": `topic`}}, sdk.ColumnTopic | sdk.ColumnHeaders, sdk.ColumnHeaders},
		{Set{Fields: map[string]string{"a": `timestamp`}}, sdk.ColumnTimestamp | sdk.ColumnValue, sdk.ColumnValue},
		{Set{Value: `key`, Fields: map[string]string{"a": `1`}}, sdk.ColumnKey, sdk.ColumnValue},
		{Set{Partition: `0`, Timestamp: `0`}, 0, sdk.ColumnPartition | sdk.ColumnTimestamp},
	} {
		if got := configured(t, &c.set).Columns(); got.Reads != c.reads || got.Writes != c.writes {
			t.Errorf("%+v: reads %s, writes %s", c.set, got.Reads, got.Writes)
		}
	}
	if got := (&Set{}).Columns(); got.Reads != sdk.AllColumns || got.Writes.Has(sdk.ColumnSource) {
		t.Errorf("before configuration: %+v", got)
	}
}

func TestMistakesNameTheirMembers(t *testing.T) {
	err := (&Set{Key: `vale`, Topic: `1`, Partition: `'a'`, Headers: map[string]string{"a/b~": `(`}, Fields: map[string]string{"f": ` `}}).Configure(context.Background())
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("got %v", err)
	}
	var pointers []string
	for _, one := range joined.Unwrap() {
		var wrong *sdk.ConfigError
		if !errors.As(one, &wrong) || wrong.Message == "" {
			t.Errorf("got %v", one)
			continue
		}
		pointers = append(pointers, wrong.Pointer)
	}
	if want := []string{"/key", "/topic", "/partition", "/headers/a~1b~0", "/fields/f"}; !reflect.DeepEqual(pointers, want) {
		t.Errorf("got %q, want %q", pointers, want)
	}
	var wrong *sdk.ConfigError
	if err := (&Set{}).Configure(context.Background()); !errors.As(err, &wrong) {
		t.Errorf("nothing configured: %v", err)
	}
}

func BenchmarkOnSend(b *testing.B) {
	record := line()
	record.Value = []byte("user-4711 " + strings.Repeat("0123456789 abcdefgh ", 10))
	records := make([]sdk.Fields, 1000)
	for i := range records {
		records[i] = record
	}
	for name, s := range map[string]*Set{
		"key split":     {Key: `value.split(' ')[0]`},
		"key substring": {Key: `value.substring(0, 9)`},
		"two fields":    {Fields: map[string]string{"level": `value.contains('ERROR') ? 'error' : 'info'`, "host": `source.host`}},
	} {
		b.Run(name, func(b *testing.B) {
			plugin := configured(b, s)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				batch := sdk.NewBatch(records...)
				b.StartTimer()
				if err := plugin.OnSend(context.Background(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(records)), "ns/record")
		})
	}
}
