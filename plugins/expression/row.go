package expression

import (
	"time"
	"unicode/utf8"
	"unsafe"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/barnabas-agent/barnabas/plugins/object"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// Row is the record of a batch that expressions are evaluated on. What they
// refer to is read on demand, and value and key at most once per record. Texts that an
// expression sees, and results that are parts of them, lie in the memory of the
// batch: they must be copied to be kept. It is for one goroutine.
type Row struct {
	batch  *sdk.Batch
	index  int
	value  field
	key    field
	topic  string  // the topic that topicValue holds
	topics ref.Val // boxed once for the records of one topic
}

// field is a value or key of the current record.
type field struct {
	read  bool
	text  bool // bytes that are UTF-8
	kind  sdk.Kind
	bytes []byte
	boxed ref.Val // nil: not needed yet
}

func (f *field) set(kind sdk.Kind, b []byte) {
	f.read, f.kind, f.bytes, f.boxed = true, kind, b, nil
	f.text = kind == sdk.KindBytes && utf8.Valid(b)
}

// box returns the field as a CEL value.
func (f *field) box() ref.Val {
	if f.boxed != nil {
		return f.boxed
	}
	switch {
	case f.text:
		f.boxed = types.String(borrow(f.bytes))
	case f.kind == sdk.KindNull:
		f.boxed = types.NullValue
	case f.kind == sdk.KindObject:
		decoded, err := object.Decode(f.bytes)
		if err != nil {
			f.boxed = types.WrapErr(err)
			break
		}
		f.boxed = types.DefaultTypeAdapter.NativeToValue(decoded)
	default:
		f.boxed = types.Bytes(f.bytes)
	}
	return f.boxed
}

// NewRow returns the first record of a batch, if it has one.
func NewRow(b *sdk.Batch) *Row { return &Row{batch: b} }

// Move goes to record i.
func (r *Row) Move(i int) {
	r.index, r.value.read, r.key.read = i, false, false
}

// ResolveName returns the value of a variable to the interpreter.
func (r *Row) ResolveName(name string) (any, bool) {
	switch name {
	case "value":
		return r.readValue().box(), true
	case "key":
		return r.readKey().box(), true
	case "headers":
		return r.headers(), true
	case "topic":
		return r.boxedTopic(), true
	case "partition":
		return types.Int(r.batch.Partition(r.index)), true
	case "timestamp":
		return r.timestamp(), true
	case "source":
		return r.source(), true
	default:
		return nil, false
	}
}

// Parent is none: a row is the whole scope.
func (*Row) Parent() cel.Activation { return nil }

// readValue returns the record's value.
func (r *Row) readValue() *field {
	if !r.value.read {
		r.value.set(r.batch.ValueKind(r.index), r.batch.Value(r.index))
	}
	return &r.value
}

// readKey returns the record's key.
func (r *Row) readKey() *field {
	if !r.key.read {
		r.key.set(r.batch.KeyKind(r.index), r.batch.Key(r.index))
	}
	return &r.key
}

// borrow returns the bytes as a string without copying them.
func borrow(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func (r *Row) boxedTopic() ref.Val {
	if topic := r.batch.Topic(r.index); r.topics == nil || topic != r.topic {
		r.topic, r.topics = topic, types.String(topic)
	}
	return r.topics
}

// timestamp is an error outside the years that CEL's timestamps have.
func (r *Row) timestamp() ref.Val {
	t := time.UnixMilli(r.batch.Timestamp(r.index)).UTC()
	if year := t.Year(); year < 1 || year > 9999 {
		return types.NewErr("the timestamp %d ms is outside the years 1 to 9999", r.batch.Timestamp(r.index))
	}
	return types.Timestamp{Time: t}
}

func (r *Row) headers() ref.Val {
	headers := r.batch.Headers(r.index)
	byName := make(map[string]any, len(headers))
	for _, h := range headers {
		switch {
		case h.Value == nil:
			byName[h.Name] = nil
		case utf8.Valid(h.Value):
			byName[h.Name] = borrow(h.Value)
		default:
			byName[h.Name] = h.Value
		}
	}
	return types.DefaultTypeAdapter.NativeToValue(byName)
}

func (r *Row) source() ref.Val {
	from := r.batch.Source(r.index)
	members := map[string]any{"kind": from.Kind, "host": from.Host, "offset": from.Offset}
	if from.File != "" {
		members["file"] = from.File
	}
	if from.Peer != "" {
		members["peer"] = from.Peer
	}
	return types.DefaultTypeAdapter.NativeToValue(members)
}
