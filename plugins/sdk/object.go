package sdk

import (
	"bytes"

	"github.com/vmihailenco/msgpack/v5"
)

// objectCoder reads and writes MessagePack objects and reuses its memory.
type objectCoder struct {
	buffer  bytes.Buffer
	encoder *msgpack.Encoder
	reader  bytes.Reader
	decoder *msgpack.Decoder
}

// encode returns the object's bytes, valid until the next call.
func (c *objectCoder) encode(object any) ([]byte, error) {
	if c.encoder == nil {
		c.encoder = msgpack.NewEncoder(&c.buffer)
		c.encoder.SetSortMapKeys(true)
		c.encoder.UseCompactInts(true)
	}
	c.buffer.Reset()
	if err := c.encoder.Encode(object); err != nil {
		return nil, Errorf("object.encode", "encode an object: %w", err)
	}
	return c.buffer.Bytes(), nil
}

// decode returns one object, which shares no memory with encoded.
func (c *objectCoder) decode(encoded []byte) (any, error) {
	if c.decoder == nil {
		c.decoder = msgpack.NewDecoder(&c.reader)
		c.decoder.UseLooseInterfaceDecoding(true)
	}
	c.reader.Reset(encoded)
	c.decoder.ResetReader(&c.reader)
	object, err := c.decoder.DecodeInterfaceLoose()
	if err != nil {
		return nil, Errorf("object.decode", "decode an object: %w", err)
	}
	if c.reader.Len() > 0 {
		return nil, Errorf("object.decode", "decode an object: %d bytes follow it", c.reader.Len())
	}
	return object, nil
}
