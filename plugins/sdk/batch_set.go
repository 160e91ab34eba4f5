package sdk

import "github.com/barnabas-agent/barnabas/core/record"

// SetValue replaces the value of record i by a copy of value. A nil value is an
// empty one, not null.
func (b *Batch) SetValue(i int, value []byte) {
	b.mustWrite(ColumnValue, i)
	b.reply.SetValue(i, value, KindBytes)
}

// SetValueNull makes the value of record i null: a tombstone.
func (b *Batch) SetValueNull(i int) {
	b.mustWrite(ColumnValue, i)
	b.reply.SetValue(i, nil, KindNull)
}

// SetObject makes the value of record i an object, for a serializer to
// serialize. Members of maps are encoded in the order of their names, so the
// same object always has the same bytes. The object is copied; an error, with the
// code "object.encode", says that it holds what no object can.
func (b *Batch) SetObject(i int, object any) error {
	b.mustWrite(ColumnValue, i)
	if !b.stage.mayObject {
		panic("BUG: only an interceptor may set an object")
	}
	encoded, err := b.objects.Encode(object)
	if err != nil {
		return &codedError{code: "object.encode", err: err}
	}
	b.reply.SetValue(i, encoded, KindObject)
	return nil
}

// SetKey replaces the key of record i by a copy of key. A nil key is an empty one, not null.
func (b *Batch) SetKey(i int, key []byte) {
	b.mustWrite(ColumnKey, i)
	b.reply.SetKey(i, key, KindBytes)
}

// SetKeyNull makes the key of record i null.
func (b *Batch) SetKeyNull(i int) {
	b.mustWrite(ColumnKey, i)
	b.reply.SetKey(i, nil, KindNull)
}

// SetHeaders replaces all headers of record i by copies; none removes them all.
func (b *Batch) SetHeaders(i int, headers []Header) {
	b.mustWrite(ColumnHeaders, i)
	b.reply.SetHeaders(i, headers)
}

// SetTimestamp replaces the timestamp of record i: milliseconds since the Unix epoch.
func (b *Batch) SetTimestamp(i int, milliseconds int64) {
	b.mustWrite(ColumnTimestamp, i)
	b.reply.SetTimestamp(i, milliseconds)
}

// SetTopic sends record i to another topic. The agent refuses the record when
// its configuration does not allow the topic.
func (b *Batch) SetTopic(i int, topic string) {
	b.mustWrite(ColumnTopic, i)
	b.reply.SetTopic(i, topic)
}

// SetPartition chooses the partition of record i; PartitionAny leaves the choice
// to the producer. A number below that refuses the record.
func (b *Batch) SetPartition(i int, partition int32) {
	b.mustWrite(ColumnPartition, i)
	if partition < record.PartitionAny {
		b.Fail(i, Errorf("partition.negative", "partition %d", partition))
		return
	}
	b.reply.SetPartition(i, partition)
}

// SetPayload is SetValue, or SetKey where a key serializer runs.
func (b *Batch) SetPayload(i int, payload []byte) {
	if b.stage.role == RoleKey {
		b.SetKey(i, payload)
		return
	}
	b.SetValue(i, payload)
}

// SetPayloadNull is SetValueNull, or SetKeyNull where a key serializer runs.
func (b *Batch) SetPayloadNull(i int) {
	if b.stage.role == RoleKey {
		b.SetKeyNull(i)
		return
	}
	b.SetValueNull(i)
}

// Drop filters record i out: it counts as done and goes nowhere.
func (b *Batch) Drop(i int) {
	b.mustHave(i)
	if !b.stage.mayDrop {
		panic("BUG: the plugin drops a record; only an interceptor may, and not when its MayDrop says no")
	}
	b.reply.Drop(i)
}

// Fail refuses record i, which then goes by the stage's on_error as it was
// before the plugin. An error made by Errorf carries a code.
func (b *Batch) Fail(i int, err error) {
	b.mustHave(i)
	b.reply.Fail(i, refusalOf(err))
}
