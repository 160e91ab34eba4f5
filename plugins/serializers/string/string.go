// Command string is the serializer "string": text in a character encoding, as
// Kafka's StringSerializer writes it.
//
//	value_serializer "string" {
//	  config = { encoding = "utf-8" }   # the default; or utf-16le, utf-16be, iso-8859-1
//	}
//
// With utf-8 values and keys pass as they are, byte for byte, whether they are
// UTF-8 or not: there is nothing to do, and nothing is lost. For the other
// encodings they must be UTF-8 (else the record fails with the code "not_utf8")
// and have only characters that the encoding has (code "not_encodable"): no
// character is replaced by another. No byte order mark is written. A null stays
// null, so a tombstone remains one. Objects are refused; "json" takes them.
package main

import (
	"context"
	"fmt"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// utf8Name is the encoding that needs no work.
const utf8Name = "utf-8"

// Codes of the failures of records.
const (
	codeNotUTF8      = "not_utf8"
	codeNotEncodable = "not_encodable"
)

// String is the serializer and its configuration.
type String struct {
	Encoding string `json:"encoding,omitempty" jsonschema:"enum=utf-8,enum=utf-16le,enum=utf-16be,enum=iso-8859-1,default=utf-8,description=Character encoding of the text in Kafka"`

	target encoding.Encoding // nil: utf-8
	passes bool              // everything passes as it is
}

// newString returns a plugin with the defaults.
func newString() sdk.Serializer { return &String{Encoding: utf8Name} }

// Configure finds the encoding.
func (s *String) Configure(context.Context) error {
	s.passes = s.Encoding == utf8Name
	switch s.Encoding {
	case utf8Name:
		s.target = nil
	case "utf-16le":
		s.target = unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
	case "utf-16be":
		s.target = unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)
	case "iso-8859-1":
		s.target = charmap.ISO8859_1
	default:
		return &sdk.ConfigError{Pointer: "/encoding",
			Message: fmt.Sprintf("no encoding %q; there are utf-8, utf-16le, utf-16be and iso-8859-1", s.Encoding)}
	}
	return nil
}

// Columns are none but the payload, which is understood.
func (*String) Columns() sdk.Columns { return sdk.Columns{} }

// ReadsPayload spares text that passes as it is the way to the process and back.
func (s *String) ReadsPayload() bool { return !s.passes }

// Deterministic says that equal text gives equal bytes.
func (*String) Deterministic() bool { return true }

// Concurrent says that batches share nothing.
func (*String) Concurrent() bool { return true }

// Serialize encodes every payload that is not null.
func (s *String) Serialize(_ context.Context, b *sdk.Batch) error {
	if s.target == nil {
		return nil
	}
	encoder := s.target.NewEncoder()
	var buffer []byte
	for i := range b.Len() {
		if b.PayloadKind(i) == sdk.KindNull {
			continue
		}
		text := b.Payload(i)
		if !utf8.Valid(text) {
			b.Fail(i, sdk.Errorf(codeNotUTF8, "the text to write as %s is not UTF-8", s.Encoding))
			continue
		}
		var err error
		if buffer, _, err = transform.Append(encoder, buffer[:0], text); err != nil {
			b.Fail(i, sdk.Errorf(codeNotEncodable, "the text has a character that %s lacks: %w", s.Encoding, err))
			continue
		}
		b.SetPayload(i, buffer)
	}
	return nil
}
