// Package framing cuts the bytes of a connection into frames, one record each. It
// does no I/O and keeps no more of a connection than the frame that has begun.
//
// What breaks a framing ends the connection: where the next frame begins is not
// known any more, and to guess would let a sender forge records of others
// (RFC 6587, CVE-2022-24903).
package framing

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Method is how a connection's frames are told apart.
type Method uint8

const (
	Newline       Method = iota // a frame ends with "\n", which is no part of it; a "\r" before it is
	OctetCounting               // decimal length without leading zero, a space, the frame (RFC 6587, 3.4.1)
	Syslog                      // a connection's first byte decides: a digit for octet counting, '<' for lines that begin with '<'
	NUL                         // a frame ends with a zero byte, which is no part of it
	LengthPrefix                // length in 4 bytes, big-endian, then the frame
)

// Reason says in which way a connection broke its framing, as the metrics label it.
type Reason string

const (
	TooLong Reason = "frame_too_long" // longer than the limit
	Invalid Reason = "frame_invalid"  // no frame of this framing
)

// Error is a broken framing. It quotes nothing of what was sent.
type Error struct {
	Reason  Reason
	Message string
}

func (e *Error) Error() string { return e.Message }

// prefixSize is the length of LengthPrefix's length.
const prefixSize = 4

// Cutter cuts the bytes of one connection. Its memory is that of the frame that
// has begun: at most the limit, whatever the peer announces.
type Cutter struct {
	method  Method // Syslog until the first byte has decided
	syslog  bool   // decided by Syslog: lines begin with '<'
	max     int    // bytes of a frame
	begun   []byte // what came of the frame in earlier chunks, without its length
	counted bool   // the length has been read; the frame's, for methods that announce one
	length  int    // announced, as far as it has been read
	header  int    // bytes of the length that have been read
}

// NewCutter returns a cutter for a new connection whose frames have at most limit bytes.
func NewCutter(method Method, limit int) *Cutter {
	return &Cutter{method: method, max: limit}
}

// Next cuts the first frame off chunk. Give rest to the next call; without a frame
// (ok is false) chunk is used up and was kept as far as it is needed. A frame is part of chunk,
// or has memory of its own when it began in an earlier one. After an error the cutter must not be used.
func (c *Cutter) Next(chunk []byte) (frame, rest []byte, ok bool, err error) {
	if len(chunk) == 0 {
		return nil, nil, false, nil
	}
	if c.method == Syslog {
		if err := c.decide(chunk[0]); err != nil {
			return nil, nil, false, err
		}
	}
	switch c.method {
	case OctetCounting, LengthPrefix:
		return c.nextCounted(chunk)
	case NUL:
		return c.nextDelimited(chunk, 0)
	default:
		return c.nextDelimited(chunk, '\n')
	}
}

// decide chooses between the two framings of RFC 6587 by a connection's first byte.
func (c *Cutter) decide(first byte) error {
	switch {
	case '0' <= first && first <= '9':
		c.method = OctetCounting
	case first == '<':
		c.method, c.syslog = Newline, true
	default:
		return &Error{Invalid, `the connection begins with neither a digit nor "<", so it is not syslog`}
	}
	return nil
}

func (c *Cutter) nextDelimited(chunk []byte, delimiter byte) (frame, rest []byte, ok bool, err error) {
	if c.syslog && len(c.begun) == 0 && chunk[0] != '<' {
		return nil, nil, false, &Error{Invalid, `a line does not begin with "<", as the connection's first one did`}
	}
	// One byte behind the longest frame is enough to know that it is too long.
	window := chunk[:min(len(chunk), c.max-len(c.begun)+1)]
	end := bytes.IndexByte(window, delimiter)
	switch {
	case end >= 0:
		return c.complete(chunk[:end]), chunk[end+1:], true, nil
	case len(c.begun)+len(window) > c.max:
		return nil, nil, false, c.tooLong()
	}
	c.keep(chunk)
	return nil, nil, false, nil
}

func (c *Cutter) nextCounted(chunk []byte) (frame, rest []byte, ok bool, err error) {
	if !c.counted {
		if chunk, err = c.readLength(chunk); err != nil {
			return nil, nil, false, err
		}
		if !c.counted {
			return nil, nil, false, nil
		}
	}
	missing := c.length - len(c.begun)
	if len(chunk) < missing {
		c.keep(chunk)
		return nil, nil, false, nil
	}
	frame = c.complete(chunk[:missing])
	c.counted, c.length, c.header = false, 0, 0
	return frame, chunk[missing:], true, nil
}

// readLength reads as much of the announced length as chunk holds and returns what
// is behind it. The length is checked before anything is allocated for it.
func (c *Cutter) readLength(chunk []byte) ([]byte, error) {
	for i, b := range chunk {
		var err error
		if c.method == LengthPrefix {
			err = c.addPrefix(b)
		} else {
			err = c.addDigit(b)
		}
		if err != nil {
			return nil, err
		}
		if c.counted {
			return chunk[i+1:], nil
		}
	}
	return nil, nil
}

// addDigit takes one byte of MSG-LEN SP. A length that grows past the limit is
// refused at the digit that does it, so no number of digits overflows.
func (c *Cutter) addDigit(b byte) error {
	switch {
	case b == ' ' && c.header > 0:
		c.counted = true
		return nil
	case b < '0' || b > '9':
		return &Error{Invalid, "a frame does not begin with its length in digits and a space"}
	case b == '0' && c.header == 0:
		return &Error{Invalid, "the length of a frame begins with 0"}
	}
	c.header++
	if c.length = c.length*10 + int(b-'0'); c.length > c.max {
		return c.tooLong()
	}
	return nil
}

func (c *Cutter) addPrefix(b byte) error {
	c.length = c.length<<8 | int(b)
	if c.header++; c.header < prefixSize {
		return nil
	}
	if c.length > c.max {
		return c.tooLong()
	}
	c.counted = true
	return nil
}

func (c *Cutter) tooLong() error {
	return &Error{TooLong, fmt.Sprintf("a frame is longer than %d bytes (max_frame)", c.max)}
}

// keep remembers the beginning of a frame. Memory doubles with what has arrived,
// not with what is announced, and ends at the limit.
func (c *Cutter) keep(part []byte) {
	needed := len(c.begun) + len(part)
	if needed > cap(c.begun) {
		grown := make([]byte, len(c.begun), min(c.max, max(needed, 2*cap(c.begun))))
		copy(grown, c.begun)
		c.begun = grown
	}
	c.begun = append(c.begun, part...)
}

// complete returns the frame that ends with part.
func (c *Cutter) complete(part []byte) []byte {
	if len(c.begun) == 0 {
		return part
	}
	c.keep(part)
	frame := c.begun
	c.begun = nil
	return frame
}

// Begun returns how many bytes of an unfinished frame have come, its length included.
func (c *Cutter) Begun() int { return c.header + len(c.begun) }

// Finish ends the connection where its peer has closed it in good order, and returns
// what is left: with a delimited framing, bytes without a delimiter are a last frame.
// Where a length was announced and not kept, they are not: Begun tells how many there are.
func (c *Cutter) Finish() (frame []byte, ok bool) {
	if c.method != Newline && c.method != NUL || len(c.begun) == 0 {
		return nil, false
	}
	frame, c.begun = c.begun, nil
	return frame, true
}

// AppendLengthPrefix appends a frame as LengthPrefix has it.
func AppendLengthPrefix(dst, frame []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(frame))), frame...)
}

// Datagram returns the record in a datagram: all of it but for one delimiter at
// its end, which senders of the framing leave there. A datagram is never cut in
// two, so what is in it can't pass for a record of its own.
func Datagram(method Method, datagram []byte) []byte {
	if len(datagram) == 0 {
		return datagram
	}
	last := datagram[len(datagram)-1]
	if last == '\n' && (method == Newline || method == Syslog) || last == 0 && (method == NUL || method == Syslog) {
		return datagram[:len(datagram)-1]
	}
	return datagram
}
