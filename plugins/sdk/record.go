package sdk

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// Record is one record of a batch, as EachRecord hands it out. Its methods are
// those of Batch for that record.
type Record struct {
	b *Batch
	i int
}

// EachRecord calls a function for every record of a batch. An error of the
// function refuses that record, except RetryLater, which stops and is returned.
// So does ctx's end.
//
// A panic of the function refuses that record with the code "panic" and the
// stack, and the others go on; once the batch is answered the process ends and
// the agent starts it afresh, because nobody knows what state the panic left.
func EachRecord(ctx context.Context, b *Batch, f func(ctx context.Context, r *Record) error) error {
	r := &Record{b: b}
	for r.i = range b.Len() {
		err := r.call(ctx, f)
		if _, ok := errors.AsType[*retryError](err); ok {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.Fail(r.i, err)
		}
	}
	return nil
}

// call turns a panic of f into an error.
func (r *Record) call(ctx context.Context, f func(ctx context.Context, r *Record) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.b.panicked = true
			err = Errorf("panic", "%v\n%s", p, debug.Stack())
		}
	}()
	return f(ctx, r)
}

// Value returns the value: nil when it is null, else not nil. It is lent until the function returns.
func (r *Record) Value() []byte { return r.b.Value(r.i) }

// ValueKind returns the kind of the value.
func (r *Record) ValueKind() Kind { return r.b.ValueKind(r.i) }

// Object decodes the value, which must be an object.
func (r *Record) Object() (any, error) { return r.b.Object(r.i) }

// Payload returns what a serializer serializes.
func (r *Record) Payload() []byte { return r.b.Payload(r.i) }

// PayloadKind returns the kind of the payload.
func (r *Record) PayloadKind() Kind { return r.b.PayloadKind(r.i) }

// PayloadObject decodes the payload, which must be an object.
func (r *Record) PayloadObject() (any, error) { return r.b.PayloadObject(r.i) }

// Key returns the key: nil when it is null, else not nil.
func (r *Record) Key() []byte { return r.b.Key(r.i) }

// KeyKind returns the kind of the key.
func (r *Record) KeyKind() Kind { return r.b.KeyKind(r.i) }

// Headers returns the headers in their order. The slice must not be changed.
func (r *Record) Headers() []Header { return r.b.Headers(r.i) }

// Header returns the last header of that name.
func (r *Record) Header(name string) ([]byte, bool) { return r.b.Header(r.i, name) }

// Timestamp returns the timestamp in milliseconds since the Unix epoch.
func (r *Record) Timestamp() int64 { return r.b.Timestamp(r.i) }

// Topic returns the topic.
func (r *Record) Topic() string { return r.b.Topic(r.i) }

// Partition returns the partition, PartitionAny while none is chosen.
func (r *Record) Partition() int32 { return r.b.Partition(r.i) }

// Source returns where the record comes from.
func (r *Record) Source() Source { return r.b.Source(r.i) }

// SetValue replaces the value by a copy.
func (r *Record) SetValue(value []byte) { r.b.SetValue(r.i, value) }

// SetValueNull makes the value null.
func (r *Record) SetValueNull() { r.b.SetValueNull(r.i) }

// SetObject makes the value an object.
func (r *Record) SetObject(object any) error { return r.b.SetObject(r.i, object) }

// SetPayload replaces the payload by a copy.
func (r *Record) SetPayload(payload []byte) { r.b.SetPayload(r.i, payload) }

// SetPayloadNull makes the payload null.
func (r *Record) SetPayloadNull() { r.b.SetPayloadNull(r.i) }

// SetKey replaces the key by a copy.
func (r *Record) SetKey(key []byte) { r.b.SetKey(r.i, key) }

// SetKeyNull makes the key null.
func (r *Record) SetKeyNull() { r.b.SetKeyNull(r.i) }

// SetHeaders replaces all headers by copies.
func (r *Record) SetHeaders(headers []Header) { r.b.SetHeaders(r.i, headers) }

// SetTimestamp replaces the timestamp: milliseconds since the Unix epoch.
func (r *Record) SetTimestamp(milliseconds int64) { r.b.SetTimestamp(r.i, milliseconds) }

// SetTopic sends the record to another topic.
func (r *Record) SetTopic(topic string) { r.b.SetTopic(r.i, topic) }

// SetPartition chooses the partition.
func (r *Record) SetPartition(partition int32) { r.b.SetPartition(r.i, partition) }

// Drop filters the record out.
func (r *Record) Drop() { r.b.Drop(r.i) }

// String says which record of its batch it is.
func (r *Record) String() string { return fmt.Sprintf("record %d of %d", r.i, r.b.Len()) }
