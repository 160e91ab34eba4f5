package plugintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
	"github.com/barnabas-agent/barnabas/plugins/sdk/internal/rows"
)

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
		{"empty batch", nil},
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

// checkCounts wants replies that fit batches of many sizes.
func checkCounts(_ context.Context, s *subject) error {
	for _, n := range []int{0, 1, 2, 3, 63, 64, 65, 1000, record.MaxRows, 1} {
		got, err := s.exchange(plainRecords(n))
		if err != nil {
			return fmt.Errorf("%d records: %w", n, err)
		}
		if len(got) != n {
			return fmt.Errorf("%d records became %d", n, len(got))
		}
	}
	return nil
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

// window is how many batches the agent has in flight on a lane, at least.
const window = 4

// checkOrder wants replies in the order of the batches, whatever their sizes.
func checkOrder(_ context.Context, s *subject) error {
	for range 8 {
		var sent []*delivery
		for _, n := range [window]int{500, 1, 0, 50} {
			d := s.newDelivery(plainRecords(n))
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

// checkProjection holds the columns of the configured plugin to those of its
// description, and sends columns that it did not ask for: they change nothing.
func checkProjection(_ context.Context, s *subject) error {
	described := wire.ColumnsOf(s.description.Reads)
	if more := s.reads &^ described; more != 0 {
		return fmt.Errorf("configured it reads %s, which its description (%s) lacks", more, described)
	}
	described = wire.ColumnsOf(s.description.Writes)
	if more := s.rules.Writes &^ described; more != 0 {
		return fmt.Errorf("configured it writes %s, which its description (%s) lacks", more, described)
	}
	asked := s.reads
	var got [2][]Result
	for i, reads := range []wire.ColumnSet{asked, wire.AllColumns} {
		s.reads = reads
		var err error
		if got[i], err = s.exchange(plainRecords(20)); err != nil {
			return fmt.Errorf("with the columns %s: %w", reads, err)
		}
	}
	if s.description.Deterministic && !reflect.DeepEqual(got[0], got[1]) {
		return fmt.Errorf("it reads %s, but its result changes when it gets other columns too", asked)
	}
	return nil
}

// checkPartitions wants partitions that a topic has, of few, many and again
// few. Where no partitioner chooses, the operator does by configuration.
func checkPartitions(ctx context.Context, s *subject) error {
	if s.description.Kind != wirev1.StageKind_STAGE_KIND_PARTITIONER {
		return nil
	}
	for _, partitions := range []int32{1, 1000, 3} {
		if err := s.updateTopology(ctx, []sdk.TopicPartitions{{Topic: Topic, Partitions: partitions}}); err != nil {
			return err
		}
		got, err := s.exchange(plainRecords(200))
		if err != nil {
			return err
		}
		for i, r := range got {
			if r.Record.Topic == Topic && r.Record.Partition >= partitions {
				return fmt.Errorf("record %d goes to partition %d of a topic with %d", i, r.Record.Partition, partitions)
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
		return errors.New("it says that it is deterministic, but answers a replay differently")
	}
	return nil
}

// checkBorrowed sends batches whose memory is overwritten once they are answered.
func checkBorrowed(_ context.Context, s *subject) error {
	for n := range 5 {
		if _, err := s.exchangeOwn(plainRecords(10 + n)); err != nil {
			return err
		}
	}
	return nil
}

// checkAcknowledgements sends what became of records, and empty and failed ranges.
func checkAcknowledgements(ctx context.Context, s *subject) error {
	stream, err := s.client.Acknowledge(ctx)
	if err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	for _, m := range []*wirev1.Acknowledgements{
		{Ranges: []*wirev1.Acknowledgement{{Topic: Topic, Partition: 1, FirstOffset: 1 << 40, Count: 500}}},
		{},
		{Dropped: 7, Ranges: []*wirev1.Acknowledgement{{Topic: Topic, Partition: -1, FirstOffset: -1, Count: 1, Error: "refused"}}},
	} {
		if err := stream.Send(m); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
	}
	if _, err := stream.CloseAndRecv(); err != nil && s.description.WantsAcknowledgements {
		return fmt.Errorf("acknowledge: %w", err)
	}
	if _, err = s.exchange(plainRecords(2)); err != nil {
		return fmt.Errorf("after acknowledgements: %w", err)
	}
	return nil
}

// checkMetrics asks for metrics with a batch in flight; a plugin need not have any.
func checkMetrics(ctx context.Context, s *subject) error {
	d := s.newDelivery(plainRecords(record.MaxRows))
	if err := s.send(d, 0, false); err != nil {
		return err
	}
	reply, err := s.client.Metrics(ctx, &wirev1.MetricsRequest{})
	switch {
	case status.Code(err) == codes.Unimplemented:
	case err != nil:
		return fmt.Errorf("metrics: %w", err)
	default:
		if err := wire.CheckMetrics(reply.Metrics); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	_, err = s.receive(d)
	return err
}

// checkClose ends the lane and closes the plugin, as the agent does when it stops.
func checkClose(ctx context.Context, s *subject) error {
	if _, err := s.exchange(plainRecords(3)); err != nil {
		return err
	}
	return s.finish(ctx)
}
