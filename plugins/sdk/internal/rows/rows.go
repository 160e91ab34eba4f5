// Package rows lays records out in a batch as a source does, for tests of plugins.
package rows

import "github.com/barnabas-agent/barnabas/core/record"

// Row is one record.
type Row struct {
	Value     []byte // nil: null
	ValueKind record.Kind
	Key       []byte // nil: null
	Headers   []record.Header
	Timestamp int64
	Topic     string
	Partition int32
	Origin    record.Origin
	Offset    int64
}

// Batch returns a batch of the rows, all of them live.
func Batch(rows []Row) *record.Batch {
	b := &record.Batch{Topics: []string{""}}
	if len(rows) > 0 {
		b.Topics[0] = rows[0].Topic
	}
	b.Value.AddBlock(nil)
	b.Key.AddBlock(nil)
	for _, r := range rows {
		span := appendSpan(&b.Value, r.Value, r.ValueKind)
		b.Append(origin{r.Origin}, span, r.Timestamp, r.Offset, r.Offset+int64(span.Length)+1)
	}
	for i, r := range rows {
		b.Key.Set(len(rows), i, appendSpan(&b.Key, r.Key, record.Bytes))
		b.SetHeaders(i, r.Headers)
		b.SetTopic(i, r.Topic)
		b.SetPartition(i, r.Partition)
	}
	return b
}

// appendSpan puts bytes at the end of a column's first block.
func appendSpan(c *record.Column, value []byte, kind record.Kind) record.Span {
	if value == nil {
		return record.Span{Kind: record.Null}
	}
	s := record.Span{Offset: uint32(len(c.Blocks[0])), Length: uint32(len(value)), Kind: kind}
	c.Blocks[0] = append(c.Blocks[0], value...)
	return s
}

// origin is a stream that only says where it comes from.
type origin struct{ from record.Origin }

// Origin returns what the rows said.
func (o origin) Origin() record.Origin { return o.from }

// Delivered does nothing.
func (origin) Delivered(int64) {}
