package plugintest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
	"github.com/barnabas-agent/barnabas/plugins/sdk/internal/rows"
)

// checkDescription looks at what the plugin says of itself.
func checkDescription(ctx context.Context, connect connector, o options) error {
	s, err := open(ctx, connect, o)
	if err != nil {
		return err
	}
	defer s.close()
	d := s.description
	if d.Name == "" || d.Version == "" || d.Kind == wirev1.StageKind_STAGE_KIND_UNSPECIFIED {
		return fmt.Errorf("name %q, version %q, kind %s: all three are needed", d.Name, d.Version, d.Kind)
	}
	if !slices.Contains(d.ProtocolVersions, wire.ProtocolVersion) {
		return fmt.Errorf("protocol versions %v, want %d among them", d.ProtocolVersions, wire.ProtocolVersion)
	}
	if wire.ColumnsOf(d.Writes).Has(wire.ColumnSource) {
		return fmt.Errorf("it writes where records come from, which nobody can")
	}
	var schema map[string]any
	if err := json.Unmarshal([]byte(d.ConfigSchema), &schema); err != nil {
		return fmt.Errorf("config_schema is no JSON object: %w", err)
	}
	return nil
}

// unknownMember is a member that no plugin's configuration has.
const unknownMember = "plugintest_unknown_member"

// checkConfiguration wants the configuration accepted, as often as asked, and
// one with an unknown member refused by its name where the schema forbids it.
func checkConfiguration(ctx context.Context, connect connector, config string, o options) error {
	s, err := open(ctx, connect, o)
	if err != nil {
		return err
	}
	defer s.close()
	for range 2 {
		if wrong, err := s.validate(ctx, config); err != nil || len(wrong) > 0 {
			return fmt.Errorf("the test's configuration is refused: %v, %v", wrong, err)
		}
	}
	var schema struct {
		AdditionalProperties any `json:"additionalProperties"`
	}
	if err := json.Unmarshal([]byte(s.description.ConfigSchema), &schema); err != nil {
		return err
	}
	if schema.AdditionalProperties != false {
		return nil
	}
	var members map[string]any
	if err := json.Unmarshal([]byte(config), &members); err != nil {
		return fmt.Errorf("the test's configuration: %w", err)
	}
	if members == nil {
		members = make(map[string]any)
	}
	members[unknownMember] = true
	changed, err := json.Marshal(members)
	if err != nil {
		return err
	}
	wrong, err := s.validate(ctx, string(changed))
	if err != nil {
		return err
	}
	if len(wrong) != 1 || wrong[0].Pointer != "/"+unknownMember {
		return fmt.Errorf("with an unknown member the errors are %v, want one at /%s", wrong, unknownMember)
	}
	return nil
}

// shape is a batch that plugins tend to choke on.
type shape struct {
	name    string
	records []rows.Row
}

func recordShapes() []shape {
	tombstone, nullKey, empty, binary := plainRecords(3), plainRecords(3), plainRecords(3), plainRecords(3)
	tombstone[1].Value = nil
	nullKey[1].Key = nil
	empty[1].Value, empty[1].Key = []byte{}, []byte{}
	binary[1].Value, binary[1].Key = []byte("\xff\x00\xfe"), []byte("\x80")
	binary[1].Origin.File = "/var/log/\xff.log"
	duplicate := plainRecords(2)
	duplicate[1].Headers = []record.Header{{Name: "h", Value: []byte("1")}, {Name: "h", Value: []byte("2")}, {Name: "h"}, {Name: "", Value: []byte{}}}
	large := plainRecords(2)
	large[1].Value = bytes.Repeat([]byte("x"), 1<<20)
	return []shape{
		{"one record", plainRecords(1)},
		{"tombstone", tombstone},
		{"null key", nullKey},
		{"empty value and key", empty},
		{"bytes that are not UTF-8", binary},
		{"duplicate headers", duplicate},
		{"value of 1 MiB", large},
		{"4096 records", plainRecords(record.MaxRows)},
	}
}

// plainRecords returns n records with every field.
func plainRecords(n int) []rows.Row {
	all := make([]rows.Row, n)
	offset := int64(0)
	for i := range all {
		value := fmt.Appendf(nil, `{"n": %d, "message": "record %d"}`, i, i)
		all[i] = rows.Row{
			Value: value, Key: fmt.Appendf(nil, "key-%d", i%7), Headers: []record.Header{{Name: "n", Value: fmt.Append(nil, i)}},
			Timestamp: 1_700_000_000_000 + int64(i), Topic: Topic, Partition: record.PartitionAny,
			Origin: record.Origin{Kind: "file", File: "/var/log/plugintest.log", Host: "localhost"}, Offset: offset,
		}
		offset += int64(len(value)) + 1
	}
	return all
}

// checkRecords wants a reply that the agent takes; what the plugin makes of the records is its own business.
func checkRecords(s *subject, records []rows.Row) error {
	_, err := s.exchange(records)
	return err
}

// checkCanary wants empty batches answered before, between and behind others.
func checkCanary(_ context.Context, s *subject) error {
	for _, records := range [][]rows.Row{nil, plainRecords(2), nil, nil} {
		if _, err := s.exchange(records); err != nil {
			return err
		}
	}
	return nil
}

// checkUnknownFields wants fields of a later version ignored.
func checkUnknownFields(_ context.Context, s *subject) error {
	for _, records := range [][]rows.Row{nil, plainRecords(2)} {
		d := s.newDelivery(records)
		if err := s.send(d, 0, true); err != nil {
			return err
		}
		if _, err := s.receive(d); err != nil {
			return fmt.Errorf("with an unknown field: %w", err)
		}
	}
	return nil
}

// window is how many batches the agent has in flight on a lane.
const window = 4

// checkOrder wants replies in the order of the batches, whatever their sizes.
func checkOrder(_ context.Context, s *subject) error {
	for range 8 {
		var sent []*delivery
		for i := range window {
			d := s.newDelivery(plainRecords([]int{500, 1, 0, 50}[i]))
			if err := s.send(d, 0, false); err != nil {
				return err
			}
			sent = append(sent, d)
		}
		for _, d := range sent {
			if _, err := s.receive(d); err != nil {
				return fmt.Errorf("%d batches in flight: %w", window, err)
			}
		}
	}
	return nil
}

// checkReplay sends a batch a second time: the agent does after a crash. A
// plugin that says that it is deterministic must answer alike.
func checkReplay(_ context.Context, s *subject) error {
	var got [2][]Result
	for attempt := range got {
		d := s.newDelivery(plainRecords(20))
		s.lastID--
		if err := s.send(d, uint32(attempt), false); err != nil {
			return err
		}
		var err error
		if got[attempt], err = s.receive(d); err != nil {
			return fmt.Errorf("attempt %d: %w", attempt, err)
		}
	}
	if s.description.Deterministic && !reflect.DeepEqual(got[0], got[1]) {
		return fmt.Errorf("it says that it is deterministic, but answers a replay differently")
	}
	return nil
}

// checkBorrowed sends batches whose memory is overwritten once they are answered.
func checkBorrowed(_ context.Context, s *subject) error {
	for n := range 5 {
		if _, err := s.exchange(plainRecords(10 + n)); err != nil {
			return err
		}
	}
	return nil
}
