package quarantine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

const (
	segmentMagic   = "BARNABQ\x00"
	formatVersion  = 1
	segmentHeader  = 24
	frameHeader    = 32
	statusOffset   = 8 // of the status byte in a frame
	statusLive     = 0x0f
	statusDropped  = 0xf0 // differs in all eight bits: no single flip drops a record
	minFrame       = frameHeader + fixedBody
	scanBufferSize = 64 << 10
)

// castagnoli makes CRC-32C (RFC 3720, B.4), which processors compute themselves.
func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// marker begins every frame of one segment.
type marker [8]byte

func appendSegmentHeader(dst []byte, m marker) []byte {
	dst = append(dst, segmentMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, formatVersion)
	dst = append(dst, m[:]...)
	return binary.LittleEndian.AppendUint32(dst, castagnoli(dst[len(dst)-20:]))
}

func parseSegmentHeader(b []byte) (marker, error) {
	if string(b[:8]) != segmentMagic || castagnoli(b[:20]) != binary.LittleEndian.Uint32(b[20:]) {
		return marker{}, errors.New("the segment's header is damaged or not a quarantine's")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != formatVersion {
		return marker{}, fmt.Errorf("the segment has format version %d, this agent reads version %d", v, formatVersion)
	}
	return marker(b[12:20]), nil
}

// appendFrame encodes e with its header behind dst.
func appendFrame(dst []byte, m marker, e *Entry) ([]byte, error) {
	start := len(dst)
	dst = append(dst, m[:]...)
	dst = append(dst, statusLive)
	dst = append(dst, make([]byte, frameHeader-statusOffset-1)...)
	dst = appendBody(dst, e)
	head, body := dst[start:start+frameHeader], dst[start+frameHeader:]
	if len(body) > maxBody {
		return dst[:start], fmt.Errorf("the record takes %d bytes, the most is %d", len(body), maxBody)
	}
	binary.LittleEndian.PutUint32(head[12:], uint32(len(body)))
	binary.LittleEndian.PutUint64(head[16:], e.ID)
	binary.LittleEndian.PutUint32(head[24:], castagnoli(body))
	binary.LittleEndian.PutUint32(head[28:], headerChecksum(head))
	return dst, nil
}

// headerChecksum covers a frame's header without its status byte and itself.
func headerChecksum(head []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(head[:statusOffset], table), table, head[statusOffset+1:28])
}

// frame is one record as it lies in a segment.
type frame struct {
	offset  int64 // of its first byte in the segment
	id      uint64
	dropped bool
	entry   Entry
}

// Damage is a stretch of a segment that does not hold a readable record. It is
// left as it is.
type Damage struct {
	Segment string // file name
	From    int64  // first byte
	To      int64  // byte behind the last
	ID      uint64 // of the record, where the frame's header is whole; else 0
	Torn    bool   // what a crash in the middle of an Append leaves: it was never acknowledged
	Cause   error
}

// Error says where the damage is and what it means.
func (d *Damage) Error() string {
	if d.Torn {
		return fmt.Sprintf("quarantine segment %s ends in an unfinished write at byte %d (%d bytes): %v",
			d.Segment, d.From, d.To-d.From, d.Cause)
	}
	return fmt.Sprintf("quarantine segment %s is damaged from byte %d to %d, the file is left as it is: %v",
		d.Segment, d.From, d.To, d.Cause)
}

// Unwrap returns the cause.
func (d *Damage) Unwrap() error { return d.Cause }

// segmentScanner walks the frames of one segment and reports what lies between
// them. It trusts no byte that a checksum has not covered, holds one record at
// a time, and its work is linear in the segment's size.
type segmentScanner struct {
	name   string
	input  io.ReaderAt
	size   int64
	offset int64 // of the next frame
	marker marker
	lastID uint64 // frames must ascend from here
}

// open reads the segment's header. first is the id that the file's name gives.
func (s *segmentScanner) open(first uint64) error {
	if s.size < segmentHeader {
		s.offset = s.size
		return &Damage{Segment: s.name, To: s.size, Torn: true, Cause: io.ErrUnexpectedEOF}
	}
	var header [segmentHeader]byte
	if err := s.readAt(header[:], 0); err != nil {
		return err
	}
	m, err := parseSegmentHeader(header[:])
	if err != nil {
		if bytes.Count(header[:], []byte{0}) == len(header) {
			return s.tail(0)
		}
		s.offset = s.size
		return s.damage(0, 0, err)
	}
	s.marker, s.offset, s.lastID = m, segmentHeader, first-1
	return nil
}

// next returns the next frame, io.EOF behind the last, a *Damage for a stretch
// that is skipped, or an error of reading.
func (s *segmentScanner) next() (frame, error) {
	if s.offset >= s.size {
		return frame{}, io.EOF
	}
	start := s.offset
	if s.size-start < frameHeader {
		return frame{}, s.tail(start)
	}
	var head [frameHeader]byte
	if err := s.readAt(head[:], start); err != nil {
		return frame{}, err
	}
	if !s.headerFits(head[:]) {
		return frame{}, s.resync(start)
	}
	f := frame{
		offset:  start,
		id:      binary.LittleEndian.Uint64(head[16:]),
		dropped: head[statusOffset] == statusDropped,
	}
	end := start + frameHeader + int64(binary.LittleEndian.Uint32(head[12:]))
	if end > s.size {
		s.offset = s.size
		return frame{}, &Damage{Segment: s.name, From: start, To: s.size, ID: f.id, Torn: true, Cause: io.ErrUnexpectedEOF}
	}
	s.offset = end
	return s.readBody(f, head[:], end)
}

func (s *segmentScanner) headerFits(head []byte) bool {
	return bytes.Equal(head[:8], s.marker[:]) &&
		headerChecksum(head) == binary.LittleEndian.Uint32(head[28:]) &&
		binary.LittleEndian.Uint32(head[12:]) <= maxBody
}

func (s *segmentScanner) readBody(f frame, head []byte, end int64) (frame, error) {
	body := make([]byte, end-f.offset-frameHeader)
	if err := s.readAt(body, f.offset+frameHeader); err != nil {
		return frame{}, err
	}
	if castagnoli(body) != binary.LittleEndian.Uint32(head[24:]) {
		return frame{}, s.damage(f.offset, f.id, errors.New("checksum does not fit"))
	}
	if f.id <= s.lastID || f.id == math.MaxUint64 {
		return frame{}, s.damage(f.offset, f.id, fmt.Errorf("record %d stands behind record %d", f.id, s.lastID))
	}
	entry, err := decodeBody(body)
	if err != nil {
		return frame{}, s.damage(f.offset, f.id, err)
	}
	s.lastID = f.id
	entry.ID = f.id
	f.entry = entry
	return f, nil
}

// resync looks for the next frame behind a place where none is.
func (s *segmentScanner) resync(start int64) error {
	buffer := make([]byte, scanBufferSize)
	for at := start + 1; s.size-at >= int64(len(s.marker)); {
		window := buffer[:min(int64(len(buffer)), s.size-at)]
		if err := s.readAt(window, at); err != nil {
			return err
		}
		if i := bytes.Index(window, s.marker[:]); i >= 0 {
			s.offset = at + int64(i)
			return s.damage(start, 0, errors.New("no record begins here"))
		}
		at += int64(len(window) - len(s.marker) + 1)
	}
	return s.tail(start)
}

// tail ends the segment at start, where bytes are left that are no frame. A
// file whose length became durable before its content ends in zeros.
func (s *segmentScanner) tail(start int64) error {
	zeros, err := s.zeros(start)
	if err != nil {
		return err
	}
	s.offset = s.size
	if zeros || s.size-start < frameHeader {
		return &Damage{Segment: s.name, From: start, To: s.size, Torn: true, Cause: io.ErrUnexpectedEOF}
	}
	return s.damage(start, 0, errors.New("no record begins here"))
}

func (s *segmentScanner) zeros(start int64) (bool, error) {
	buffer := make([]byte, scanBufferSize)
	for at := start; at < s.size; {
		window := buffer[:min(int64(len(buffer)), s.size-at)]
		if err := s.readAt(window, at); err != nil {
			return false, err
		}
		if len(bytes.Trim(window, "\x00")) != 0 {
			return false, nil
		}
		at += int64(len(window))
	}
	return true, nil
}

// damage describes the stretch from start to the scanner's place.
func (s *segmentScanner) damage(start int64, id uint64, cause error) *Damage {
	return &Damage{Segment: s.name, From: start, To: s.offset, ID: id, Cause: cause}
}

func (s *segmentScanner) readAt(b []byte, at int64) error {
	n, err := s.input.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF):
		clear(b[n:]) // shortened since its size was taken: the checksums will tell
		return nil
	default:
		return fmt.Errorf("read quarantine segment %s at byte %d: %w", s.name, at, err)
	}
}
