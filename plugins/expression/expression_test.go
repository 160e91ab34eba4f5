package expression

import (
	"bytes"
	"context"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/barnabas-agent/barnabas/plugins/object"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

func line() sdk.Fields {
	return sdk.Fields{
		Value: []byte("GET /index.html 200"), Key: []byte("k\xff"), Topic: "access", Partition: sdk.PartitionAny, Timestamp: 1772366400005,
		Headers: []sdk.Header{{Name: "h", Value: []byte("first")}, {Name: "n"}, {Name: "b", Value: []byte("\xff")}, {Name: "h", Value: []byte("last")}},
		Source:  sdk.Source{Kind: "file", File: "/var/log/a.log", Host: "web-1", Offset: 42},
	}
}

func TestVariables(t *testing.T) {
	e := newEnvironment(t)
	tombstone := line()
	tombstone.Value = nil
	structured := line()
	structured.Value, structured.Object = nil, map[string]any{"level": "error", "n": 7, "big": uint64(math.MaxUint64), "list": []any{1.5, nil}}
	socket := line()
	socket.Source = sdk.Source{Kind: "socket", Peer: "10.0.0.1:5", Host: "web-1"}
	for _, c := range []struct {
		source string
		record sdk.Fields
	}{
		{`value == 'GET /index.html 200' && type(value) == string`, line()},
		{`value.split(' ')[2] == '200' && int(value.substring(16)) >= 200`, line()},
		{`type(key) == bytes && key == b'k\xff'`, line()},
		{`headers['h'] == 'last' && headers['n'] == null && headers['b'] == b'\xff' && !('x' in headers)`, line()},
		{`topic == 'access' && partition == -1`, line()},
		{`timestamp == timestamp('2026-03-01T12:00:00.005Z') && timestamp.getHours() == 12`, line()},
		{`source.kind == 'file' && source.file == '/var/log/a.log' && source.host == 'web-1' && source.offset == 42 && !has(source.peer)`, line()},
		{`source.peer == '10.0.0.1:5' && !has(source.file)`, socket},
		{`value == null`, tombstone},
		{`value.level == 'error' && value.n == 7 && value.big > 7u && value.list[0] == 1.5 && value.list[1] == null && !has(value.none)`, structured},
		{`type(value) == map`, structured},
	} {
		p := compile(t, e, c.source, cel.BoolType)
		if ok, err := p.Decide(context.Background(), NewRow(sdk.NewBatch(c.record))); !ok || err != nil {
			t.Errorf("%s: %v, %v", c.source, ok, err)
		}
	}
}

func TestOnlyNamedColumnsAreRead(t *testing.T) {
	e := newEnvironment(t)
	for source, want := range map[string]sdk.ColumnSet{
		`value.contains('x')`:                        sdk.ColumnValue,
		`'literal'`:                                  0,
		`key == topic`:                               sdk.ColumnKey | sdk.ColumnTopic,
		`has(headers.trace) ? partition : 0`:         sdk.ColumnHeaders | sdk.ColumnPartition,
		`source.file + string(timestamp)`:            sdk.ColumnSource | sdk.ColumnTimestamp,
		`[1, 2].exists(n, string(n) == value.level)`: sdk.ColumnValue,
		`{'key': .value}`:                            sdk.ColumnValue,
		`value['key'] == 'topic'`:                    sdk.ColumnValue,
	} {
		if got := compile(t, e, source).Columns(); got != want {
			t.Errorf("%s reads %s, want %s", source, got, want)
		}
	}
}

func TestMistakesAreFoundBeforeRecords(t *testing.T) {
	e := newEnvironment(t)
	for source, want := range map[string]string{
		"":                                     "empty",
		" \n":                                  "empty",
		"valu.contains('x')":                   "line 1, column 1 of the expression: undeclared reference to 'valu' (did you mean 'value'?)",
		"record == 'x'":                        "undeclared reference to 'record'; the variables are value, key,",
		"value ==":                             "line 1, column 9",
		"topic.contains(1)":                    "no matching overload",
		"value.matches('a{1000}b(')":           "column 15 of the expression: invalid matches argument",
		"value.matches('((a{100}){100}){10}')": "expression",
		"size(value)":                          "of type int; it must be bool",
		"'a' + 'b'":                            "of type string; it must be bool",
		strings.Repeat("(", 300) + "true" + strings.Repeat(")", 300): "recursion",
		"'" + strings.Repeat("x", maxSourceLength) + "' == value":    "size",
	} {
		_, err := e.Compile(source, cel.BoolType)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: error %v, want one with %q", source, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40s: an error of several lines: %v", source, err)
		}
	}
}

func TestFailuresAreTheRecords(t *testing.T) {
	e := newEnvironment(t)
	for source, want := range map[string]string{
		`key.contains('k')`:          "no such overload",
		`value.level == 'x'`:         "no such key: level",
		`headers['none'] == 'x'`:     "no such key",
		`int(value) > 3`:             "type conversion",
		`value.split(' ')[9] == 'x'`: "index out of bounds",
		`value`:                      "not a bool",
	} {
		p := compile(t, e, source, cel.BoolType)
		_, err := p.Decide(context.Background(), NewRow(sdk.NewBatch(line())))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", source, err, want)
		}
	}
	late := line()
	late.Timestamp = math.MaxInt64
	p := compile(t, e, `timestamp > timestamp('2026-01-01T00:00:00Z')`, cel.BoolType)
	if _, err := p.Decide(context.Background(), NewRow(sdk.NewBatch(late))); err == nil {
		t.Error("a timestamp that CEL has no value for was compared")
	}
}

func TestMalformedObjectsFail(t *testing.T) {
	for _, source := range []string{`value.a == 1`, `value == 'x'`, `value != 'x'`, `value.contains('x')`} {
		p := compile(t, newEnvironment(t), source, cel.BoolType)
		row := NewRow(sdk.NewBatch(line()))
		row.value.set(sdk.KindObject, []byte{0x81})
		if _, err := p.Decide(context.Background(), row); err == nil || !strings.Contains(err.Error(), "malformed") {
			t.Errorf("%s: %v", source, err)
		}
	}
}

// TestRecordsBringNoHugeRegex holds that an expression taken from a record is bounded too.
func TestRecordsBringNoHugeRegex(t *testing.T) {
	p := compile(t, newEnvironment(t), `value.matches(key)`, cel.BoolType)
	for key, want := range map[string]string{"^G.T": "", "((a{100}){100})": "regex", "(": "regexp"} {
		record := line()
		record.Key = []byte(key)
		matches, err := p.Decide(context.Background(), NewRow(sdk.NewBatch(record)))
		if want == "" && (!matches || err != nil) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("key %q: %v, %v", key, matches, err)
		}
	}
}

// TestLoopsEnd holds that no comprehension runs for ever: neither past its cost
// nor past the end of the context.
func TestLoopsEnd(t *testing.T) {
	e := newEnvironment(t)
	long := sdk.Fields{Value: bytes.Repeat([]byte("a "), 4000)}
	p := compile(t, e, `value.split(' ').all(a, value.split(' ').all(b, value.split(' ').all(c, a + b + c != 'x')))`, cel.BoolType)
	_, err := p.Decide(context.Background(), NewRow(sdk.NewBatch(long)))
	if err == nil || !strings.Contains(err.Error(), "cost limit") {
		t.Errorf("without a limit of time: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Decide(ctx, NewRow(sdk.NewBatch(long))); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("after the end of the context: %v", err)
	}
}

func TestResultsAsObjects(t *testing.T) {
	e := newEnvironment(t)
	for source, want := range map[string]any{
		`{'b': [1, 2u, 1.5, true, null], 'a': value, 3: b'x'}`: map[string]any{
			"a": "GET /index.html 200", "b": []any{int64(1), int64(2), 1.5, true, nil}, "3": []byte("x")},
		`timestamp`:                  time.UnixMilli(1772366400005).UTC(),
		`duration('90s')`:            "1m30s",
		`18446744073709551615u`:      uint64(math.MaxUint64),
		`value.split(' ')`:           []any{"GET", "/index.html", "200"},
		`headers`:                    map[string]any{"h": "last", "n": nil, "b": []byte{0xff}},
		`[1, 2].map(n, {'n': n})[1]`: map[string]any{"n": int64(2)},
	} {
		result, err := compile(t, e, source).Evaluate(context.Background(), NewRow(sdk.NewBatch(line())))
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		encoded, err := AppendObject(nil, result)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, err := object.Decode(encoded); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, %v; want %#v", source, got, err, want)
		}
	}
	for _, source := range []string{`type(value)`, `[type(1)]`, `{'a': {true: type(1)}}`} {
		result, err := compile(t, e, source).Evaluate(context.Background(), NewRow(sdk.NewBatch(line())))
		if err != nil {
			t.Fatal(err)
		}
		if encoded, err := AppendObject(nil, result); err == nil {
			t.Errorf("%s became %x", source, encoded)
		}
	}
}

func TestResultsAsText(t *testing.T) {
	e := newEnvironment(t)
	for source, want := range map[string]string{
		`value`: "GET /index.html 200", `b'\xff'`: "\xff", `-7`: "-7", `7u`: "7", `1.5`: "1.5", `2.0`: "2", `true`: "true",
		`timestamp`: "2026-03-01T12:00:00.005Z", `duration('1500ms')`: "1.5s",
	} {
		result, err := compile(t, e, source).Evaluate(context.Background(), NewRow(sdk.NewBatch(line())))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := AppendText(nil, result); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", source, got, err, want)
		}
	}
	result, err := compile(t, e, `[1]`).Evaluate(context.Background(), NewRow(sdk.NewBatch(line())))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := AppendText(nil, result); err == nil || !IsContainer(result) {
		t.Errorf("a list became %q", got)
	}
}
