package main

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/barnabas-agent/barnabas/plugins/object"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

const noon = 1772366400005 // 2026-03-01T12:00:00.005Z

func fromFile(value string) sdk.Fields {
	return sdk.Fields{Value: []byte(value), Timestamp: noon,
		Source: sdk.Source{Kind: "file", File: "/var/log/a.log", Host: "web-1", Offset: 4096}}
}

func serialize(t *testing.T, plugin *JSON, role sdk.Role, records ...sdk.Fields) *sdk.Batch {
	t.Helper()
	b := sdk.NewBatchFor(role, records...)
	if err := plugin.Serialize(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestText(t *testing.T) {
	socket := fromFile("two")
	socket.Source = sdk.Source{Kind: "socket", Peer: "10.0.0.1:4711", Host: "web-1", Offset: 7}
	stdin := fromFile("three")
	stdin.Source = sdk.Source{Kind: "stdin", Host: "web-1"}
	oddName := fromFile("")
	oddName.Source.File = "/a\xffb"
	for _, c := range []struct {
		name    string
		include []string
		record  sdk.Fields
		want    string
	}{
		{"a line of a file", nil, fromFile(`say "hi"`),
			`{"message":"say \"hi\"","timestamp":"2026-03-01T12:00:00.005Z","source":"file","file":"/var/log/a.log","offset":4096,"host":"web-1"}`},
		{"a frame of a socket", nil, socket,
			`{"message":"two","timestamp":"2026-03-01T12:00:00.005Z","source":"socket","peer":"10.0.0.1:4711","offset":7,"host":"web-1"}`},
		{"standard input", nil, stdin,
			`{"message":"three","timestamp":"2026-03-01T12:00:00.005Z","source":"stdin","offset":0,"host":"web-1"}`},
		{"some members", []string{"host", "message"}, fromFile("m"), `{"message":"m","host":"web-1"}`},
		{"no member of a text", []string{"level"}, fromFile("m"), `{}`},
		{"a file name that is not UTF-8", []string{"file", "message"}, oddName, `{"message":"","file":"/a` + "\ufffd" + `b"}`},
	} {
		b := serialize(t, &JSON{Include: c.include}, sdk.RoleValue, c.record)
		if got := string(b.Value(0)); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
		if b.ValueKind(0) != sdk.KindBytes || !json.Valid(b.Value(0)) {
			t.Errorf("%s: kind %s, %s", c.name, b.ValueKind(0), b.Value(0))
		}
	}
}

// TestNeighbours holds that what is kept from one record for the next never shows
// in a record of another source or time.
func TestNeighbours(t *testing.T) {
	first, second, third := fromFile("a"), fromFile("b"), fromFile("c")
	second.Timestamp++
	second.Source.File, second.Source.Offset = "/var/log/b.log", 5
	third.Source.Host = "web-2"
	b := serialize(t, &JSON{}, sdk.RoleValue, first, second, third, first)
	for i, want := range []string{
		`{"message":"a","timestamp":"2026-03-01T12:00:00.005Z","source":"file","file":"/var/log/a.log","offset":4096,"host":"web-1"}`,
		`{"message":"b","timestamp":"2026-03-01T12:00:00.006Z","source":"file","file":"/var/log/b.log","offset":5,"host":"web-1"}`,
		`{"message":"c","timestamp":"2026-03-01T12:00:00.005Z","source":"file","file":"/var/log/a.log","offset":4096,"host":"web-2"}`,
		`{"message":"a","timestamp":"2026-03-01T12:00:00.005Z","source":"file","file":"/var/log/a.log","offset":4096,"host":"web-1"}`,
	} {
		if got := string(b.Value(i)); got != want {
			t.Errorf("record %d:\ngot  %s\nwant %s", i, got, want)
		}
	}
}

func TestObjectsKeepTheOrderOfTheirMembers(t *testing.T) {
	text := func(s string) []byte { return object.AppendText(nil, []byte(s)) }
	encoded := object.AppendMembers(nil, []object.Member{
		{Name: "z", Value: text("1")}, {Name: "a", Value: text("2")},
		{Name: "m", Value: object.AppendMembers(nil, []object.Member{{Name: "z", Value: text("3")}})},
	})
	for _, c := range []struct {
		include []string
		want    string
	}{
		{nil, `{"z":"1","a":"2","m":{"z":"3"}}`},
		{[]string{"m", "a"}, `{"a":"2","m":{"z":"3"}}`},
		{[]string{"z"}, `{"z":"1"}`},
		{[]string{"none"}, `{}`},
	} {
		w := newWriter(&JSON{Include: c.include}, sdk.NewBatch())
		if err := w.object(encoded); err != nil || string(w.out) != c.want {
			t.Errorf("include %v: got %s, %v; want %s", c.include, w.out, err, c.want)
		}
	}
}

func TestFailuresAndNulls(t *testing.T) {
	b := serialize(t, &JSON{}, sdk.RoleValue,
		fromFile("bad \xff"),
		sdk.Fields{Timestamp: noon},
		sdk.Fields{Object: map[string]any{"a": "bad \xff"}},
		sdk.Fields{Object: map[string]any{"a": math.NaN()}},
		sdk.Fields{Value: []byte("x"), Timestamp: math.MaxInt64},
		fromFile("good"))
	for i, want := range []string{"not_utf8", "", "not_utf8", "not_json", "not_json", ""} {
		code, message, failed := b.Failure(i)
		if code != want || failed != (want != "") || failed && message == "" {
			t.Errorf("record %d: code %q, message %q, failed %v; want code %q", i, code, message, failed, want)
		}
	}
	if b.ValueKind(1) != sdk.KindNull {
		t.Errorf("a tombstone became %s", b.ValueKind(1))
	}
	if !strings.Contains(string(b.Value(5)), `"good"`) {
		t.Errorf("the record behind failures became %s", b.Value(5))
	}
}

func TestKeys(t *testing.T) {
	b := serialize(t, &JSON{}, sdk.RoleKey, sdk.Fields{Key: []byte("k\n"), Value: []byte("v")}, sdk.Fields{Key: []byte("\xff")}, sdk.Fields{})
	if string(b.Key(0)) != `"k\n"` || string(b.Value(0)) != "v" {
		t.Errorf("key %s, value %s", b.Key(0), b.Value(0))
	}
	if code, message, _ := b.Failure(1); code != "not_utf8" || !strings.Contains(message, "key") {
		t.Errorf("code %q, message %q", code, message)
	}
	if b.KeyKind(2) != sdk.KindNull {
		t.Errorf("a null key became %s", b.KeyKind(2))
	}
}

func TestColumnsFollowInclude(t *testing.T) {
	for _, c := range []struct {
		include []string
		want    sdk.ColumnSet
	}{
		{nil, sdk.ColumnTimestamp | sdk.ColumnSource},
		{[]string{"message"}, 0},
		{[]string{"message", "timestamp"}, sdk.ColumnTimestamp},
		{[]string{"offset"}, sdk.ColumnSource},
	} {
		if got := (&JSON{Include: c.include}).Columns().Reads; got != c.want {
			t.Errorf("include %v reads %s, want %s", c.include, got, c.want)
		}
	}
}

func BenchmarkText(b *testing.B) {
	line := strings.Repeat("0123456789 abcdefgh ", 10)
	batch := sdk.NewBatch(fromFile(line))
	w := newWriter(&JSON{}, batch)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if err := w.text(0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkObject(b *testing.B) {
	encoded, err := object.Append(nil, map[string]any{"level": "info", "status": int64(200), "path": "/index.html",
		"took": 0.25, "tags": []any{"a", "b"}, "message": strings.Repeat("x", 100)})
	if err != nil {
		b.Fatal(err)
	}
	w := newWriter(&JSON{}, sdk.NewBatch())
	b.SetBytes(int64(len(encoded)))
	b.ReportAllocs()
	for b.Loop() {
		if err := w.object(encoded); err != nil {
			b.Fatal(err)
		}
	}
}
