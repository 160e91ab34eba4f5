package file

import "github.com/barnabas-agent/barnabas/core/record"

// filling is where an assembler's records go: a batch.
type filling struct {
	batch    *record.Batch
	stream   record.Stream
	inPlace  bool  // the window stands in the batch's block, from base on
	base     int   //
	position int64 // of the window's first byte
	now      int64 // milliseconds since the Unix epoch

	at    int64      // where the next record begins
	marks []bookmark // of records whose end is not all there is to say
	rows  int        // records made
	bytes int        // of their values
	lost  int64      // bytes skipped
}

// fits says whether there is room for the piece's record.
func (f *filling) fits(p *piece) bool {
	block := f.batch.Value.Blocks[0]
	return f.batch.Rows() < record.MaxRows && (f.inPlace || cap(block)-len(block) >= p.length)
}

// take makes a record of a piece, or passes over one that is skipped. The
// assembler's position is behind it.
func (f *filling) take(a *assembler, p *piece) {
	at, s := a.position()
	position := f.position + int64(at)
	if p.skip {
		f.skip(a, p, position, s)
		return
	}
	end := max(position, f.at+1)
	if end != position || s != (situation{}) {
		f.marks = append(f.marks, bookmark{end, position, s})
	}
	timestamp := p.time
	if timestamp == 0 {
		timestamp = f.now
	}
	f.batch.Append(f.stream, f.value(a, p), timestamp, f.at, end)
	if p.before == refused || p.after == refused {
		f.batch.Refuse(longLineCode, "the line has more bytes than max_line, and on_long_line is \"quarantine\"")
	}
	f.at = end
	f.rows++
	f.bytes += p.length
}

// skip lets the last record, if it is of this window, end behind what is skipped,
// so that nothing remains to be said of its position.
func (f *filling) skip(a *assembler, p *piece, position int64, s situation) {
	if p.before == truncated {
		f.lost += int64(len(a.textOf(p)))
	}
	last := f.batch.Rows() - 1
	if f.rows == 0 {
		f.at = max(f.at, position)
		return
	}
	if n := len(f.marks); n > 0 && f.marks[n-1].end == f.batch.Ends[last] {
		f.marks = f.marks[:n-1]
	}
	f.at = max(f.at, position)
	f.batch.Ends[last] = f.at
	if f.at != position || s != (situation{}) {
		f.marks = append(f.marks, bookmark{f.at, position, s})
	}
}

// value is the span of a piece's value in the block.
func (f *filling) value(a *assembler, p *piece) record.Span {
	if f.inPlace {
		start := a.fragments[p.first].start + p.from
		return record.Span{Offset: uint32(f.base + start), Length: uint32(p.length)}
	}
	block := f.batch.Value.Blocks[0]
	start := len(block)
	f.batch.Value.Blocks[0] = a.appendValue(block, p)
	return record.Span{Offset: uint32(start), Length: uint32(p.length)}
}
