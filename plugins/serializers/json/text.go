package main

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"time"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendString writes text as a JSON string, escaped as encoding/json does it
// without its HTML escapes. It reports false, with dst of no use, when text is not UTF-8.
func appendString(dst, text []byte) ([]byte, bool) {
	dst = append(dst, '"')
	begin := 0
	for i := 0; i < len(text); {
		i += plainPrefix(text[i:])
		if i == len(text) {
			break
		}
		c := text[i]
		if c < utf8.RuneSelf {
			dst = append(dst, text[begin:i]...)
			dst = appendEscape(dst, c)
			i++
			begin = i
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			return dst, false
		}
		if r == '\u2028' || r == '\u2029' {
			dst = append(dst, text[begin:i]...)
			dst = append(dst, `\u202`...)
			dst = append(dst, hexDigits[r&0xf])
			begin = i + size
		}
		i += size
	}
	dst = append(dst, text[begin:]...)
	return append(dst, '"'), true
}

// plainPrefix returns how many bytes at the start of text are ASCII that JSON
// does not escape. It looks at eight bytes at a time.
func plainPrefix(text []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(text); i += 8 {
		word := binary.LittleEndian.Uint64(text[i:])
		quote := word ^ ones*'"'
		backslash := word ^ ones*'\\'
		// The top bit of a byte is set when it is below 0x20, a quote or a
		// backslash; a borrow may set it in bytes above such a one, never below.
		special := (word - ones*0x20) &^ word
		special |= (quote - ones) &^ quote
		special |= (backslash - ones) &^ backslash
		if special = (special | word) & tops; special != 0 {
			return i + bits.TrailingZeros64(special)/8
		}
	}
	for ; i < len(text); i++ {
		if c := text[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}

// appendEscape writes an ASCII character that JSON does not take as it is.
func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	default:
		return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
	}
}

// appendFloat writes a number as encoding/json does: ES6's form. It reports false
// for what JSON has no number for.
func appendFloat(dst []byte, f float64) ([]byte, bool) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return dst, false
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	dst = strconv.AppendFloat(dst, f, format, -1, 64)
	if n := len(dst); format == 'e' && n >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
		dst[n-2] = dst[n-1] // e-09 is e-9
		dst = dst[:n-1]
	}
	return dst, true
}

// timestampLayout is RFC 3339 with milliseconds.
const timestampLayout = `"2006-01-02T15:04:05.000Z07:00"`

// appendMilliseconds writes milliseconds since the Unix epoch as RFC 3339 in UTC. It
// reports false for years that RFC 3339 can't write.
func appendMilliseconds(dst []byte, milliseconds int64) ([]byte, bool) {
	t := time.UnixMilli(milliseconds).UTC()
	if year := t.Year(); year < 0 || year > 9999 {
		return dst, false
	}
	return t.AppendFormat(dst, timestampLayout), true
}

// appendTime writes a point in time as encoding/json does: RFC 3339 with as many
// digits as it needs.
func appendTime(dst []byte, t time.Time) ([]byte, bool) {
	if year := t.Year(); year < 0 || year > 9999 {
		return dst, false
	}
	dst = append(dst, '"')
	dst = t.AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"'), true
}
