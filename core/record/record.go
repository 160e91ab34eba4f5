// Package record holds the unit that moves through the agent: a batch of
// records in columns, where its records came from, and what became of them.
// It starts no goroutine and depends on the standard library alone.
package record

// Kind says what the bytes of a value or key are.
type Kind uint8

const (
	Bytes  Kind = iota // bytes as they are; the zero value, so a source need not set it
	Null               // Kafka's null: as a value, a tombstone
	Object             // one MessagePack value, made by an interceptor for a serializer
)

// String names the kind as plugins and the quarantine show it.
func (k Kind) String() string {
	switch k {
	case Bytes:
		return "bytes"
	case Null:
		return "null"
	case Object:
		return "object"
	default:
		return "invalid"
	}
}

// Header is one record header. A record keeps the order of its headers, and
// several may share a name. A nil Value is Kafka's null.
type Header struct {
	Name  string
	Value []byte
}

// PartitionAny leaves the choice of the partition to the producer.
const PartitionAny int32 = -1

// Verdict is what a stage decided about one record.
type Verdict uint8

const (
	Keep Verdict = iota // goes on to the next stage
	Drop                // filtered on purpose: resolved without delivery
	Fail                // refused: goes by the stage's on_error
)

// String names the verdict as the metrics label it.
func (v Verdict) String() string {
	switch v {
	case Keep:
		return "kept"
	case Drop:
		return "dropped"
	case Fail:
		return "failed"
	default:
		return "invalid"
	}
}

// The Stage of a Failure that no stage reported.
const (
	StageProducer = "producer" // the producer or its broker
	StageSource   = "source"   // the source itself
)

// Failure says why a record can't go on: the stage or the broker that refused
// it, a stable code, and a message for people.
type Failure struct {
	Row     uint32 // in its batch
	Stage   string // name of the stage, StageProducer or StageSource
	Code    string // e.g. "filter.expression", "INVALID_RECORD"
	Message string
}

// Origin is where a stream's records come from, as plugins see it.
type Origin struct {
	Kind string // "file", "socket", "stdin"
	File string // path, for files
	Peer string // address, for sockets
	Host string // name of the host that the agent runs on
}

// Stream is one ordered run of bytes that a source reads: a file, a
// connection's spool. The source implements it; pointers make good keys, so an
// implementation must be comparable.
type Stream interface {
	// Origin is constant for the stream's life.
	Origin() Origin
	// Delivered says that every record that ends at or before position has
	// been resolved. Positions only grow. It is called by one goroutine at a
	// time and must not block.
	Delivered(position int64)
}

// Resolution is told by the producer what became of the rows of one batch. Each
// row is Delivered or Refused exactly once; Accepted may come before or, where
// the report is quicker, after. Calls come from any goroutine and must not block.
type Resolution interface {
	// Accepted says that the producer has taken rows that nobody waits for
	// (fire and forget): their position may move, their memory is still in use.
	Accepted(rows []uint32)
	// Delivered says that the broker has the rows. The slice is the caller's.
	Delivered(rows []uint32)
	// Refused says that the row f.Row can never be delivered as it is.
	Refused(f Failure)
}

// Run is a stretch of consecutive records of one stream inside a batch.
type Run struct {
	Stream Stream
	First  int // row of the run's first record
	Count  int
}

// Checkpoint is one durable position: an opaque value that only its source
// reads, under a key that is unique in the agent. A nil Value removes the key.
type Checkpoint struct {
	Key   string
	Value []byte
}
