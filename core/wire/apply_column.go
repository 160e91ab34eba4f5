package wire

import (
	"encoding/binary"
	"math"
	"unicode/utf8"

	"github.com/barnabas-agent/barnabas/core/record"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// replacedRows are the records of the frame that a change replaces: those that
// it lists, or without a list all of them.
type replacedRows struct {
	listed []byte // packed uint32
	total  int
}

// check reads the list of rows of a change to the given column and marks the records.
func (r *replacedRows) check(a *application, listed []byte, column ColumnSet) error {
	if !a.rules.Writes.Has(column) {
		return ruleErrorf("column.undeclared", "the plugin replaces %s, which it does not say that it writes", column)
	}
	if len(listed) == 0 {
		r.total = a.count()
		for i := range r.total {
			a.changed[i] = true
		}
		return nil
	}
	if len(listed)%4 != 0 {
		return ruleErrorf("rows", "%s: %d bytes of rows", column, len(listed))
	}
	next := uint32(0)
	for at := 0; at < len(listed); at += 4 {
		row := binary.LittleEndian.Uint32(listed[at:])
		if row < next || int64(row) >= int64(a.count()) {
			return ruleErrorf("rows", "%s: row %d of %d, not ascending or out of range", column, row, a.count())
		}
		next = row + 1
		a.changed[row] = true
	}
	r.listed, r.total = listed, len(listed)/4
	return nil
}

// length returns how many records the change replaces.
func (r *replacedRows) length() int { return r.total }

// record returns the record of the frame that the n-th cell replaces.
func (r *replacedRows) record(n int) int {
	if r.listed == nil {
		return n
	}
	return int(binary.LittleEndian.Uint32(r.listed[4*n:]))
}

// columnReplacement replaces values or keys.
type columnReplacement struct {
	replacedRows
	view ColumnView
}

func (c *columnReplacement) check(a *application, m *wirev1.ColumnChange, to *record.Column, column ColumnSet) error {
	if m == nil {
		return nil
	}
	if err := c.replacedRows.check(a, m.Rows, column); err != nil {
		return err
	}
	maxKind := record.Null
	if a.rules.AllowObjects {
		maxKind = record.Object
	}
	view, err := viewColumn(nonNilColumn(m.Column), c.length(), maxKind)
	if err != nil {
		return ruleErrorf("column.range", "%s: %v", column, err)
	}
	if len(to.Blocks) > math.MaxUint16 {
		return ruleErrorf("column.blocks", "%s: the batch holds %d blocks", column, len(to.Blocks))
	}
	c.view = view
	return nil
}

// size returns the bytes of the n-th cell.
func (c *columnReplacement) size(n int) int {
	if c.view.Kind(n) == record.Null {
		return 0
	}
	_, length := c.view.span(n)
	return int(length)
}

// apply makes the replacement a block of the column and points the spans of kept records at it.
func (c *columnReplacement) apply(a *application, to *record.Column) {
	if c.length() == 0 {
		return
	}
	data := c.view.data
	if data == nil {
		data = []byte{} // a span of a nil block would read as null
	}
	block := to.AddBlock(data)
	a.outcome.Adopted += len(c.view.data)
	rows := a.batch.Rows()
	for n := range c.length() {
		i := c.record(n)
		if a.verdicts[i] != record.Keep {
			continue
		}
		s := record.Span{Kind: c.view.Kind(n)}
		if s.Kind != record.Null {
			s.Offset, s.Length = c.view.span(n)
			s.Block = block
		}
		to.Set(rows, int(a.rows[i]), s)
	}
}

// headerReplacement replaces headers.
type headerReplacement struct {
	replacedRows
	view headerView
	data int // bytes of the reply that the view refers to
}

func (h *headerReplacement) check(a *application, m *wirev1.HeaderChange) error {
	if m == nil {
		return nil
	}
	if err := h.replacedRows.check(a, m.Rows, ColumnHeaders); err != nil {
		return err
	}
	headers := m.Headers
	if headers == nil {
		headers = &wirev1.HeaderColumn{}
	}
	var names interner
	if err := h.view.decode(headers, h.length(), &names); err != nil {
		return ruleErrorf("column.range", "headers: %v", err)
	}
	h.data = len(headers.Values.GetData())
	return nil
}

// size returns the bytes of the headers of the n-th cell.
func (h *headerReplacement) size(n int) (size int) {
	for _, header := range h.view.row(n) {
		size += len(header.Name) + len(header.Value)
	}
	return size
}

// badName returns a header name that Kafka's clients don't take, if there is one.
func (h *headerReplacement) badName(n int) (string, bool) {
	for _, header := range h.view.row(n) {
		if !utf8.ValidString(header.Name) {
			return header.Name, true
		}
		for i := range len(header.Name) {
			if header.Name[i] == 0 {
				return header.Name, true
			}
		}
	}
	return "", false
}

func (h *headerReplacement) apply(a *application) {
	for n := range h.length() {
		if i := h.record(n); a.verdicts[i] == record.Keep {
			a.batch.SetHeaders(int(a.rows[i]), h.view.row(n))
		}
	}
	a.outcome.Adopted += h.data
}

// numberReplacement replaces a column of numbers.
type numberReplacement struct {
	replacedRows
	values []byte
}

func (r *numberReplacement) check(a *application, m *wirev1.NumberChange, size int, column ColumnSet) error {
	if m == nil {
		return nil
	}
	if err := r.replacedRows.check(a, m.Rows, column); err != nil {
		return err
	}
	if len(m.Values) != size*r.length() {
		return ruleErrorf("column.range", "%s: %d bytes for %d records, want %d each", column, len(m.Values), r.length(), size)
	}
	r.values = m.Values
	return nil
}

func (r *numberReplacement) int32(n int) int32 {
	return int32(binary.LittleEndian.Uint32(r.values[4*n:]))
}

func (r *numberReplacement) int64(n int) int64 {
	return int64(binary.LittleEndian.Uint64(r.values[8*n:]))
}
