package record

// Span locates the bytes of one field in the blocks of its column.
type Span struct {
	Offset uint32
	Length uint32
	Block  uint16
	Kind   Kind
}

// Column is one field of all records of a batch: a span per record into a few
// blocks. Block 0 of a source's value column is the slab that the file was read
// into; a plugin's reply adds a block, and only spans change. A column without
// spans is null in every row.
type Column struct {
	Blocks [][]byte
	Spans  []Span
}

// Kind returns the kind of row i.
func (c *Column) Kind(i int) Kind {
	if c.Spans == nil {
		return Null
	}
	return c.Spans[i].Kind
}

// Bytes returns the bytes of row i: nil for null, else a non-nil slice of the
// column's own memory, valid until the batch is released.
func (c *Column) Bytes(i int) []byte {
	if c.Spans == nil {
		return nil
	}
	s := &c.Spans[i]
	if s.Kind == Null {
		return nil
	}
	return c.Blocks[s.Block][s.Offset : s.Offset+s.Length : s.Offset+s.Length]
}

// Size returns the bytes that row i holds.
func (c *Column) Size(i int) int {
	if c.Spans == nil {
		return 0
	}
	return int(c.Spans[i].Length)
}

// AddBlock appends a block, which the column keeps, and returns its number.
func (c *Column) AddBlock(block []byte) uint16 {
	c.Blocks = append(c.Blocks, block)
	return uint16(len(c.Blocks) - 1)
}

// Set replaces row i of a column of rows records.
func (c *Column) Set(rows, i int, s Span) {
	if c.Spans == nil {
		c.Spans = make([]Span, rows)
		for r := range c.Spans {
			c.Spans[r].Kind = Null
		}
	}
	c.Spans[i] = s
}

// reset empties the column and keeps its memory.
func (c *Column) reset() {
	clear(c.Blocks)
	c.Blocks = c.Blocks[:0]
	c.Spans = c.Spans[:0]
}
