package wire

import (
	"encoding/binary"

	"github.com/barnabas-agent/barnabas/core/record"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// ReplyBuilder collects what a plugin changes in one frame. It copies what it is
// given. The zero builder is ready for Reset; one goroutine uses it.
type ReplyBuilder struct {
	count      int
	verdicts   []byte // empty: all kept
	failures   map[int]Refusal
	value, key columnEdits
	headers    edits[[]record.Header]
	timestamps edits[int64]
	topics     edits[string]
	partitions edits[int32]

	reply   wirev1.Reply
	packing replyPacking
}

// Refusal says why a plugin refuses a record: a stable code and a message for people.
type Refusal struct {
	Code    string
	Message string
}

// Reset starts the reply to a frame of count records.
func (r *ReplyBuilder) Reset(count int) {
	r.count = count
	r.verdicts = r.verdicts[:0]
	clear(r.failures)
	r.value.reset(count)
	r.key.reset(count)
	r.headers.reset(count)
	r.timestamps.reset(count)
	r.topics.reset(count)
	r.partitions.reset(count)
}

// SetValue replaces the value of record i.
func (r *ReplyBuilder) SetValue(i int, value []byte, kind record.Kind) { r.value.set(i, value, kind) }

// Value returns the replaced value of record i, if it was replaced.
func (r *ReplyBuilder) Value(i int) ([]byte, record.Kind, bool) { return r.value.get(i) }

// SetKey replaces the key of record i.
func (r *ReplyBuilder) SetKey(i int, key []byte, kind record.Kind) { r.key.set(i, key, kind) }

// Key returns the replaced key of record i, if it was replaced.
func (r *ReplyBuilder) Key(i int) ([]byte, record.Kind, bool) { return r.key.get(i) }

// SetHeaders replaces the headers of record i.
func (r *ReplyBuilder) SetHeaders(i int, headers []record.Header) {
	own := make([]record.Header, len(headers))
	for n, h := range headers {
		own[n] = record.Header{Name: h.Name, Value: append([]byte(nil), h.Value...)}
		if h.Value != nil && own[n].Value == nil {
			own[n].Value = []byte{}
		}
	}
	r.headers.set(i, own)
}

// Headers returns the replaced headers of record i, if they were replaced.
func (r *ReplyBuilder) Headers(i int) ([]record.Header, bool) { return r.headers.get(i) }

// SetTimestamp replaces the timestamp of record i: milliseconds since the Unix epoch.
func (r *ReplyBuilder) SetTimestamp(i int, timestamp int64) { r.timestamps.set(i, timestamp) }

// Timestamp returns the replaced timestamp of record i, if it was replaced.
func (r *ReplyBuilder) Timestamp(i int) (int64, bool) { return r.timestamps.get(i) }

// SetTopic replaces the topic of record i.
func (r *ReplyBuilder) SetTopic(i int, topic string) { r.topics.set(i, topic) }

// Topic returns the replaced topic of record i, if it was replaced.
func (r *ReplyBuilder) Topic(i int) (string, bool) { return r.topics.get(i) }

// SetPartition replaces the partition of record i.
func (r *ReplyBuilder) SetPartition(i int, partition int32) { r.partitions.set(i, partition) }

// Partition returns the replaced partition of record i, if it was replaced.
func (r *ReplyBuilder) Partition(i int) (int32, bool) { return r.partitions.get(i) }

// Drop filters record i out. A record that was refused stays refused.
func (r *ReplyBuilder) Drop(i int) {
	if r.Verdict(i) != record.Fail {
		r.setVerdict(i, record.Drop)
	}
}

// Fail refuses record i.
func (r *ReplyBuilder) Fail(i int, why Refusal) {
	r.setVerdict(i, record.Fail)
	if r.failures == nil {
		r.failures = make(map[int]Refusal)
	}
	r.failures[i] = why
}

// Verdict returns what was decided about record i.
func (r *ReplyBuilder) Verdict(i int) record.Verdict {
	if len(r.verdicts) == 0 {
		return record.Keep
	}
	return record.Verdict(r.verdicts[i])
}

// Refusal returns why record i was refused, if it was.
func (r *ReplyBuilder) Refusal(i int) (Refusal, bool) {
	why, ok := r.failures[i]
	return why, ok
}

func (r *ReplyBuilder) setVerdict(i int, v record.Verdict) {
	if len(r.verdicts) == 0 {
		r.verdicts = append(r.verdicts, make([]byte, r.count)...)
	}
	r.verdicts[i] = byte(v)
}

// Poison overwrites the values and keys that the builder holds and takes other
// memory for the next reply. It shows, in tests, who keeps bytes longer than they are lent.
func (r *ReplyBuilder) Poison(with byte) {
	for _, column := range []*columnEdits{&r.value, &r.key} {
		for i := range column.data {
			column.data[i] = with
		}
		column.data = nil
	}
}

// edits are the replaced cells of one column.
type edits[T any] struct {
	cells   []T
	touched []bool
	changed int
}

func (e *edits[T]) reset(count int) {
	if e.changed > 0 {
		clear(e.cells)
		clear(e.touched)
	}
	e.changed = 0
	if cap(e.cells) < count {
		e.cells, e.touched = nil, nil
		return
	}
	if e.cells != nil {
		e.cells, e.touched = e.cells[:count], e.touched[:count]
	}
}

func (e *edits[T]) set(i int, cell T) {
	if e.cells == nil {
		e.cells, e.touched = make([]T, record.MaxRows), make([]bool, record.MaxRows)
	}
	if !e.touched[i] {
		e.touched[i] = true
		e.changed++
	}
	e.cells[i] = cell
}

func (e *edits[T]) get(i int) (cell T, ok bool) {
	if e.changed == 0 || !e.touched[i] {
		return cell, false
	}
	return e.cells[i], true
}

// span locates one replaced cell in the data of its column.
type span struct {
	offset, length uint32
	kind           record.Kind
}

// columnEdits are the replaced cells of a column of byte strings.
type columnEdits struct {
	edits[span]
	data []byte
}

func (c *columnEdits) reset(count int) {
	c.edits.reset(count)
	c.data = c.data[:0]
}

func (c *columnEdits) set(i int, cell []byte, kind record.Kind) {
	s := span{offset: uint32(len(c.data)), kind: kind}
	if kind != record.Null {
		s.length = uint32(len(cell))
		c.data = append(c.data, cell...)
	}
	c.edits.set(i, s)
}

func (c *columnEdits) get(i int) ([]byte, record.Kind, bool) {
	s, ok := c.edits.get(i)
	if !ok || s.kind == record.Null {
		return nil, s.kind, ok
	}
	end := s.offset + s.length
	return c.data[s.offset:end:end], s.kind, true
}

// appendRows lists the replaced rows, or nothing where all are.
func appendRows(to []byte, set []bool, count, changed int) []byte {
	if changed == count {
		return nil
	}
	for i := range count {
		if set[i] {
			to = binary.LittleEndian.AppendUint32(to, uint32(i))
		}
	}
	return to
}
