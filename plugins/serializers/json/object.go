package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tinylib/msgp/msgp"

	"github.com/barnabas-agent/barnabas/plugins/object"
)

// Why an object has no JSON form.
var (
	errNotUTF8  = errors.New("text that is not UTF-8")
	errNoNumber = errors.New("a number that JSON can't write: infinite or not a number")
	errYear     = errors.New("a time outside the years 0 to 9999")
)

// appendObject writes the MessagePack value in b as JSON: members in the order
// they have in b, binary as base64, times as RFC 3339. Of a map, only the members
// that keep accepts are written; those of the maps inside it all are.
func appendObject(dst, b []byte, keep func(name []byte) bool) ([]byte, error) {
	dst, rest, err := appendValue(dst, b, 0, keep)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes behind its end", object.ErrMalformed, len(rest))
	}
	return dst, err
}

func all([]byte) bool { return true }

func appendValue(dst, b []byte, depth int, keep func([]byte) bool) (out, rest []byte, err error) {
	switch msgp.NextType(b) {
	case msgp.MapType:
		return appendMap(dst, b, depth, keep)
	case msgp.ArrayType:
		return appendArray(dst, b, depth)
	case msgp.StrType:
		text, rest, err := msgp.ReadStringZC(b)
		if err != nil {
			return dst, b, fmt.Errorf("%w: %w", object.ErrMalformed, err)
		}
		dst, ok := appendString(dst, text)
		return dst, rest, check(ok, errNotUTF8)
	default:
		return appendScalar(dst, b)
	}
}

func appendMap(dst, b []byte, depth int, keep func([]byte) bool) (out, rest []byte, err error) {
	count, rest, err := object.ReadMapHeader(b, depth)
	if err != nil {
		return dst, b, err
	}
	dst = append(dst, '{')
	first := true
	for range count {
		var name []byte
		if name, rest, err = object.ReadName(rest); err != nil {
			return dst, b, err
		}
		begin := len(dst)
		if !first {
			dst = append(dst, ',')
		}
		var ok bool
		if dst, ok = appendString(dst, name); !ok {
			return dst, b, errNotUTF8
		}
		dst = append(dst, ':')
		if dst, rest, err = appendValue(dst, rest, depth+1, all); err != nil {
			return dst, b, err
		}
		if !keep(name) {
			dst = dst[:begin]
			continue
		}
		first = false
	}
	return append(dst, '}'), rest, nil
}

func appendArray(dst, b []byte, depth int) (out, rest []byte, err error) {
	count, rest, err := object.ReadArrayHeader(b, depth)
	if err != nil {
		return dst, b, err
	}
	dst = append(dst, '[')
	for i := range count {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, rest, err = appendValue(dst, rest, depth+1, all); err != nil {
			return dst, b, err
		}
	}
	return append(dst, ']'), rest, nil
}

func appendScalar(dst, b []byte) (out, rest []byte, err error) {
	value, rest, err := object.ReadScalar(b)
	if err != nil {
		return dst, b, err
	}
	var ok bool
	switch v := value.(type) {
	case nil:
		dst = append(dst, "null"...)
	case bool:
		dst = strconv.AppendBool(dst, v)
	case int64:
		dst = strconv.AppendInt(dst, v, 10)
	case uint64:
		dst = strconv.AppendUint(dst, v, 10)
	case float64:
		dst, ok = appendFloat(dst, v)
		err = check(ok, errNoNumber)
	case []byte:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, v)
		dst = append(dst, '"')
	case time.Time:
		dst, ok = appendTime(dst, v)
		err = check(ok, errYear)
	default:
		panic(fmt.Sprintf("BUG: object.ReadScalar returned a %T", value))
	}
	return dst, rest, err
}

func check(ok bool, err error) error {
	if ok {
		return nil
	}
	return err
}
