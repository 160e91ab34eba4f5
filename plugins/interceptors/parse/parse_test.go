package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/plugins/object"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// settings are the members of a configuration; an empty one has its default.
type settings struct{ Format, OnFailure, Timezone string }

func configured(t testing.TB, config settings) *Parse {
	t.Helper()
	p := newParse().(*Parse)
	p.Format = config.Format
	if config.OnFailure != "" {
		p.OnFailure = config.OnFailure
	}
	if config.Timezone != "" {
		p.Timezone = config.Timezone
	}
	if err := p.Configure(context.Background()); err != nil {
		t.Fatal(err)
	}
	return p
}

// parseOne is the object that a line becomes, as JSON in the order of names, or why it can't be parsed.
func parseOne(t testing.TB, p *Parse, line string, received int64) (string, error) {
	t.Helper()
	var encoded []byte
	var err error
	if p.Format == formatJSON {
		var d jsonDocument
		encoded, err = d.parse(nil, []byte(line))
	} else {
		s := syslogParser{zone: p.zone}
		encoded, err = s.parse(nil, []byte(line), received)
	}
	if err != nil {
		return "", err
	}
	decoded, err := object.Decode(encoded)
	if err != nil {
		t.Fatalf("%q becomes what is no object: %v", line, err)
	}
	return asJSON(t, decoded), nil
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

// sameJSON compares two documents as values.
func sameJSON(t testing.TB, a, b string) bool {
	t.Helper()
	var x, y any
	for text, to := range map[string]*any{a: &x, b: &y} {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(to); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return a == b || reflect.DeepEqual(x, y)
}

func TestWhatCannotBeParsedIsKeptWithTheReason(t *testing.T) {
	old := []sdk.Header{{Name: "a", Value: []byte("1")}, {Name: errorHeader, Value: []byte("old")}}
	records := []sdk.Fields{
		{Value: []byte("no syslog"), Headers: old},
		{Value: []byte("<13>caf\xe9")},
		{},
		{Object: map[string]any{"a": "b"}},
		{Value: []byte("<13>app: fine")},
	}
	p := configured(t, settings{Format: "syslog"})
	b := sdk.NewBatch(records...)
	if err := p.OnSend(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		"neither a priority nor a timestamp at byte 0", "byte 7 is not UTF-8", "", "the value is an object already", "",
	} {
		reason, has := b.Header(i, errorHeader)
		if string(reason) != want || has != (want != "") {
			t.Errorf("record %d: reason %q, want %q", i, reason, want)
		}
		if _, _, failed := b.Failure(i); failed || b.Dropped(i) {
			t.Errorf("record %d did not go on", i)
		}
		if want != "" && records[i].Object == nil && (!bytes.Equal(b.Value(i), records[i].Value) || b.ValueKind(i) != sdk.KindBytes) {
			t.Errorf("record %d is not what it was: %q", i, b.Value(i))
		}
	}
	if got := b.Headers(0); len(got) != 2 || got[0].Name != "a" {
		t.Errorf("headers %v", got)
	}
	if b.ValueKind(2) != sdk.KindNull || b.ValueKind(4) != sdk.KindObject {
		t.Errorf("kinds %v, %v", b.ValueKind(2), b.ValueKind(4))
	}
	if got := p.failures.Value(); got != 3 {
		t.Errorf("%d failures are counted", got)
	}
}

func TestWhatCannotBeParsedFails(t *testing.T) {
	b := sdk.NewBatch(sdk.Fields{Value: []byte("[]")}, sdk.Fields{Value: []byte("{}")})
	if err := configured(t, settings{Format: "json", OnFailure: "fail"}).OnSend(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	if code, message, failed := b.Failure(0); !failed || code != "parse" || message != "JSON, but no object" {
		t.Errorf("%v %q %q", failed, code, message)
	}
	if _, _, failed := b.Failure(1); failed {
		t.Error("an empty object fails")
	}
}

func TestOnlyNeededColumnsCross(t *testing.T) {
	for _, c := range []struct {
		config        settings
		reads, writes sdk.ColumnSet
	}{
		{settings{Format: "syslog"}, sdk.ColumnValue | sdk.ColumnTimestamp | sdk.ColumnHeaders, sdk.ColumnValue | sdk.ColumnHeaders},
		{settings{Format: "json"}, sdk.ColumnValue | sdk.ColumnHeaders, sdk.ColumnValue | sdk.ColumnHeaders},
		{settings{Format: "json", OnFailure: "fail"}, sdk.ColumnValue, sdk.ColumnValue},
	} {
		if got := configured(t, c.config).Columns(); got.Reads != c.reads || got.Writes != c.writes {
			t.Errorf("%+v: %+v", c.config, got)
		}
	}
	if got := newParse().(*Parse).Columns(); got.Reads != sdk.ColumnValue|sdk.ColumnTimestamp|sdk.ColumnHeaders {
		t.Errorf("before configuration: %+v", got)
	}
}

func TestAWrongZoneIsNamed(t *testing.T) {
	p := &Parse{Format: "syslog", Timezone: "Europe/Berlino"}
	var wrong *sdk.ConfigError
	if err := p.Configure(context.Background()); !errors.As(err, &wrong) || wrong.Pointer != "/timezone" {
		t.Errorf("%v", err)
	}
}

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct{ name, format, line string }{
		{"rfc3164", "syslog", `<38>Nov 27 16:29:09 web-1 sshd[4242]: Failed password for invalid user admin from 203.0.113.7 port 51234 ssh2`},
		{"rfc5424", "syslog", `<165>1 2026-11-27T16:29:09.003Z web-1 evntslog 8710 ID47 [exampleSDID@32473 iut="3" eventSource="App" eventID="1011"] Failed password for invalid user admin`},
		{"json", "json", `{"ts":1732723200.123,"level":"info","msg":"request done","status":200,"path":"/v1/things","user":{"id":12345678901,"name":"alice"}}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			syslog := syslogParser{zone: time.UTC}
			var document jsonDocument
			var encoded []byte
			line := []byte(c.line)
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if c.format == formatJSON {
					encoded, err = document.parse(encoded[:0], line)
				} else {
					encoded, err = syslog.parse(encoded[:0], line, 1_795_796_949_000)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
