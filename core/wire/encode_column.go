package wire

import (
	"encoding/binary"
	"math/rand/v2"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/barnabas-agent/barnabas/core/record"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// columnBuffer packs one column of byte strings.
type columnBuffer struct {
	column                 wirev1.Column
	data                   []byte // used only where the column's own block can't be sent as it is
	offsets, lengths, kind []byte
}

func (c *columnBuffer) reset() {
	c.data, c.offsets, c.lengths, c.kind = c.data[:0], c.offsets[:0], c.lengths[:0], c.kind[:0]
}

// encode packs the rows of a column: the stretch of the block that they lie in
// where that is one, else a copy of them.
func (c *columnBuffer) encode(from *record.Column, rows []uint32) *wirev1.Column {
	c.reset()
	if from.Spans == nil {
		c.encodeNulls(len(rows))
	} else if region, base, ok := commonRegion(from, rows); ok {
		c.encodeRegion(from, rows, base)
		c.column.Data = region
		return c.finish()
	} else {
		c.encodePacked(from, rows)
	}
	c.column.Data = c.data
	return c.finish()
}

func (c *columnBuffer) encodeNulls(n int) {
	for range n {
		c.add(0, 0, record.Null)
	}
}

func (c *columnBuffer) encodeRegion(from *record.Column, rows []uint32, base uint32) {
	for _, r := range rows {
		s := &from.Spans[r]
		if s.Kind == record.Null {
			c.add(0, 0, record.Null)
			continue
		}
		c.add(s.Offset-base, s.Length, s.Kind)
	}
}

func (c *columnBuffer) encodePacked(from *record.Column, rows []uint32) {
	for _, r := range rows {
		value := from.Bytes(int(r))
		c.add(uint32(len(c.data)), uint32(len(value)), from.Spans[r].Kind)
		c.data = append(c.data, value...)
	}
}

func (c *columnBuffer) add(offset, length uint32, kind record.Kind) {
	c.offsets = binary.LittleEndian.AppendUint32(c.offsets, offset)
	c.lengths = binary.LittleEndian.AppendUint32(c.lengths, length)
	c.kind = append(c.kind, byte(kind))
}

// finish leaves the kinds out where all are bytes.
func (c *columnBuffer) finish() *wirev1.Column {
	c.column.Offsets, c.column.Lengths, c.column.Kinds = c.offsets, c.lengths, nil
	for _, k := range c.kind {
		if k != byte(record.Bytes) {
			c.column.Kinds = c.kind
			break
		}
	}
	return &c.column
}

// commonRegion finds the stretch of one block that holds the rows in order. A
// stretch that is mostly other bytes is not worth sending whole.
func commonRegion(from *record.Column, rows []uint32) (region []byte, base uint32, ok bool) {
	var first, end, used uint64
	block := -1
	for _, r := range rows {
		s := &from.Spans[r]
		if s.Kind == record.Null {
			continue
		}
		if block < 0 {
			block, first, end = int(s.Block), uint64(s.Offset), uint64(s.Offset)
		}
		if int(s.Block) != block || uint64(s.Offset) < end {
			return nil, 0, false
		}
		end = uint64(s.Offset) + uint64(s.Length)
		used += uint64(s.Length)
	}
	if block < 0 {
		return nil, 0, true
	}
	const gapPerRow = 16 // bytes that cost about as much to send as a copy of a record to start
	if end-first > used+used/4+gapPerRow*uint64(len(rows)) {
		return nil, 0, false
	}
	return from.Blocks[block][first:end:end], uint32(first), true
}

// headerBuffer packs the headers of the rows, flat.
type headerBuffer struct {
	column        wirev1.HeaderColumn
	counts        []byte
	names, values columnBuffer
}

func (h *headerBuffer) reset() {
	h.counts = h.counts[:0]
	h.names.reset()
	h.values.reset()
}

func (h *headerBuffer) encode(b *record.Batch, rows []uint32) *wirev1.HeaderColumn {
	h.reset()
	for _, r := range rows {
		h.add(b.RowHeaders(int(r)))
	}
	return h.finish()
}

// add appends the headers of one row.
func (h *headerBuffer) add(headers []record.Header) {
	h.counts = binary.LittleEndian.AppendUint32(h.counts, uint32(len(headers)))
	for i := range headers {
		name, value := headers[i].Name, headers[i].Value
		h.names.add(uint32(len(h.names.data)), uint32(len(name)), record.Bytes)
		h.names.data = append(h.names.data, name...)
		kind := record.Bytes
		if value == nil {
			kind = record.Null
		}
		h.values.add(uint32(len(h.values.data)), uint32(len(value)), kind)
		h.values.data = append(h.values.data, value...)
	}
}

func (h *headerBuffer) finish() *wirev1.HeaderColumn {
	h.names.column.Data, h.values.column.Data = h.names.data, h.values.data
	h.column.Counts = h.counts
	h.column.Names, h.column.Values = h.names.finish(), h.values.finish()
	return &h.column
}

// greaseField makes up a field of random number, type and content.
func greaseField(r *rand.Rand) protoreflect.RawFields {
	number := protowire.Number(greaseFirstField + r.IntN(greaseFields))
	if r.IntN(2) == 0 {
		return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), r.Uint64())
	}
	content := make([]byte, r.IntN(32))
	for i := range content {
		content[i] = byte(r.Uint32())
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
}
