// Command parse is the interceptor "parse": it makes objects of text.
//
//	interceptor "parse" {
//	  config = { format = "syslog" }
//	}
//
// Its configuration is:
//
//   - format: "syslog", for RFC 5424, RFC 3164 and what the field's senders make of it; or
//     "json", for one JSON object per record.
//   - on_failure: "keep", the default: a record that can't be parsed goes on as it
//     is, with the reason in the header "barnabas.parse_error"; or "fail": it fails with
//     the code "parse", and goes by the stage's on_error.
//   - timezone: of timestamps of syslog without one: "local", the default, for
//     that of the agent's host, or a name such as "UTC" or "Europe/Berlin".
//
// A null value is left alone, and a value that is an object already can't be parsed. Neither
// can bytes that are not UTF-8: the object's strings would not be what was sent.
//
// The members of a syslog message are, where the message has them: facility and
// severity (numbers), facility_name and severity_name, version (RFC 5424),
// timestamp (RFC 3339, UTC), hostname, appname, procid, msgid, structured_data (of each
// element an object; a parameter that is repeated is a list), message_counter and sequence
// (Cisco), and always message.
//
// Members of a JSON object are taken as they are, in their order. Numbers keep their value: one
// that neither 64 bits of an integer nor a double hold exactly becomes a
// string of its characters, as in Protobuf's JSON. Two members of one name, half
// a surrogate pair and nesting beyond 128 are failures.
package main

import (
	"context"
	"time"
	_ "time/tzdata" // hosts without a zone database

	"github.com/vmihailenco/msgpack/v5"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

const (
	errorHeader = "barnabas.parse_error"
	failureCode = "parse"

	formatJSON = "json"
	policyFail = "fail"
	zoneLocal  = "local"
)

// Parse is the interceptor and its configuration.
type Parse struct {
	Format    string `json:"format" jsonschema:"required,enum=syslog,enum=json,description=What the value is"`
	OnFailure string `json:"on_failure,omitempty" jsonschema:"enum=keep,enum=fail,description=keep: a record that can't be parsed goes on with the reason in the header barnabas.parse_error; fail: it goes by the stage's on_error"`
	Timezone  string `json:"timezone,omitempty" jsonschema:"minLength=1,description=Zone of syslog timestamps that name none: local or a name such as Europe/Berlin"`

	zone     *time.Location // nil before Configure
	failures sdk.Counter
}

// newParse returns a plugin with the defaults.
func newParse() sdk.Interceptor { return &Parse{OnFailure: "keep", Timezone: zoneLocal} }

// Configure finds the time zone.
func (p *Parse) Configure(context.Context) error {
	p.zone = time.Local
	if p.Timezone == zoneLocal {
		return nil
	}
	zone, err := time.LoadLocation(p.Timezone)
	if err != nil {
		return &sdk.ConfigError{Pointer: "/timezone", Message: `no such time zone; give "local", "UTC" or a name such as "Europe/Berlin"`}
	}
	p.zone = zone
	return nil
}

// Columns are the value, and the headers for the reason. The time of a syslog
// record says which year its timestamp has.
func (p *Parse) Columns() sdk.Columns {
	columns := sdk.Columns{Reads: sdk.ColumnValue, Writes: sdk.ColumnValue}
	if p.Format != formatJSON {
		columns.Reads |= sdk.ColumnTimestamp
	}
	if p.OnFailure != policyFail {
		columns.Reads |= sdk.ColumnHeaders
		columns.Writes |= sdk.ColumnHeaders
	}
	return columns
}

// MayDrop says that no record is dropped.
func (*Parse) MayDrop() bool { return false }

// Deterministic says that the object depends on the record alone.
func (*Parse) Deterministic() bool { return true }

// Concurrent says that batches share nothing but a counter.
func (*Parse) Concurrent() bool { return true }

// Metrics counts what would otherwise only show in headers.
func (p *Parse) Metrics() []sdk.Metric {
	return []sdk.Metric{p.failures.Metric("failures_total", "Records that could not be parsed.")}
}

// OnSend replaces values by objects.
func (p *Parse) OnSend(ctx context.Context, b *sdk.Batch) error {
	parser := syslogParser{zone: p.zone}
	var document jsonDocument
	var encoded []byte
	for i := range b.Len() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if b.ValueKind(i) == sdk.KindNull {
			continue
		}
		var err error
		switch {
		case b.ValueKind(i) == sdk.KindObject:
			err = failuref("the value is an object already")
		case p.Format == formatJSON:
			encoded, err = document.parse(encoded[:0], b.Value(i))
		default:
			encoded, err = parser.parse(encoded[:0], b.Value(i), b.Timestamp(i))
		}
		if err == nil {
			err = b.SetObject(i, msgpack.RawMessage(encoded))
		}
		if err != nil {
			p.fail(b, i, err)
		}
	}
	return nil
}

// fail keeps record i as it is, with the reason, or refuses it.
func (p *Parse) fail(b *sdk.Batch, i int, err error) {
	p.failures.Add(1)
	if p.OnFailure == policyFail {
		b.Fail(i, err)
		return
	}
	headers := make([]sdk.Header, 0, len(b.Headers(i))+1)
	for _, h := range b.Headers(i) {
		if h.Name != errorHeader {
			headers = append(headers, h)
		}
	}
	b.SetHeaders(i, append(headers, sdk.Header{Name: errorHeader, Value: []byte(err.Error())}))
}

// failuref is why a record can't be parsed: a position rather than its text, since
// errors may go where that must not.
func failuref(format string, args ...any) error { return sdk.Errorf(failureCode, format, args...) }

// errNotUTF8 is why a record that is not UTF-8 can't be parsed.
func errNotUTF8(at int) error { return failuref("byte %d is not UTF-8", at) }

// cut returns what is before the first separator and what is behind it.
func cut(b []byte, separator byte) (before, after []byte, found bool) {
	for i, c := range b {
		if c == separator {
			return b[:i], b[i+1:], true
		}
	}
	return b, nil, false
}
