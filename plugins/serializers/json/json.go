// Command json is the serializer "json": it makes one JSON object of each value.
//
// A value of text becomes an object that also says where the record comes from:
//
//	{"message":"GET / 200","timestamp":"2026-03-01T12:00:00.005Z","source":"file","file":"/var/log/nginx/access.log","offset":4096,"host":"web-1"}
//
// A record from a socket has "peer" instead of "file", one from standard input
// neither. A value that is an object already becomes its JSON, its members in
// their own order: binary as base64, times as RFC 3339. A null stays null, so a
// tombstone remains one. As key serializer it writes text as a JSON string,
// because a key that held offset and time would be another one for every record.
//
// Its configuration:
//
//	value_serializer "json" {
//	  config = { include = ["message", "host"] }   # left out: all members
//	}
//
// include chooses members by name, of the object made from text and, at its top
// level, of a value that is an object. What it leaves out is not even sent to the
// process.
//
// Refused, each as that record's own failure: text that is not UTF-8 (code
// "not_utf8"), and an object that JSON can't express (code "not_json").
package main

import (
	"context"
	"slices"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// JSON is the serializer and its configuration.
type JSON struct {
	Include []string `json:"include,omitempty" jsonschema:"minItems=1,uniqueItems=true,description=Members to keep: of message / timestamp / source / file / peer / offset / host for text and of the members at the top level for objects. Left out: all."`
}

// newJSON returns a plugin with the defaults.
func newJSON() sdk.Serializer { return &JSON{} }

// Columns are the columns that the included members are made of; the payload
// itself is understood.
func (j *JSON) Columns() sdk.Columns {
	var reads sdk.ColumnSet
	if j.includes("timestamp") {
		reads |= sdk.ColumnTimestamp
	}
	if slices.ContainsFunc([]string{"source", "file", "peer", "offset", "host"}, j.includes) {
		reads |= sdk.ColumnSource
	}
	return sdk.Columns{Reads: reads}
}

// AcceptsObjects says that values may be objects.
func (*JSON) AcceptsObjects() bool { return true }

// Deterministic says that equal records give equal JSON.
func (*JSON) Deterministic() bool { return true }

// Concurrent says that batches share nothing.
func (*JSON) Concurrent() bool { return true }

func (j *JSON) includes(member string) bool {
	return len(j.Include) == 0 || slices.Contains(j.Include, member)
}

// Serialize writes the JSON of every payload that is not null.
func (j *JSON) Serialize(_ context.Context, b *sdk.Batch) error {
	w := newWriter(j, b)
	for i := range b.Len() {
		var err error
		switch b.PayloadKind(i) {
		case sdk.KindNull:
			continue
		case sdk.KindObject:
			err = w.object(b.Payload(i))
		default:
			err = w.text(i)
		}
		if err != nil {
			b.Fail(i, err)
			continue
		}
		b.SetPayload(i, w.out)
	}
	return nil
}
