package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/barnabas-agent/barnabas/core/record"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// View reads the columns of a frame in place. The bytes that it returns belong to
// the frame's memory and are valid until that is used again; strings may be kept.
// The zero View is empty and ready; one goroutine uses it.
type View struct {
	count      int
	columns    ColumnSet
	value, key ColumnView
	headers    headerView
	timestamps []byte
	topics     []string
	topicIndex []byte
	partitions []byte
	origins    []record.Origin // of each run
	runEnds    []int           // the row after the last one of each run
	offsets    []byte
	strings    interner
}

// Decode checks every count, length and range of a frame and makes it the one
// that the view shows. A frame that does not hold together is an error, and the
// view is then empty.
func (v *View) Decode(m *wirev1.Batch) error {
	v.reset()
	if m.Count > record.MaxRows {
		return fmt.Errorf("frame of batch %d: %d records, more than %d", m.Id, m.Count, record.MaxRows)
	}
	v.count = int(m.Count)
	if v.count == 0 {
		return nil
	}
	if err := v.decodeColumns(m); err != nil {
		v.reset()
		return fmt.Errorf("frame of batch %d: %w", m.Id, err)
	}
	return nil
}

func (v *View) reset() {
	v.headers.reset()
	*v = View{
		headers: v.headers, strings: v.strings,
		topics: v.topics[:0], origins: v.origins[:0], runEnds: v.runEnds[:0],
	}
}

func (v *View) decodeColumns(m *wirev1.Batch) (err error) {
	if m.Value != nil {
		if v.value, err = viewColumn(m.Value, v.count, record.Object); err != nil {
			return fmt.Errorf("values: %w", err)
		}
		v.columns |= ColumnValue
	}
	if m.Key != nil {
		if v.key, err = viewColumn(m.Key, v.count, record.Object); err != nil {
			return fmt.Errorf("keys: %w", err)
		}
		v.columns |= ColumnKey
	}
	if m.Headers != nil {
		if err = v.headers.decode(m.Headers, v.count, &v.strings); err != nil {
			return fmt.Errorf("headers: %w", err)
		}
		v.columns |= ColumnHeaders
	}
	if v.timestamps, err = v.numbers(m.Timestamps, 8, ColumnTimestamp); err != nil {
		return err
	}
	if v.partitions, err = v.numbers(m.Partitions, 4, ColumnPartition); err != nil {
		return err
	}
	if err = v.decodeTopics(m.Topic); err != nil {
		return err
	}
	return v.decodeSource(m.Source)
}

// numbers checks a packed column whose numbers have size bytes.
func (v *View) numbers(packed []byte, size int, column ColumnSet) ([]byte, error) {
	if packed == nil {
		return nil, nil
	}
	if len(packed) != size*v.count {
		return nil, fmt.Errorf("%s: %d bytes for %d records, want %d each", column, len(packed), v.count, size)
	}
	v.columns |= column
	return packed, nil
}

func (v *View) decodeTopics(m *wirev1.TopicColumn) error {
	if m == nil {
		return nil
	}
	if err := checkTopicIndex(m, v.count); err != nil {
		return err
	}
	for _, topic := range m.Topics {
		v.topics = append(v.topics, v.strings.keep(topic))
	}
	v.topicIndex = m.Index
	v.columns |= ColumnTopic
	return nil
}

func (v *View) decodeSource(m *wirev1.SourceColumn) error {
	if m == nil {
		return nil
	}
	if len(m.Offsets) != 8*v.count {
		return fmt.Errorf("source: %d bytes of offsets for %d records, want 8 each", len(m.Offsets), v.count)
	}
	end := 0
	for _, run := range m.Runs {
		if run.Count == 0 || int64(run.Count) > int64(v.count-end) {
			return fmt.Errorf("source: a run of %d records after %d of %d", run.Count, end, v.count)
		}
		end += int(run.Count)
		v.runEnds = append(v.runEnds, end)
		v.origins = append(v.origins, record.Origin{
			Kind: v.strings.keep(run.Kind), File: v.strings.keep(run.File),
			Peer: v.strings.keep(run.Peer), Host: v.strings.keep(run.Host),
		})
	}
	if end != v.count {
		return fmt.Errorf("source: runs of %d records in all for %d", end, v.count)
	}
	v.offsets = m.Offsets
	v.columns |= ColumnSource
	return nil
}

// Count returns how many records the frame holds; zero is a canary.
func (v *View) Count() int { return v.count }

// Columns returns the columns that the frame carries.
func (v *View) Columns() ColumnSet { return v.columns }

// Value returns the column of values, empty when the frame has none.
func (v *View) Value() *ColumnView { return &v.value }

// Key returns the column of keys, empty when the frame has none.
func (v *View) Key() *ColumnView { return &v.key }

// Headers returns the headers of record i, in order.
func (v *View) Headers(i int) []record.Header { return v.headers.row(i) }

// Timestamp returns the timestamp of record i in milliseconds since the Unix epoch.
func (v *View) Timestamp(i int) int64 {
	return int64(binary.LittleEndian.Uint64(v.timestamps[8*i:]))
}

// Topic returns the topic of record i.
func (v *View) Topic(i int) string {
	if len(v.topicIndex) == 0 {
		return v.topics[0]
	}
	return v.topics[binary.LittleEndian.Uint16(v.topicIndex[2*i:])]
}

// Partition returns the partition of record i, or record.PartitionAny.
func (v *View) Partition(i int) int32 {
	return int32(binary.LittleEndian.Uint32(v.partitions[4*i:]))
}

// Origin returns where record i comes from, and where in its source it begins.
func (v *View) Origin(i int) (record.Origin, int64) {
	low, high := 0, len(v.runEnds)-1
	for low < high {
		mid := (low + high) / 2
		if v.runEnds[mid] > i {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return v.origins[low], int64(binary.LittleEndian.Uint64(v.offsets[8*i:]))
}
