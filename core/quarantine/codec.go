package quarantine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// The body of a frame, in this order. A string is a uvarint length and its
// bytes; fields are only ever added at the end, and a reader ignores what
// stands behind those it knows.
//
//	time       int64, nanoseconds since the Unix epoch
//	timestamp  int64, milliseconds since the Unix epoch
//	offset     int64
//	end        int64
//	partition  int32
//	pipeline, stage, code, message, topic                      strings
//	origin: kind, file, peer, host                             strings
//	key, value     each one byte of kind (0 bytes, 1 null, 2 object) and a string
//	headers        uvarint count; each a name (string) and a value: uvarint 0 for null, else length + 1, and the bytes
const fixedBody = 8 + 8 + 8 + 8 + 4

// maxBody bounds one record, so that a damaged length never becomes an
// allocation of its size. It is above librdkafka's largest message (10⁹ bytes).
const maxBody = 1 << 30

// errBody says that a body with a fitting checksum is not what a writer makes.
var errBody = errors.New("body is not well-formed")

// appendBody encodes e behind dst.
func appendBody(dst []byte, e *Entry) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Time.UnixNano()))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Timestamp))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Offset))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.End))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(e.Partition))
	for _, s := range []string{
		e.Pipeline, e.Stage, e.Code, e.Message, e.Topic,
		e.Origin.Kind, e.Origin.File, e.Origin.Peer, e.Origin.Host,
	} {
		dst = appendString(dst, s)
	}
	for _, f := range []Field{e.Key, e.Value} {
		dst = append(dst, byte(f.Kind))
		dst = appendString(dst, f.Bytes)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.Headers)))
	for _, h := range e.Headers {
		dst = appendString(dst, h.Name)
		if h.Value == nil {
			dst = append(dst, 0)
			continue
		}
		dst = binary.AppendUvarint(dst, uint64(len(h.Value))+1)
		dst = append(dst, h.Value...)
	}
	return dst
}

func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// decodeBody is the inverse of appendBody. The entry refers to body.
func decodeBody(body []byte) (Entry, error) {
	if len(body) < fixedBody {
		return Entry{}, errBody
	}
	e := Entry{
		Time:      time.Unix(0, int64(binary.LittleEndian.Uint64(body))),
		Timestamp: int64(binary.LittleEndian.Uint64(body[8:])),
		Offset:    int64(binary.LittleEndian.Uint64(body[16:])),
		End:       int64(binary.LittleEndian.Uint64(body[24:])),
		Partition: int32(binary.LittleEndian.Uint32(body[32:])),
	}
	d := decoder{rest: body[fixedBody:]}
	for _, s := range []*string{
		&e.Pipeline, &e.Stage, &e.Code, &e.Message, &e.Topic,
		&e.Origin.Kind, &e.Origin.File, &e.Origin.Peer, &e.Origin.Host,
	} {
		*s = string(d.bytes(d.length()))
	}
	e.Key, e.Value = d.field(), d.field()
	e.Headers = d.headers()
	if d.bad {
		return Entry{}, errBody
	}
	return e, nil
}

// decoder takes fields off the front of rest. After the first that does not
// fit, bad is set and all further ones are empty.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

// length is the uvarint of something that takes at least a byte each.
func (d *decoder) length() int {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) bytes(n int) []byte {
	if n > len(d.rest) {
		d.fail()
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) field() Field {
	kind := d.bytes(1)
	if d.bad {
		return Field{}
	}
	f := Field{Kind: record.Kind(kind[0]), Bytes: d.bytes(d.length())}
	switch {
	case f.Kind == record.Null && len(f.Bytes) == 0:
		f.Bytes = nil
	case f.Kind > record.Object, f.Kind == record.Null:
		d.fail()
	}
	return f
}

func (d *decoder) headers() []record.Header {
	count := d.length()
	if d.bad || count == 0 {
		return nil
	}
	// A header takes two bytes or more, which bounds what a hostile count costs.
	headers := make([]record.Header, 0, min(count, len(d.rest)/2))
	for range count {
		h := record.Header{Name: string(d.bytes(d.length()))}
		if n := d.uvarint(); n > 0 {
			h.Value = d.bytes(clampInt(n - 1))
		}
		if d.bad {
			return nil
		}
		headers = append(headers, h)
	}
	return headers
}

func (d *decoder) fail() { d.rest, d.bad = nil, true }

// clampInt makes a length too large for an int one that no input can have.
func clampInt(n uint64) int { return int(min(n, math.MaxInt)) }

// check refuses an entry that no reader could give back.
func (e *Entry) check() error {
	for _, f := range []Field{e.Key, e.Value} {
		if f.Kind > record.Object || (f.Kind == record.Null && len(f.Bytes) != 0) {
			return fmt.Errorf("BUG: a field of kind %d with %d bytes", f.Kind, len(f.Bytes))
		}
	}
	return nil
}
