// Package object encodes and decodes the objects that values hold: MessagePack.
package object

import (
	"bytes"
	"fmt"
	"math"

	"github.com/vmihailenco/msgpack/v5"
)

// Coder encodes and decodes objects and reuses its memory. The zero Coder is
// ready; one goroutine uses it.
type Coder struct {
	buffer  bytes.Buffer
	encoder *msgpack.Encoder
	reader  bytes.Reader
	decoder *msgpack.Decoder
}

// Encode returns the bytes of an object, valid until the next call. The members
// of maps are in the order of their names.
func (c *Coder) Encode(object any) ([]byte, error) {
	if c.encoder == nil {
		c.encoder = msgpack.NewEncoder(&c.buffer)
		c.encoder.SetSortMapKeys(true)
		c.encoder.UseCompactInts(true)
	}
	c.buffer.Reset()
	if err := c.encoder.Encode(object); err != nil {
		return nil, fmt.Errorf("encode an object: %w", err)
	}
	return c.buffer.Bytes(), nil
}

// Decode returns an object, which shares no memory with encoded: maps are
// map[string]any, lists []any, integers int64 (uint64 above its range), other
// numbers float64. What is no single object, or
// is nested deeper than MaxDepth, is an error.
func (c *Coder) Decode(encoded []byte) (any, error) {
	if err := check(encoded); err != nil {
		return nil, fmt.Errorf("decode an object: %w", err)
	}
	if c.decoder == nil {
		c.decoder = msgpack.NewDecoder(&c.reader)
	}
	c.reader.Reset(encoded)
	c.decoder.ResetReader(&c.reader)
	object, err := c.decoder.DecodeInterface()
	if err != nil {
		return nil, fmt.Errorf("decode an object: %w", err)
	}
	return widen(object), nil
}

// widen makes all integers and all floats of one type, in place.
func widen(object any) any {
	switch v := object.(type) {
	case int8:
		return int64(v)
	case int16:
		return int64(v)
	case int32:
		return int64(v)
	case uint8:
		return int64(v)
	case uint16:
		return int64(v)
	case uint32:
		return int64(v)
	case uint64:
		if v <= math.MaxInt64 {
			return int64(v)
		}
	case float32:
		return float64(v)
	case []any:
		for i := range v {
			v[i] = widen(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = widen(v[name])
		}
	}
	return object
}
