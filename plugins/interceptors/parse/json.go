package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"

	"github.com/barnabas-agent/barnabas/plugins/object"
)

// jsonDocument makes MessagePack of JSON. encoding/json decides what JSON is; what
// follows it walks through text that is known to be JSON, so that no value passes
// through a Go type that can't hold it.
type jsonDocument struct {
	text []byte
	at   int
	dst  []byte
}

// parse appends the object that text holds to dst.
func (d *jsonDocument) parse(dst, text []byte) ([]byte, error) {
	if at := invalidUTF8(text); at >= 0 {
		return dst, errNotUTF8(at)
	}
	if !json.Valid(text) {
		return dst, syntaxError(text)
	}
	d.text, d.at, d.dst = text, 0, dst
	if d.skipSpace(); d.text[d.at] != '{' {
		return dst, failuref("JSON, but no object")
	}
	if err := d.container(0); err != nil {
		return dst, err
	}
	return d.dst, nil
}

// syntaxError says where text is no JSON. encoding/json's own words would show what stands there.
func syntaxError(text []byte) error {
	var raw json.RawMessage
	if wrong, ok := json.Unmarshal(text, &raw).(*json.SyntaxError); ok { //nolint:errorlint // Unmarshal returns it as it is
		return failuref("not JSON, at byte %d of %d", max(wrong.Offset-1, 0), len(text))
	}
	return failuref("not JSON")
}

func (d *jsonDocument) skipSpace() {
	for d.at < len(d.text) && (d.text[d.at] == ' ' || d.text[d.at] == '\t' || d.text[d.at] == '\n' || d.text[d.at] == '\r') {
		d.at++
	}
}

// value writes the value at d.at, where no space is.
func (d *jsonDocument) value(depth int) error {
	switch d.text[d.at] {
	case '{', '[':
		return d.container(depth)
	case '"':
		_, err := d.string()
		return err
	case 't':
		d.at += len("true")
		d.dst = msgp.AppendBool(d.dst, true)
	case 'f':
		d.at += len("false")
		d.dst = msgp.AppendBool(d.dst, false)
	case 'n':
		d.at += len("null")
		d.dst = msgp.AppendNil(d.dst)
	default:
		d.number()
	}
	return nil
}

// container writes an object or an array. Its header has room for any number of
// members, which is known at its end only.
func (d *jsonDocument) container(depth int) error {
	if depth >= object.MaxDepth {
		return failuref("nested more than %d deep, at byte %d", object.MaxDepth, d.at)
	}
	closing, format := byte('}'), byte(0xdf) // map 32
	if d.text[d.at] == '[' {
		closing, format = ']', 0xdd // array 32
	}
	header := len(d.dst)
	d.dst = append(d.dst, format, 0, 0, 0, 0)
	var names nameSet
	count := uint32(0)
	d.at++
	for d.skipSpace(); d.text[d.at] != closing; d.skipSpace() {
		if d.text[d.at] == ',' {
			d.at++
			d.skipSpace()
		}
		if closing == '}' {
			if err := d.name(&names); err != nil {
				return err
			}
		}
		if err := d.value(depth + 1); err != nil {
			return err
		}
		count++
	}
	d.at++
	binary.BigEndian.PutUint32(d.dst[header+1:], count)
	return nil
}

// name writes a member's name and goes on to its value.
func (d *jsonDocument) name(names *nameSet) error {
	at := d.at
	name, err := d.string()
	if err != nil {
		return err
	}
	if !names.add(d.dst, name) {
		return failuref("the member at byte %d has the name of another", at)
	}
	d.skipSpace()
	d.at++ // the colon
	d.skipSpace()
	return nil
}

// span is where in a buffer a text is.
type span struct{ begin, end int }

// string writes the string at d.at and returns where in d.dst its characters are.
func (d *jsonDocument) string() (span, error) {
	begin := d.at + 1
	end := begin
	escaped := false
	for d.text[end] != '"' {
		if d.text[end] == '\\' {
			escaped = true
			end++
		}
		end++
	}
	d.at = end + 1
	if !escaped {
		d.dst = msgp.AppendStringFromBytes(d.dst, d.text[begin:end])
		return span{len(d.dst) - (end - begin), len(d.dst)}, nil
	}
	header := len(d.dst)
	d.dst = append(d.dst, 0xdb, 0, 0, 0, 0) // str 32
	for i := begin; i < end; {
		next := bytes.IndexByte(d.text[i:end], '\\')
		if next < 0 {
			next = end - i
		}
		d.dst = append(d.dst, d.text[i:i+next]...)
		if i += next; i == end {
			break
		}
		r, size := unescape(d.text[i:end])
		if size == 0 {
			return span{}, failuref("half a surrogate pair at byte %d", i)
		}
		d.dst = utf8.AppendRune(d.dst, r)
		i += size
	}
	binary.BigEndian.PutUint32(d.dst[header+1:], uint32(len(d.dst)-header-5))
	return span{header + 5, len(d.dst)}, nil
}

// unescape returns the character of the escape that b begins with and how many
// bytes the escape has: none if it is half a surrogate pair.
func unescape(b []byte) (r rune, size int) {
	switch b[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r = hexRune(b[2:6])
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if len(b) < 12 || b[6] != '\\' || b[7] != 'u' {
			return 0, 0
		}
		if r = utf16.DecodeRune(r, hexRune(b[8:12])); r == utf8.RuneError {
			return 0, 0
		}
		return r, 12
	default: // quote, backslash, slash
		return rune(b[1]), 2
	}
}

func hexRune(digits []byte) rune {
	n, _ := strconv.ParseUint(string(digits), 16, 16)
	return rune(n)
}

// number writes the number at d.at: as an integer, as a double if that is the
// same number, else as a string.
func (d *jsonDocument) number() {
	begin := d.at
	integer := true
	for ; d.at < len(d.text); d.at++ {
		c := d.text[d.at]
		if c == '.' || c == 'e' || c == 'E' {
			integer = false
		} else if !isDigit(c) && c != '-' && c != '+' {
			break
		}
	}
	text := string(d.text[begin:d.at])
	if integer && text != "-0" {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			d.dst = msgp.AppendInt64(d.dst, n)
			return
		}
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			d.dst = msgp.AppendUint64(d.dst, n)
			return
		}
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && sameNumber(text, f) {
		d.dst = msgp.AppendFloat64(d.dst, f)
		return
	}
	d.dst = msgp.AppendString(d.dst, text)
}

// sameNumber says that f, written with as few digits as tell it from other
// doubles, is the number that text is.
func sameNumber(text string, f float64) bool {
	if math.IsInf(f, 0) {
		return false
	}
	var shortest [32]byte
	return normalize([]byte(text)) == normalize(strconv.AppendFloat(shortest[:0], f, 'e', -1, 64))
}

// normalized is a decimal number in one form: 0.digits × 10^exponent without
// zeros at either end.
type normalized struct {
	digits   string
	exponent int
	negative bool
}

func normalize(text []byte) normalized {
	var n normalized
	if text[0] == '-' {
		n.negative, text = true, text[1:]
	}
	if at := bytes.IndexAny(text, "eE"); at >= 0 {
		n.exponent, _ = strconv.Atoi(string(text[at+1:]))
		text = text[:at]
	}
	whole, fraction, _ := cut(text, '.')
	n.exponent += len(whole)
	digits := append(append(make([]byte, 0, len(text)), whole...), fraction...)
	significant := bytes.TrimLeft(digits, "0")
	n.exponent -= len(digits) - len(significant)
	n.digits = string(bytes.TrimRight(significant, "0"))
	if n.digits == "" {
		n.exponent = 0
	}
	return n
}

// manyNames is the number of members from which on their names are kept in a map.
const manyNames = 16

// nameSet knows the names of one object's members, as places in a buffer that
// only grows.
type nameSet struct {
	few  [manyNames]span
	many map[string]struct{}
	n    int
}

// add reports whether the name is a new one.
func (s *nameSet) add(buffer []byte, name span) bool {
	text := buffer[name.begin:name.end]
	if s.many != nil {
		_, known := s.many[string(text)]
		s.many[string(text)] = struct{}{}
		return !known
	}
	for _, other := range s.few[:s.n] {
		if bytes.Equal(buffer[other.begin:other.end], text) {
			return false
		}
	}
	if s.n < manyNames {
		s.few[s.n] = name
		s.n++
		return true
	}
	s.many = map[string]struct{}{string(text): {}}
	for _, other := range s.few {
		s.many[string(buffer[other.begin:other.end])] = struct{}{}
	}
	return true
}
