package object

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxDepth is how deep objects may be nested: the decoder calls itself for each
// level, and a stack that overflows ends the process.
const MaxDepth = 128

var errTruncated = errors.New("it ends early")

// check walks one MessagePack value (https://github.com/msgpack/msgpack/blob/master/spec.md)
// without decoding it: nested no deeper than MaxDepth, complete, and nothing after it.
func check(encoded []byte) error {
	var open [MaxDepth]uint64 // values that each open array or map still lacks
	depth, rest := 0, encoded
	for {
		skip, values, err := head(rest)
		if err != nil {
			return err
		}
		if skip > uint64(len(rest)) {
			return errTruncated
		}
		rest = rest[skip:]
		if values > 0 {
			if depth == MaxDepth {
				return fmt.Errorf("it is nested deeper than %d", MaxDepth)
			}
			open[depth] = values
			depth++
		}
		for values == 0 && depth > 0 {
			if open[depth-1]--; open[depth-1] > 0 {
				break
			}
			depth--
		}
		if depth == 0 {
			break
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes follow it", len(rest))
	}
	return nil
}

// head returns how many bytes the value at the beginning of b takes, without
// those that an array or map holds, and how many values that is.
func head(b []byte) (skip, values uint64, err error) {
	if len(b) == 0 {
		return 0, 0, errTruncated
	}
	switch c := b[0]; {
	case c <= 0x7f, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3: // small integers, nil, false, true
		return 1, 0, nil
	case c <= 0x8f: // fixmap
		return 1, 2 * uint64(c&0x0f), nil
	case c <= 0x9f: // fixarray
		return 1, uint64(c & 0x0f), nil
	case c <= 0xbf: // fixstr
		return 1 + uint64(c&0x1f), 0, nil
	case c == 0xc1:
		return 0, 0, errors.New("a byte that MessagePack never uses")
	case c <= 0xc9: // bin 8, 16, 32; ext 8, 16, 32
		return sized(b, c)
	case c <= 0xd3: // float 32, 64; uint and int 8 to 64
		return uint64(fixedSize[c-0xca]), 0, nil
	case c <= 0xd8: // fixext 1 to 16
		return 2 + uint64(1)<<(c-0xd4), 0, nil
	default: // str 8, 16, 32; array 16, 32; map 16, 32
		return sized(b, c)
	}
}

// lengthWidth is how many bytes the length takes, from type 0xc4 on.
const lengthWidth = "\x01\x02\x04\x01\x02\x04" + // bin, ext
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x01\x02\x04\x02\x04\x02\x04" // str, array, map

// fixedSize is how many bytes float, uint and int take, from type 0xca on.
const fixedSize = "\x05\x09\x02\x03\x05\x09\x02\x03\x05\x09"

// sized is head for the types whose length stands behind the type.
func sized(b []byte, c byte) (skip, values uint64, err error) {
	width := uint64(lengthWidth[c-0xc4])
	if uint64(len(b)) < 1+width {
		return 0, 0, errTruncated
	}
	var padded [4]byte
	copy(padded[4-width:], b[1:1+width])
	n := uint64(binary.BigEndian.Uint32(padded[:]))
	switch c {
	case 0xdc, 0xdd:
		return 1 + width, n, nil
	case 0xde, 0xdf:
		return 1 + width, 2 * n, nil
	case 0xc7, 0xc8, 0xc9:
		return 2 + width + n, 0, nil // a byte for the type of the extension
	default:
		return 1 + width + n, 0, nil
	}
}
