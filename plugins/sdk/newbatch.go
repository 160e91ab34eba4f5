package sdk

import (
	"fmt"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
)

// Fields is one record for NewBatch.
type Fields struct {
	Value     []byte // nil: null
	Object    any    // when not nil, the value is this object
	Key       []byte // nil: null
	Headers   []Header
	Timestamp int64 // milliseconds since the Unix epoch
	Topic     string
	Partition int32 // 0 is partition 0; PartitionAny says that none is chosen
	Source    Source
}

// NewBatch returns a batch of records with every column, for tests of a
// plugin's method in the test's own process:
//
//	b := sdk.NewBatch(sdk.Fields{Value: []byte("one")}, sdk.Fields{Key: []byte("k")})
//	err := plugin.OnSend(ctx, b)
//
// Afterwards the batch shows the result: what was set, Dropped, Failure. It
// takes at most 4096 records.
func NewBatch(records ...Fields) *Batch { return NewBatchFor(RoleValue, records...) }

// NewBatchFor is NewBatch for a serializer of the given role.
func NewBatchFor(role Role, records ...Fields) *Batch {
	b := &Batch{role: role, columns: Columns{Reads: AllColumns, Writes: wire.WritableColumns}}
	batch := b.recordBatch(records)
	frame, err := wire.NewEncoder(nil).Encode(batch, batch.Live, AllColumns, wire.Frame{})
	if err == nil {
		err = b.view.Decode(frame)
	}
	if err != nil {
		panic(fmt.Sprintf("BUG: records of a test that make no batch: %v", err))
	}
	b.reply.Reset(len(records))
	return b
}

// recordBatch lays the records out as a source would.
func (b *Batch) recordBatch(records []Fields) *record.Batch {
	batch := &record.Batch{Topics: []string{""}}
	batch.Value.AddBlock(nil)
	batch.Key.AddBlock(nil)
	for i, r := range records {
		value, kind := r.Value, KindBytes
		if r.Object != nil {
			encoded, err := b.objects.encode(r.Object)
			if err != nil {
				panic(fmt.Sprintf("BUG: record %d of a test: %v", i, err))
			}
			value, kind = encoded, KindObject
		}
		origin := origin{record.Origin{Kind: r.Source.Kind, File: r.Source.File, Peer: r.Source.Peer, Host: r.Source.Host}}
		span := appendSpan(&batch.Value, value, kind)
		batch.Append(origin, span, r.Timestamp, r.Source.Offset, r.Source.Offset+int64(span.Length)+1)
	}
	for i, r := range records {
		batch.Key.Set(len(records), i, appendSpan(&batch.Key, r.Key, KindBytes))
		batch.SetHeaders(i, r.Headers)
		batch.SetTopic(i, r.Topic)
		batch.SetPartition(i, r.Partition)
	}
	return batch
}

// appendSpan puts bytes at the end of a column's first block.
func appendSpan(c *record.Column, value []byte, kind Kind) record.Span {
	if value == nil {
		return record.Span{Kind: KindNull}
	}
	s := record.Span{Offset: uint32(len(c.Blocks[0])), Length: uint32(len(value)), Kind: kind}
	c.Blocks[0] = append(c.Blocks[0], value...)
	return s
}

// origin is a stream that only says where it comes from.
type origin struct{ from record.Origin }

func (o origin) Origin() record.Origin { return o.from }
func (origin) Delivered(int64)         {}
