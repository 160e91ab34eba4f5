// Package object reads, rewrites and writes the MessagePack values that records
// of the kind "object" hold. The bytes come from other processes: nesting is
// bounded by MaxDepth, lengths are checked against what is there before anything
// is allocated, and whatever does not fit is an error wrapping ErrMalformed.
//
// MessagePack's types become: nil, bool, int64, uint64 (only above the range of
// int64), float64, string, []byte (bin), time.Time (the timestamp extension),
// []any and map[string]any. Other extensions are refused, and so are map keys
// that are neither strings nor integers; integer keys become decimal text.
package object

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// MaxDepth bounds how deeply arrays and maps may be nested.
const MaxDepth = 128

// ErrMalformed is wrapped by every error about bytes that are not one MessagePack
// value of the types that a record may hold.
var ErrMalformed = errors.New("malformed object")

// timestampExtension is MessagePack's extension type for points in time.
const timestampExtension = -1

// Decode returns the one value that b holds. Its strings and byte slices are
// copies.
func Decode(b []byte) (any, error) {
	v, rest, err := decode(b, 0)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes behind its end", ErrMalformed, len(rest))
	}
	return v, nil
}

// IsMap says whether b begins with a map.
func IsMap(b []byte) bool { return msgp.NextType(b) == msgp.MapType }

func decode(b []byte, depth int) (any, []byte, error) {
	switch msgp.NextType(b) {
	case msgp.MapType:
		return decodeMap(b, depth)
	case msgp.ArrayType:
		return decodeArray(b, depth)
	default:
		return ReadScalar(b)
	}
}

// preallocated bounds the members or elements for which a container gets memory
// before they are read: what a header announces need not be there, and containers nest.
const preallocated = 64

func decodeMap(b []byte, depth int) (any, []byte, error) {
	count, rest, err := ReadMapHeader(b, depth)
	if err != nil {
		return nil, b, err
	}
	members := make(map[string]any, min(count, preallocated))
	for range count {
		var name []byte
		var value any
		if name, rest, err = ReadName(rest); err != nil {
			return nil, b, err
		}
		if value, rest, err = decode(rest, depth+1); err != nil {
			return nil, b, err
		}
		members[string(name)] = value
	}
	return members, rest, nil
}

func decodeArray(b []byte, depth int) (any, []byte, error) {
	count, rest, err := ReadArrayHeader(b, depth)
	if err != nil {
		return nil, b, err
	}
	elements := make([]any, 0, min(count, preallocated))
	for range count {
		var element any
		if element, rest, err = decode(rest, depth+1); err != nil {
			return nil, b, err
		}
		elements = append(elements, element)
	}
	return elements, rest, nil
}

// ReadMapHeader returns the number of members of the map that b begins with, at
// most as many as the bytes behind it can hold. depth is the number of arrays and
// maps around it.
func ReadMapHeader(b []byte, depth int) (count int, rest []byte, err error) {
	n, rest, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return 0, b, malformed(err)
	}
	if err := checkContainer(uint64(n)*2, rest, depth); err != nil {
		return 0, b, err
	}
	return int(n), rest, nil
}

// ReadArrayHeader is ReadMapHeader for arrays.
func ReadArrayHeader(b []byte, depth int) (count int, rest []byte, err error) {
	n, rest, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return 0, b, malformed(err)
	}
	if err := checkContainer(uint64(n), rest, depth); err != nil {
		return 0, b, err
	}
	return int(n), rest, nil
}

// checkContainer refuses a container of more values than bytes are left, since
// each value takes at least one, and one that is nested too deeply.
func checkContainer(values uint64, rest []byte, depth int) error {
	if values > uint64(len(rest)) {
		return fmt.Errorf("%w: %d values announced in %d bytes", ErrMalformed, values, len(rest))
	}
	if depth >= MaxDepth {
		return fmt.Errorf("%w: nested more than %d deep", ErrMalformed, MaxDepth)
	}
	return nil
}

// ReadName returns the map key that b begins with; a string's bytes are b's own.
func ReadName(b []byte) (name, rest []byte, err error) {
	switch msgp.NextType(b) {
	case msgp.StrType:
		name, rest, err = msgp.ReadStringZC(b)
	case msgp.IntType:
		var n int64
		n, rest, err = msgp.ReadInt64Bytes(b)
		name = strconv.AppendInt(nil, n, 10)
	case msgp.UintType:
		var n uint64
		n, rest, err = msgp.ReadUint64Bytes(b)
		name = strconv.AppendUint(nil, n, 10)
	default:
		return nil, b, fmt.Errorf("%w: a map key of type %s; use strings", ErrMalformed, msgp.NextType(b))
	}
	if err != nil {
		return nil, b, malformed(err)
	}
	return name, rest, nil
}

// ReadScalar returns the value that b begins with, which is neither array nor map.
func ReadScalar(b []byte) (value any, rest []byte, err error) {
	switch t := msgp.NextType(b); t {
	case msgp.NilType:
		rest, err = msgp.ReadNilBytes(b)
	case msgp.BoolType:
		value, rest, err = msgp.ReadBoolBytes(b)
	case msgp.IntType:
		value, rest, err = msgp.ReadInt64Bytes(b)
	case msgp.UintType:
		value, rest, err = readUint(b)
	case msgp.Float64Type, msgp.Float32Type:
		value, rest, err = msgp.ReadFloat64Bytes(b)
	case msgp.StrType:
		value, rest, err = msgp.ReadStringBytes(b)
	case msgp.BinType:
		value, rest, err = msgp.ReadBytesBytes(b, []byte{})
	case msgp.InvalidType:
		return nil, b, fmt.Errorf("%w: no value where one must be", ErrMalformed)
	default:
		return readTime(b)
	}
	if err != nil {
		return nil, b, malformed(err)
	}
	return value, rest, nil
}

// readUint returns an int64 where the number fits, so that a number's type does
// not depend on how its writer packed it.
func readUint(b []byte) (any, []byte, error) {
	n, rest, err := msgp.ReadUint64Bytes(b)
	if err != nil || n > 1<<63-1 {
		return n, rest, err
	}
	return int64(n), rest, nil
}

// readTime reads the timestamp extension in its forms of 4, 8 and 12 bytes.
func readTime(b []byte) (any, []byte, error) {
	if t := extensionType(b); t != timestampExtension {
		return nil, b, fmt.Errorf("%w: extension type %d; of the extensions only timestamps are known", ErrMalformed, t)
	}
	t, rest, err := msgp.ReadTimeUTCBytes(b)
	if err != nil {
		return nil, b, malformed(err)
	}
	return t, rest, nil
}

// extensionType returns the type of the extension that b, which is not empty,
// begins with; an extension cut off before its type has the type 0.
func extensionType(b []byte) int8 {
	at := 1 // fixext 1, 2, 4, 8, 16
	switch b[0] {
	case 0xc7: // ext 8
		at = 2
	case 0xc8: // ext 16
		at = 3
	case 0xc9: // ext 32
		at = 5
	}
	if at >= len(b) {
		return 0
	}
	return int8(b[at])
}

// Append writes a value of the types that Decode returns; map members are
// written in the order of their names, so that equal values have equal bytes.
func Append(dst []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return msgp.AppendNil(dst), nil
	case bool:
		return msgp.AppendBool(dst, v), nil
	case int64:
		return msgp.AppendInt64(dst, v), nil
	case uint64:
		return msgp.AppendUint64(dst, v), nil
	case float64:
		return msgp.AppendFloat64(dst, v), nil
	case string:
		return msgp.AppendString(dst, v), nil
	case []byte:
		return msgp.AppendBytes(dst, v), nil
	case time.Time:
		return msgp.AppendTimeExt(dst, v), nil
	case []any:
		return appendArray(dst, v)
	case map[string]any:
		return appendMap(dst, v)
	default:
		return dst, fmt.Errorf("a value of type %T can't be part of an object", value)
	}
}

func appendArray(dst []byte, elements []any) ([]byte, error) {
	dst = msgp.AppendArrayHeader(dst, uint32(len(elements)))
	var err error
	for _, e := range elements {
		if dst, err = Append(dst, e); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func appendMap(dst []byte, members map[string]any) ([]byte, error) {
	dst = msgp.AppendMapHeader(dst, uint32(len(members)))
	var err error
	for _, name := range sortedNames(members) {
		dst = msgp.AppendString(dst, name)
		if dst, err = Append(dst, members[name]); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// skip returns what is behind the value that b begins with.
func skip(b []byte, depth int) ([]byte, error) {
	switch msgp.NextType(b) {
	case msgp.MapType, msgp.ArrayType:
		return skipContainer(b, depth)
	}
	rest, err := msgp.Skip(b)
	if err != nil {
		return b, malformed(err)
	}
	return rest, nil
}

func skipContainer(b []byte, depth int) ([]byte, error) {
	var count int
	var rest []byte
	var err error
	if IsMap(b) {
		count, rest, err = ReadMapHeader(b, depth)
		count *= 2
	} else {
		count, rest, err = ReadArrayHeader(b, depth)
	}
	for ; err == nil && count > 0; count-- {
		rest, err = skip(rest, depth+1)
	}
	if err != nil {
		return b, err
	}
	return rest, nil
}

func malformed(err error) error { return fmt.Errorf("%w: %w", ErrMalformed, err) }

// sameName compares a map key with a member's name.
func sameName(key []byte, name string) bool { return bytes.Equal(key, []byte(name)) }
