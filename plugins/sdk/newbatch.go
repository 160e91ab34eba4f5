package sdk

import (
	"bytes"
	"fmt"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
	"github.com/barnabas-agent/barnabas/plugins/sdk/internal/object"
	"github.com/barnabas-agent/barnabas/plugins/sdk/internal/rows"
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
	b := &Batch{stage: stage{
		columns: Columns{Reads: AllColumns, Writes: wire.WritableColumns},
		role:    role, mayDrop: true, mayObject: true, takesObjects: true,
	}}
	batch := rows.Batch(b.rows(records))
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

func (b *Batch) rows(records []Fields) []rows.Row {
	all := make([]rows.Row, len(records))
	for i, r := range records {
		row, err := r.row(&b.objects)
		if err != nil {
			panic(fmt.Sprintf("BUG: record %d of a test: %v", i, err))
		}
		all[i] = row
	}
	return all
}

// row lays a record out for the host's side.
func (f *Fields) row(coder *object.Coder) (rows.Row, error) {
	row := rows.Row{
		Value: f.Value, Key: f.Key, Headers: f.Headers,
		Timestamp: f.Timestamp, Topic: f.Topic, Partition: f.Partition,
		Origin: record.Origin{Kind: f.Source.Kind, File: f.Source.File, Peer: f.Source.Peer, Host: f.Source.Host},
		Offset: f.Source.Offset,
	}
	if f.Object == nil {
		return row, nil
	}
	encoded, err := coder.Encode(f.Object)
	row.Value, row.ValueKind = bytes.Clone(encoded), KindObject
	return row, err
}
