package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/barnabas-agent/barnabas/core/record"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// ColumnView reads one column of byte strings in place.
type ColumnView struct {
	data, offsets, lengths, kinds []byte
}

// viewColumn checks that a column holds count records whose bytes lie in its
// data and whose kinds are at most maxKind.
func viewColumn(m *wirev1.Column, count int, maxKind record.Kind) (ColumnView, error) {
	if len(m.Offsets) != 4*count || len(m.Lengths) != 4*count {
		return ColumnView{}, fmt.Errorf("%d bytes of offsets and %d of lengths for %d records, want 4 each", len(m.Offsets), len(m.Lengths), count)
	}
	if len(m.Kinds) != 0 && len(m.Kinds) != count {
		return ColumnView{}, fmt.Errorf("%d kinds for %d records", len(m.Kinds), count)
	}
	c := ColumnView{data: m.Data, offsets: m.Offsets, lengths: m.Lengths, kinds: m.Kinds}
	for i, k := range c.kinds {
		if k > byte(maxKind) {
			return ColumnView{}, fmt.Errorf("record %d: kind %d is not valid here", i, k)
		}
	}
	for i := range count {
		offset, length := c.span(i)
		if uint64(offset)+uint64(length) > uint64(len(c.data)) {
			return ColumnView{}, fmt.Errorf("record %d: bytes %d to %d of %d", i, offset, uint64(offset)+uint64(length), len(c.data))
		}
	}
	return c, nil
}

func (c *ColumnView) span(i int) (offset, length uint32) {
	return binary.LittleEndian.Uint32(c.offsets[4*i:]), binary.LittleEndian.Uint32(c.lengths[4*i:])
}

// Kind returns the kind of record i.
func (c *ColumnView) Kind(i int) record.Kind {
	if len(c.kinds) == 0 {
		return record.Bytes
	}
	return record.Kind(c.kinds[i])
}

// Bytes returns the bytes of record i: nil for null, else a non-nil slice of the frame.
func (c *ColumnView) Bytes(i int) []byte {
	if c.Kind(i) == record.Null {
		return nil
	}
	offset, length := c.span(i)
	if length == 0 {
		return []byte{}
	}
	return c.data[offset : offset+length : offset+length]
}

// headerView reads the headers of all records, made into slices once per frame.
type headerView struct {
	flat []record.Header
	ends []uint32 // per record: where its headers end in flat
}

func (h *headerView) reset() {
	clear(h.flat)
	h.flat, h.ends = h.flat[:0], h.ends[:0]
}

func (h *headerView) decode(m *wirev1.HeaderColumn, count int, strings *interner) error {
	total, err := checkHeaderCounts(m.Counts, count)
	if err != nil {
		return err
	}
	names, values, err := viewHeaderColumns(m, total)
	if err != nil {
		return err
	}
	for i := range total {
		h.flat = append(h.flat, record.Header{Name: strings.keepBytes(names.Bytes(i)), Value: values.Bytes(i)})
	}
	end := uint32(0)
	for i := range count {
		end += binary.LittleEndian.Uint32(m.Counts[4*i:])
		h.ends = append(h.ends, end)
	}
	return nil
}

func (h *headerView) row(i int) []record.Header {
	first := uint32(0)
	if i > 0 {
		first = h.ends[i-1]
	}
	return h.flat[first:h.ends[i]:h.ends[i]]
}

// checkHeaderCounts returns how many headers count records have in all.
func checkHeaderCounts(counts []byte, count int) (int, error) {
	if len(counts) != 4*count {
		return 0, fmt.Errorf("%d bytes of counts for %d records, want 4 each", len(counts), count)
	}
	total := uint64(0)
	for i := range count {
		total += uint64(binary.LittleEndian.Uint32(counts[4*i:]))
	}
	if total > MaxMessageSize/8 { // each header takes at least 8 bytes of offsets and lengths, twice
		return 0, fmt.Errorf("%d headers", total)
	}
	return int(total), nil
}

// viewHeaderColumns checks the names and values of total headers.
func viewHeaderColumns(m *wirev1.HeaderColumn, total int) (names, values ColumnView, err error) {
	if names, err = viewColumn(nonNilColumn(m.Names), total, record.Bytes); err != nil {
		return names, values, fmt.Errorf("names: %w", err)
	}
	if values, err = viewColumn(nonNilColumn(m.Values), total, record.Null); err != nil {
		return names, values, fmt.Errorf("values: %w", err)
	}
	return names, values, nil
}

func nonNilColumn(m *wirev1.Column) *wirev1.Column {
	if m == nil {
		return &wirev1.Column{}
	}
	return m
}

// checkTopicIndex checks that every record names a topic of the dictionary.
func checkTopicIndex(m *wirev1.TopicColumn, count int) error {
	if len(m.Topics) == 0 {
		return fmt.Errorf("topic: no topics for %d records", count)
	}
	if len(m.Index) == 0 {
		return nil
	}
	if len(m.Index) != 2*count {
		return fmt.Errorf("topic: %d bytes of index for %d records, want 2 each", len(m.Index), count)
	}
	for i := range count {
		if n := int(binary.LittleEndian.Uint16(m.Index[2*i:])); n >= len(m.Topics) {
			return fmt.Errorf("topic: record %d names topic %d of %d", i, n, len(m.Topics))
		}
	}
	return nil
}
