package file

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

const (
	stateVersion = 1
	// maxPath bounds a path in a state: Linux's PATH_MAX.
	maxPath = 4096

	startedKey = "started"
	fileKey    = "file/"
)

// state is the durable position of one file. Its encoding, version 1, is a
// version byte, then device, inode, generation kind, generation, delivered
// position, size, head length, guard length as uvarints, the hashes of head
// and guard as 8 bytes little-endian each, and the two paths, each behind its
// length as uvarint.
type state struct {
	identity identity
	path     string // the last name that matched include
	real     string // what path resolved to; equal to it without links
	position int64  // everything before it is delivered
	size     int64  // the largest known; what lies behind position is not delivered

	headLength  int
	headHash    uint64 // xxhash of the first headLength bytes, all before position
	guardLength int
	guardHash   uint64 // xxhash of the guardLength bytes before position
}

// newerStateError refuses a state that a newer agent wrote.
type newerStateError struct{ version byte }

func (e *newerStateError) Error() string {
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
	if encoded[0] != stateVersion {
		return nil, fmt.Errorf("a file position has the unknown version %d", encoded[0])
	}
	d := decoder{rest: encoded[1:]}
	var s state
	s.identity.device = d.uvarint(math.MaxUint64)
	s.identity.number = d.uvarint(math.MaxUint64)
	s.identity.kind = generationKind(d.uvarint(uint64(generationBirth)))
	s.identity.generation = d.uvarint(math.MaxUint64)
	s.position = int64(d.uvarint(math.MaxInt64))
	s.size = int64(d.uvarint(math.MaxInt64))
	s.headLength = int(d.uvarint(uint64(min(headSize, s.position))))
	s.guardLength = int(d.uvarint(uint64(min(guardSize, s.position))))
	s.headHash = d.fixed()
	s.guardHash = d.fixed()
	s.path = d.text()
	s.real = d.text()
	if d.failed || len(d.rest) > 0 {
		return nil, fmt.Errorf("a file position of %d bytes is malformed", len(encoded))
	}
	return &s, nil
}

// decoder reads fields one after the other; after a failure all that follow are zero.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) uvarint(most uint64) uint64 {
	n, size := binary.Uvarint(d.rest)
	if d.failed || size <= 0 || n > most {
		d.failed = true
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) fixed() uint64 {
	if d.failed || len(d.rest) < 8 {
		d.failed = true
		return 0
	}
	n := binary.LittleEndian.Uint64(d.rest)
	d.rest = d.rest[8:]
	return n
}

func (d *decoder) text() string {
	n := d.uvarint(maxPath)
	if d.failed || n > uint64(len(d.rest)) {
		d.failed = true
		return ""
	}
	text := string(d.rest[:n])
	d.rest = d.rest[n:]
	return text
}
