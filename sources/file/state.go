package file

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

const (
	stateVersion = 2
	// maxPath bounds a path in a state: Linux's PATH_MAX.
	maxPath = 4096
	// maxField bounds the value of a field that this agent does not know.
	maxField = 64 << 10

	startedKey = "started"
	fileKey    = "file/"
)

// Tags of a state's fields, which stand behind its fixed part in ascending order,
// each once, and only where they say something. A tag keeps its meaning for ever.
const (
	tagModified  = 1  // varint: nanoseconds since the Unix epoch
	tagSituation = 32 // form, then a situation (see encode) that is not zero

	// tagRequired is the first tag without which a state can't be understood: an
	// agent that does not know such a field refuses the state. It passes over lower
	// ones, and does not keep them: they belong to a position that it moves on.
	tagRequired = 128

	// compression, flags, plain position, the member's position in the file and in
	// what is decompressed, layout + 1, seen; all uvarints; the hash of what was seen,
	// 8 bytes little-endian
	tagPacked = 128
)

// state is the durable position of one file. Its encoding, version 2, is a
// version byte, then device, inode, generation kind, generation, delivered
// position, size, head length, guard length as uvarints, the hashes of head
// and guard as 8 bytes little-endian each, and the two paths, each behind its
// length as uvarint. Fields follow to the end: tag and length as uvarints, and the
// value. Version 1 has none, and is read.
type state struct {
	identity identity
	path     string // the last name that matched include
	real     string // what path resolved to; equal to it without links
	position int64  // everything before it is delivered
	size     int64  // the largest known; what lies behind position is not delivered

	headLength  int
	headHash    uint64 // xxhash of the first headLength bytes, all before size
	guardLength int
	guardHash   uint64 // xxhash of the guardLength bytes before position

	modified int64 // of the file when the hashes were taken, nanoseconds since the Unix epoch; 0: not known

	situation situation // at the position
	form      byte      // of the rules that the situation is of; 0 where that is zero

	// Of a compressed file, whose position above is one in the file as it is: no
	// further than what is settled.
	compression compression
	plain       int64  // the position in what is decompressed
	member      rung   // where decompressing can begin, at or before it
	corrupt     bool   // all that can be decompressed lies before it
	layout      int    // of its charset
	seen        int64  // so much was read of the file as it is, and
	seenHash    uint64 // this is evidenceOf it

	parked bool // by this run, which closed the file; not saved
}

// fields returns what is encoded behind the fixed part, in the order of tags.
func (s *state) fields() []field {
	var all []field
	if s.modified != 0 {
		all = append(all, field{tagModified, binary.AppendVarint(nil, s.modified)})
	}
	if at := s.situation.encode(); at != nil {
		all = append(all, field{tagSituation, append([]byte{s.form}, at...)})
	}
	if s.compression != notCompressed {
		all = append(all, field{tagPacked, s.encodePacked()})
	}
	return all
}

// setField takes one field, unless its tag is not known. It is not well when the
// value is none that fields gives.
func (s *state) setField(f field) (known, well bool) {
	switch f.tag {
	case tagModified:
		n, size := binary.Varint(f.value)
		s.modified = n
		return true, size == len(f.value) && n != 0
	case tagSituation:
		if len(f.value) == 0 {
			return true, false
		}
		var well bool
		s.form = f.value[0]
		s.situation, well = decodeSituation(f.value[1:])
		return true, well
	case tagPacked:
		return true, s.decodePacked(f.value)
	default:
		return false, true
	}
}

func (s *state) encodePacked() []byte {
	flags := uint64(0)
	if s.corrupt {
		flags = 1
	}
	var b []byte
	for _, n := range []uint64{
		uint64(s.compression), flags, uint64(s.plain), uint64(s.member.raw), uint64(s.member.plain), uint64(s.layout + 1), uint64(s.seen),
	} {
		b = binary.AppendUvarint(b, n)
	}
	return binary.LittleEndian.AppendUint64(b, s.seenHash)
}

func (s *state) decodePacked(value []byte) (well bool) {
	d := fieldReader{rest: value}
	s.compression = compression(d.uvarint(uint64(compressionCount - 1)))
	s.corrupt = d.uvarint(1) == 1
	s.plain = int64(d.uvarint(math.MaxInt64))
	s.member.raw = int64(d.uvarint(math.MaxInt64))
	s.member.plain = int64(d.uvarint(uint64(s.plain)))
	s.layout = int(d.uvarint(maxLayout)) - 1
	s.seen = int64(d.uvarint(math.MaxInt64))
	s.seenHash = d.fixed()
	return !d.failed && s.member.raw <= s.seen && s.position <= s.seen && len(d.rest) == 0 && s.compression != notCompressed
}

// maxLayout bounds the number of a charset's layout in a state.
const maxLayout = 16

// field is one tagged value of a state.
type field struct {
	tag   uint64
	value []byte
}

// newerStateError refuses a state that a newer agent wrote.
type newerStateError struct {
	version byte
	tag     uint64 // not 0: of a field that must be understood
}

func (e *newerStateError) Error() string {
	if e.tag != 0 {
		return fmt.Sprintf("a file position has a field %d that this agent must know and does not: start the agent version that wrote it, or a newer one", e.tag)
	}
	return fmt.Sprintf("a file position has version %d, this agent knows %d: start the agent version that wrote it, or a newer one", e.version, stateVersion)
}

func (s *state) encode() []byte {
	b := make([]byte, 0, 96+len(s.path)+len(s.real))
	b = append(b, stateVersion)
	for _, n := range []uint64{
		s.identity.device, s.identity.number, uint64(s.identity.kind), s.identity.generation,
		uint64(s.position), uint64(s.size), uint64(s.headLength), uint64(s.guardLength),
	} {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.LittleEndian.AppendUint64(b, s.headHash)
	b = binary.LittleEndian.AppendUint64(b, s.guardHash)
	for _, path := range []string{s.path, s.real} {
		b = binary.AppendUvarint(b, uint64(len(path)))
		b = append(b, path...)
	}
	for _, f := range s.fields() {
		b = binary.AppendUvarint(b, f.tag)
		b = binary.AppendUvarint(b, uint64(len(f.value)))
		b = append(b, f.value...)
	}
	return b
}

// decodeState takes any bytes and returns a state that holds together, or an error.
func decodeState(encoded []byte) (*state, error) {
	if len(encoded) == 0 {
		return nil, errors.New("a file position is empty")
	}
	if encoded[0] > stateVersion {
		return nil, &newerStateError{version: encoded[0]}
	}
	if encoded[0] == 0 {
		return nil, fmt.Errorf("a file position has the unknown version %d", encoded[0])
	}
	d := fieldReader{rest: encoded[1:]}
	var s state
	s.identity.device = d.uvarint(math.MaxUint64)
	s.identity.number = d.uvarint(math.MaxUint64)
	s.identity.kind = generationKind(d.uvarint(uint64(generationBirth)))
	s.identity.generation = d.uvarint(math.MaxUint64)
	s.position = int64(d.uvarint(math.MaxInt64))
	s.size = int64(d.uvarint(math.MaxInt64))
	s.headLength = int(d.uvarint(uint64(min(headSize, max(s.position, s.size)))))
	s.guardLength = int(d.uvarint(uint64(min(guardSize, s.position))))
	s.headHash = d.fixed()
	s.guardHash = d.fixed()
	s.path = d.text()
	s.real = d.text()
	if encoded[0] > 1 {
		if err := d.fields(&s); err != nil {
			return nil, err
		}
	}
	if d.failed || len(d.rest) > 0 {
		return nil, fmt.Errorf("a file position of %d bytes is malformed", len(encoded))
	}
	return &s, nil
}

// fields takes all that is left.
func (d *fieldReader) fields(s *state) error {
	last := uint64(0)
	for !d.failed && len(d.rest) > 0 {
		f := field{tag: d.uvarint(math.MaxUint64), value: d.bytes(maxField)}
		known, well := s.setField(f)
		switch {
		case d.failed || f.tag <= last || !well:
			d.failed = true
		case !known && f.tag >= tagRequired:
			return &newerStateError{version: stateVersion, tag: f.tag}
		}
		last = f.tag
	}
	return nil
}

// fieldReader reads fields one after the other; after a failure all that follow are zero.
type fieldReader struct {
	rest   []byte
	failed bool
}

func (d *fieldReader) uvarint(most uint64) uint64 {
	n, size := binary.Uvarint(d.rest)
	if d.failed || size <= 0 || n > most {
		d.failed = true
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *fieldReader) fixed() uint64 {
	if d.failed || len(d.rest) < 8 {
		d.failed = true
		return 0
	}
	n := binary.LittleEndian.Uint64(d.rest)
	d.rest = d.rest[8:]
	return n
}

func (d *fieldReader) text() string { return string(d.bytes(maxPath)) }

// bytes returns a value that stands behind its length; it shares memory with what
// is decoded.
func (d *fieldReader) bytes(most uint64) []byte {
	n := d.uvarint(most)
	if d.failed || n > uint64(len(d.rest)) {
		d.failed = true
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}
