package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
)

const (
	segmentMagic  = "BARNABS\x00"
	formatVersion = 1
	segmentHeader = 44
	frameHeader   = 32
	// maxBody bounds what a frame's length is believed to be.
	maxBody = 1 << 30
)

type (
	spoolID [8]byte // tells a spool from another one in the same place
	marker  [8]byte // begins every frame of one segment
)

// castagnoli makes CRC-32C (RFC 3720, B.4), which processors compute themselves.
func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// header is what a segment says of itself.
type header struct {
	id       spoolID
	marker   marker
	first    int64 // place of the first frame
	maxEntry int
}

func (h *header) encode() []byte {
	b := append(make([]byte, 0, segmentHeader), segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = append(b, h.id[:]...)
	b = append(b, h.marker[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.first))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.maxEntry))
	return binary.LittleEndian.AppendUint32(b, castagnoli(b))
}

// newerError says that a newer agent wrote the spool.
type newerError struct{ version uint32 }

func (e *newerError) Error() string {
	return fmt.Sprintf("has format version %d, this agent reads version %d: run the newer agent until the spool is delivered, or move the folder away",
		e.version, formatVersion)
}

// parseHeader takes any bytes. A version other than this agent's is a *newerError.
func parseHeader(b []byte) (header, error) {
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic || castagnoli(b[:40]) != binary.LittleEndian.Uint32(b[40:]) {
		return header{}, errors.New("its header is damaged or not a spool's")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != formatVersion {
		return header{}, &newerError{v}
	}
	h := header{
		id: spoolID(b[12:20]), marker: marker(b[20:28]),
		first:    int64(binary.LittleEndian.Uint64(b[28:])),
		maxEntry: int(binary.LittleEndian.Uint32(b[36:])),
	}
	if h.first < 0 || h.first > math.MaxInt64/2 || h.maxEntry < 1 || h.maxEntry > maxBody {
		return header{}, errors.New("its header makes no sense")
	}
	return h, nil
}

// frameSize is what an entry takes in the log.
func frameSize(e *Entry) int { return frameHeader + len(e.Peer) + len(e.Value) }

// appendFrame encodes e behind dst.
func appendFrame(dst []byte, m marker, e *Entry) []byte {
	start := len(dst)
	dst = append(dst, m[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(e.Peer)+len(e.Value)))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(e.Peer)))
	dst = append(dst, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Time))
	dst = append(dst, make([]byte, 8)...)
	dst = append(dst, e.Peer...)
	dst = append(dst, e.Value...)
	head := dst[start : start+frameHeader]
	binary.LittleEndian.PutUint32(head[24:], castagnoli(dst[start+frameHeader:]))
	binary.LittleEndian.PutUint32(head[28:], castagnoli(head[:28]))
	return dst
}

// frameHead is a frame's header that fits its checksum.
type frameHead struct {
	body int // bytes
	peer int // bytes of the body
	time int64
	sum  uint32
}

// parseFrame takes frameHeader bytes of any content.
func parseFrame(b []byte, m marker) (frameHead, bool) {
	if !bytes.Equal(b[:8], m[:]) || castagnoli(b[:28]) != binary.LittleEndian.Uint32(b[28:]) {
		return frameHead{}, false
	}
	h := frameHead{
		body: int(binary.LittleEndian.Uint32(b[8:])),
		peer: int(binary.LittleEndian.Uint16(b[12:])),
		time: int64(binary.LittleEndian.Uint64(b[16:])),
		sum:  binary.LittleEndian.Uint32(b[24:]),
	}
	return h, h.body <= maxBody && h.peer <= h.body && h.peer <= MaxPeer
}

// segment is one file of the log.
type segment struct {
	header
	end     int64          // place behind its last frame; for the last segment durable
	damages map[int64]bool // where damage was found, so that it is told once
}

func (g *segment) name() string { return segmentName(g.first) }

// at is where a place of the log lies in the segment's file.
func (g *segment) at(place int64) int64 { return segmentHeader + place - g.first }

// segmentName is the inverse of parseSegmentName.
func segmentName(first int64) string { return fmt.Sprintf("%020d", first) }

func parseSegmentName(name string) (int64, bool) {
	first, err := strconv.ParseInt(name, 10, 64)
	return first, err == nil && first >= 0 && first <= math.MaxInt64/2 && segmentName(first) == name
}
