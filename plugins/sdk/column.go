package sdk

import (
	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
)

// ColumnSet is a set of columns of a batch: ColumnKey|ColumnTopic.
type ColumnSet = wire.ColumnSet

// The columns. ColumnSource, where a record comes from, can only be read.
const (
	ColumnValue     = wire.ColumnValue
	ColumnKey       = wire.ColumnKey
	ColumnHeaders   = wire.ColumnHeaders
	ColumnTimestamp = wire.ColumnTimestamp
	ColumnTopic     = wire.ColumnTopic
	ColumnPartition = wire.ColumnPartition
	ColumnSource    = wire.ColumnSource
	AllColumns      = wire.AllColumns
)

// Columns are the columns that a plugin reads and those that it may change.
type Columns struct {
	Reads  ColumnSet
	Writes ColumnSet
}

// Kind says what a value or key is.
type Kind = record.Kind

// The kinds: bytes as they are, Kafka's null (as a value a tombstone), and an
// object, which an interceptor makes for a serializer.
const (
	KindBytes  = record.Bytes
	KindNull   = record.Null
	KindObject = record.Object
)

// PartitionAny leaves the choice of the partition to the producer.
const PartitionAny = record.PartitionAny

// Header is one record header. Headers keep their order and may share a name. A nil Value is null.
type Header = record.Header

// Source is where a record comes from.
type Source struct {
	Kind   string // "file", "socket" or "stdin"
	File   string // path, for files
	Peer   string // address, for sockets
	Host   string // name of the host that the agent runs on
	Offset int64  // where the record begins in its source, in bytes
}
