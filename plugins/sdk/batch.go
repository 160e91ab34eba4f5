package sdk

import (
	"fmt"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
	"github.com/barnabas-agent/barnabas/plugins/sdk/internal/object"
)

// Batch is the records that one call of a plugin handles, by index from 0. It is
// lent until the call returns, and so is every byte slice that it returns;
// strings may be kept. Reading a column after it was set returns what was set.
//
// Reading or setting a column that the plugin's Columns leaves out is a mistake
// in the plugin and panics, as an index out of range does.
type Batch struct {
	view     wire.View
	reply    wire.ReplyBuilder
	stage    stage
	objects  object.Coder
	panicked bool // a record's function panicked: the process ends after the reply
}

// stage is what a configured plugin may do.
type stage struct {
	columns      Columns
	role         Role
	mayDrop      bool
	mayObject    bool // set a value to an object
	takesObjects bool
	concurrent   bool
}

// Len returns how many records the batch holds.
func (b *Batch) Len() int { return b.view.Count() }

// Value returns the value of record i: nil when it is null, else not nil.
func (b *Batch) Value(i int) []byte {
	b.mustRead(ColumnValue)
	if value, _, ok := b.reply.Value(i); ok {
		return value
	}
	return b.view.Value().Bytes(i)
}

// ValueKind returns the kind of the value of record i.
func (b *Batch) ValueKind(i int) Kind {
	b.mustRead(ColumnValue)
	if _, kind, ok := b.reply.Value(i); ok {
		return kind
	}
	return b.view.Value().Kind(i)
}

// Key returns the key of record i: nil when it is null, else not nil.
func (b *Batch) Key(i int) []byte {
	b.mustRead(ColumnKey)
	if key, _, ok := b.reply.Key(i); ok {
		return key
	}
	return b.view.Key().Bytes(i)
}

// KeyKind returns the kind of the key of record i.
func (b *Batch) KeyKind(i int) Kind {
	b.mustRead(ColumnKey)
	if _, kind, ok := b.reply.Key(i); ok {
		return kind
	}
	return b.view.Key().Kind(i)
}

// Headers returns the headers of record i in their order. The slice must not be changed.
func (b *Batch) Headers(i int) []Header {
	b.mustRead(ColumnHeaders)
	if headers, ok := b.reply.Headers(i); ok {
		return headers
	}
	return b.view.Headers(i)
}

// Header returns the last header of that name of record i, as Kafka's lastHeader does.
func (b *Batch) Header(i int, name string) (value []byte, ok bool) {
	headers := b.Headers(i)
	for n := len(headers) - 1; n >= 0; n-- {
		if headers[n].Name == name {
			return headers[n].Value, true
		}
	}
	return nil, false
}

// Timestamp returns the timestamp of record i in milliseconds since the Unix epoch.
func (b *Batch) Timestamp(i int) int64 {
	b.mustRead(ColumnTimestamp)
	if timestamp, ok := b.reply.Timestamp(i); ok {
		return timestamp
	}
	return b.view.Timestamp(i)
}

// Topic returns the topic that record i goes to.
func (b *Batch) Topic(i int) string {
	b.mustRead(ColumnTopic)
	if topic, ok := b.reply.Topic(i); ok {
		return topic
	}
	return b.view.Topic(i)
}

// Partition returns the partition of record i, PartitionAny while none is chosen.
func (b *Batch) Partition(i int) int32 {
	b.mustRead(ColumnPartition)
	if partition, ok := b.reply.Partition(i); ok {
		return partition
	}
	return b.view.Partition(i)
}

// Source returns where record i comes from.
func (b *Batch) Source(i int) Source {
	b.mustRead(ColumnSource)
	origin, offset := b.view.Origin(i)
	return Source{Kind: origin.Kind, File: origin.File, Peer: origin.Peer, Host: origin.Host, Offset: offset}
}

// Object decodes the value of record i, which must be an object. Maps are
// map[string]any, lists []any, integers int64 (uint64 above its range), other
// numbers float64. The result is the caller's own. An error has the code
// "object.kind" where the value is no object, "object.decode" where it is broken;
// Fail takes it as it is.
func (b *Batch) Object(i int) (any, error) {
	return b.object(b.Value(i), b.ValueKind(i))
}

// Payload returns the value of record i, or its key where a key serializer runs:
// nil when it is null, else not nil.
func (b *Batch) Payload(i int) []byte {
	if b.stage.role == RoleKey {
		return b.Key(i)
	}
	return b.Value(i)
}

// PayloadKind returns the kind of the payload of record i.
func (b *Batch) PayloadKind(i int) Kind {
	if b.stage.role == RoleKey {
		return b.KeyKind(i)
	}
	return b.ValueKind(i)
}

// PayloadObject is Object for the payload.
func (b *Batch) PayloadObject(i int) (any, error) {
	return b.object(b.Payload(i), b.PayloadKind(i))
}

// Role returns which payload a serializer serializes.
func (b *Batch) Role() Role { return b.stage.role }

func (b *Batch) object(encoded []byte, kind Kind) (any, error) {
	if kind != KindObject {
		return nil, Errorf("object.kind", "not an object but %s", kind)
	}
	decoded, err := b.objects.Decode(encoded)
	if err != nil {
		return nil, &codedError{code: "object.decode", err: err}
	}
	return decoded, nil
}

func (b *Batch) mustRead(c ColumnSet) {
	if !b.view.Columns().Has(c) {
		panic(fmt.Sprintf("BUG: the plugin reads the column %s, which its Columns().Reads (%s) leaves out", c, b.stage.columns.Reads))
	}
}

func (b *Batch) mustWrite(c ColumnSet, i int) {
	if !b.stage.columns.Writes.Has(c) {
		panic(fmt.Sprintf("BUG: the plugin sets the column %s, which its Columns().Writes (%s) leaves out", c, b.stage.columns.Writes))
	}
	b.mustHave(i)
}

func (b *Batch) mustHave(i int) {
	if uint(i) >= uint(b.Len()) {
		panic(fmt.Sprintf("BUG: record %d of a batch of %d", i, b.Len()))
	}
}

// Dropped reports whether record i was dropped.
func (b *Batch) Dropped(i int) bool { return b.reply.Verdict(i) == record.Drop }

// Failure returns code and message with which record i was refused, if it was.
func (b *Batch) Failure(i int) (code, message string, failed bool) {
	why, failed := b.reply.Refusal(i)
	return why.Code, why.Message, failed
}
