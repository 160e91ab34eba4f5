package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// readSize is what a scanner reads at once: several hundred short records.
	readSize = 128 << 10
)

// frame is one record as it lies in the log; peer and value are the scanner's
// until its next call.
type frame struct {
	begin, end  int64 // places
	time        int64
	peer, value []byte
}

// scanner reads the frames of one segment. It trusts no byte that a checksum has
// not covered.
type scanner struct {
	input  io.ReaderAt
	header header
	buffer []byte // what was read last
	from   int64  // its place
}

// next returns the frame at a place, where one ends before limit. ok is false
// where no whole frame begins there. An error is one of reading.
func (s *scanner) next(place, limit int64) (f frame, ok bool, err error) {
	head, err := s.window(place, frameHeader, limit)
	if err != nil || len(head) < frameHeader {
		return frame{}, false, err
	}
	h, ok := parseFrame(head, s.header.marker)
	if !ok || h.body-h.peer > s.header.maxEntry || place+frameHeader+int64(h.body) > limit {
		return frame{}, false, nil
	}
	whole, err := s.window(place, frameHeader+h.body, limit)
	if err != nil || len(whole) < frameHeader+h.body {
		return frame{}, false, err
	}
	body := whole[frameHeader:]
	if castagnoli(body) != h.sum {
		return frame{}, false, nil
	}
	return frame{
		begin: place, end: place + frameHeader + int64(h.body), time: h.time,
		peer: body[:h.peer], value: body[h.peer:],
	}, true, nil
}

// find returns the place of the first whole frame at or behind a place, or limit.
func (s *scanner) find(place, limit int64) (int64, error) {
	for place < limit {
		window, err := s.window(place, readSize, limit)
		if err != nil {
			return 0, err
		}
		i := bytes.Index(window, s.header.marker[:])
		switch {
		case i >= 0:
			_, ok, err := s.next(place+int64(i), limit)
			if err != nil || ok {
				return place + int64(i), err
			}
			place += int64(i) + 1
		case len(window) < readSize:
			return limit, nil // the file ends here, or the limit is reached
		default:
			place += int64(len(window) - len(s.header.marker) + 1)
		}
	}
	return limit, nil
}

// window returns size bytes at a place, fewer where the limit or the file is before.
func (s *scanner) window(place int64, size int, limit int64) ([]byte, error) {
	size = int(min(int64(size), limit-place))
	if from := place - s.from; from >= 0 && from+int64(size) <= int64(len(s.buffer)) {
		return s.buffer[from : from+int64(size)], nil
	}
	want := int(min(int64(max(size, readSize)), limit-place))
	if cap(s.buffer) < want || cap(s.buffer) > 4*max(want, readSize) {
		s.buffer = make([]byte, want)
	}
	s.buffer, s.from = s.buffer[:want], place
	n, err := s.input.ReadAt(s.buffer, segmentHeader+place-s.header.first)
	s.buffer = s.buffer[:n]
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read segment %s at byte %d: %w", segmentName(s.header.first), segmentHeader+place-s.header.first, err)
	}
	return s.buffer[:min(n, size)], nil
}

// stretch is a part of a segment that holds no readable record.
type stretch struct{ from, to int64 }

// wholeEnd reads a segment and returns the place behind its last whole frame.
func (s *scanner) wholeEnd(limit int64) (end int64, err error) {
	end = s.header.first
	for place := end; place < limit; {
		f, ok, err := s.next(place, limit)
		if err != nil {
			return 0, err
		}
		if ok {
			place, end = f.end, f.end
		} else if place, err = s.find(place+1, limit); err != nil {
			return 0, err
		}
	}
	return end, nil
}

// blank says that a file holds nothing but zeros from a byte on.
func blank(input io.ReaderAt, from, size int64) (bool, error) {
	buffer := make([]byte, readSize)
	for from < size {
		n, err := input.ReadAt(buffer[:min(int64(len(buffer)), size-from)], from)
		if len(bytes.Trim(buffer[:n], "\x00")) != 0 {
			return false, nil
		}
		if n == 0 {
			return true, ignoreEOF(err)
		}
		from += int64(n)
	}
	return true, nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// readHeader reads a segment's header; what is short or no header is an error of parseHeader.
func readHeader(input io.ReaderAt) (header, error) {
	b := make([]byte, segmentHeader)
	n, err := input.ReadAt(b, 0)
	if err := ignoreEOF(err); err != nil {
		return header{}, &readError{err}
	}
	// The version comes first: what is newer may look different otherwise.
	if n >= 12 && string(b[:8]) == segmentMagic {
		if v := binary.LittleEndian.Uint32(b[8:]); v > formatVersion && v < 1<<16 {
			return header{}, &newerError{v}
		}
	}
	return parseHeader(b[:n])
}

// readError tells a file that can't be read from one that is damaged.
type readError struct{ cause error }

func (e *readError) Error() string { return "read: " + e.cause.Error() }
func (e *readError) Unwrap() error { return e.cause }
