package file

import (
	"encoding/binary"
	"math"
)

// Streams of one file that interleave: messages of one are joined over lines of
// the others. Lines and charsets know only the first.
const (
	streamOut = iota
	streamErr
	streamRaw // lines that are not of the format
	streamCount
)

// progress says what has become of a message before a position inside it.
type progress uint8

const (
	fresh     progress = iota // nothing of it lies before
	continued                 // it was split: what follows is the next piece
	truncated                 // what follows is skipped
	refused                   // what follows is refused as what was before
	progressCount
)

// passed is what lies behind a position of one stream and has become records already.
type passed struct {
	messages int64 // so many whole ones, then
	bytes    int64 // so many of the next one's
	message  progress
}

// inside says that a position lies inside a line that is too long to be looked at
// as a whole.
type inside struct {
	line     bool
	stream   uint8
	complete bool  // the line's end completes its message
	time     int64 // of the line; 0: not known
}

// situation is what must be known, beside the bytes, to go on reading at a position.
// At most positions it is zero: nothing.
type situation struct {
	inside  inside
	streams [streamCount]passed
}

// bookmark is a position that stands in records for another one, or for one with a situation.
type bookmark struct {
	end       int64 // as the records have it
	position  int64 // reading goes on here
	situation situation
}

// encode returns nil for the zero situation.
func (c *situation) encode() []byte {
	if *c == (situation{}) {
		return nil
	}
	b := []byte{0, c.inside.stream}
	if c.inside.line {
		b[0] |= 1
	}
	if c.inside.complete {
		b[0] |= 2
	}
	b = binary.AppendVarint(b, c.inside.time)
	for _, s := range c.streams {
		b = binary.AppendUvarint(b, uint64(s.messages))
		b = binary.AppendUvarint(b, uint64(s.bytes))
		b = append(b, byte(s.message))
	}
	return b
}

// decodeSituation takes any bytes; ok is false for those that encode never gives.
func decodeSituation(b []byte) (c situation, ok bool) {
	if len(b) < 2 || b[0] > 3 || b[1] >= streamCount {
		return c, false
	}
	c.inside.line, c.inside.complete, c.inside.stream = b[0]&1 != 0, b[0]&2 != 0, b[1]
	time, n := binary.Varint(b[2:])
	if n <= 0 {
		return c, false
	}
	c.inside.time = time
	d := fieldReader{rest: b[2+n:]}
	for i := range c.streams {
		s := &c.streams[i]
		s.messages = int64(d.uvarint(math.MaxInt32))
		s.bytes = int64(d.uvarint(math.MaxInt32))
		s.message = progress(d.uvarint(uint64(progressCount - 1)))
	}
	return c, !d.failed && len(d.rest) == 0 && c != situation{}
}
