package plugintest

import (
	"bytes"
	"fmt"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
	"github.com/barnabas-agent/barnabas/plugins/sdk/internal/object"
	"github.com/barnabas-agent/barnabas/plugins/sdk/internal/rows"
)

// Result is what became of one record.
type Result struct {
	Record    sdk.Fields // as it goes on; for a record that does not, as it came
	ValueKind sdk.Kind
	Verdict   string // "kept", "dropped" or "failed"
	Code      string // of a failed record
	Message   string
}

// results reads a batch after its reply was applied, in the order of its rows.
func results(b *record.Batch) []Result {
	var coder object.Coder
	all := make([]Result, b.Rows())
	for i := range all {
		origin := b.RunOf(i).Stream.Origin()
		all[i] = Result{
			Record: sdk.Fields{
				Value: b.Value.Bytes(i), Key: b.Key.Bytes(i), Headers: b.RowHeaders(i),
				Timestamp: b.Timestamps[i], Topic: b.Topic(i), Partition: b.Partition(i),
				Source: sdk.Source{Kind: origin.Kind, File: origin.File, Peer: origin.Peer, Host: origin.Host, Offset: b.Offsets[i]},
			},
			ValueKind: b.Value.Kind(i), Verdict: record.Keep.String(),
		}
		if all[i].ValueKind == sdk.KindObject {
			if decoded, err := coder.Decode(all[i].Record.Value); err == nil {
				all[i].Record.Object = decoded
			}
		}
	}
	for _, row := range b.Dropped {
		all[row].Verdict = record.Drop.String()
	}
	for _, f := range b.Failures {
		all[f.Row].Verdict, all[f.Row].Code, all[f.Row].Message = record.Fail.String(), f.Code, f.Message
	}
	return all
}

// rowsOf lays records out for the agent's side.
func rowsOf(records []sdk.Fields) ([]rows.Row, error) {
	var coder object.Coder
	all := make([]rows.Row, len(records))
	for i, f := range records {
		all[i] = rows.Row{
			Value: f.Value, Key: f.Key, Headers: f.Headers, Timestamp: f.Timestamp, Topic: f.Topic, Partition: f.Partition,
			Origin: record.Origin{Kind: f.Source.Kind, File: f.Source.File, Peer: f.Source.Peer, Host: f.Source.Host},
			Offset: f.Source.Offset,
		}
		if all[i].Topic == "" {
			all[i].Topic = Topic
		}
		if f.Object == nil {
			continue
		}
		encoded, err := coder.Encode(f.Object)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
		all[i].Value, all[i].ValueKind = bytes.Clone(encoded), sdk.KindObject
	}
	return all, nil
}

// poisoned is a run of what the SDK overwrites lent memory with.
const poisoned = "\xDB\xDB\xDB\xDB"

// checkPoison looks for memory of an earlier batch in what a plugin made of this one.
func checkPoison(sent []rows.Row, got []Result) error {
	for _, r := range sent {
		if bytes.Contains(r.Value, []byte(poisoned)) || bytes.Contains(r.Key, []byte(poisoned)) {
			return nil
		}
	}
	for i, r := range got {
		for what, b := range map[string][]byte{"value": r.Record.Value, "key": r.Record.Key} {
			if bytes.Contains(b, []byte(poisoned)) {
				return fmt.Errorf("the %s of record %d holds memory that was lent for an earlier batch: copy what is kept", what, i)
			}
		}
	}
	return nil
}
