package sdk

import "context"

// Interceptor changes, drops or refuses records between source and serializers.
type Interceptor interface {
	// OnSend handles one batch of 1 to 4096 records, which is lent until it
	// returns. ctx ends at the stage's timeout, shortly before the process is
	// killed. An error says that the plugin is broken, unless it is one of
	// RetryLater: the process is replaced and the batch comes again. Unless the
	// plugin is a ConcurrencyDeclarer, one call runs at a time.
	OnSend(ctx context.Context, b *Batch) error
}

// Serializer turns values, or keys where the agent's configuration uses it as
// key serializer, into the bytes that Kafka stores.
type Serializer interface {
	// Serialize handles one batch, which is lent until it returns. It works on
	// Batch.Payload, so that the same plugin serves values and keys. Context,
	// errors and concurrency are those of Interceptor.OnSend.
	Serialize(ctx context.Context, b *Batch) error
}

// Partitioner chooses the partition of each record.
type Partitioner interface {
	// Partition handles one batch, which is lent until it returns. A record
	// without a choice keeps the one it has, PartitionAny as a rule, and the
	// producer chooses. Context, errors and concurrency are those of
	// Interceptor.OnSend.
	Partition(ctx context.Context, b *Batch) error
}

// Configurer is told when its configuration stands in the struct's fields: to
// compile expressions, to check what a schema can't. A *ConfigError, or several
// joined with errors.Join, names the member that is wrong. It is called on a
// fresh plugin each time, also when a configuration is only being checked, and
// so starts nothing. Any other error stands for the configuration as a whole.
// It is called once per plugin, before every other method but Columns.
type Configurer interface {
	Configure(ctx context.Context) error
}

// ColumnsDeclarer says which columns a plugin reads and writes, so that no
// others cross to its process. It is asked before configuration, when it
// answers with the most that any configuration needs, and after it, exactly.
// Without it an interceptor reads and writes everything, a serializer its
// payload, a partitioner reads key and topic. A serializer's payload (see
// [PayloadDeclarer]) and a partitioner's choice need not be declared.
type ColumnsDeclarer interface {
	Columns() Columns
}

// TopologyObserver is told how many partitions topics have: before the first
// batch that needs it, and on every change. It is never called while the plugin
// handles a batch. The Topology may be kept.
type TopologyObserver interface {
	OnTopology(t Topology)
}

// Acknowledger is told what became of records, each at most once and in no
// order that could be relied on. Nothing waits for it, and what it doesn't take
// in time is dropped. Without ConcurrencyDeclarer it is not called while the
// plugin handles a batch. The slice may be kept. It hears of the pipeline's records
// that reached the producer, also of those that another stage has changed, and not
// of those that a stage dropped or refused. Where the stage has several processes,
// one of them hears of each record.
type Acknowledger interface {
	OnAcknowledgement(a []Acknowledgement)
}

// AcknowledgementLossObserver is told how many records an Acknowledger will not
// hear of, because what became of them was not taken in time; before the call of
// OnAcknowledgement that came with the news, under the same rules.
type AcknowledgementLossObserver interface {
	OnAcknowledgementLoss(records uint64)
}

// ObjectAccepter says whether a serializer takes objects. Without it a record whose
// payload is an object is refused before the serializer sees the batch.
type ObjectAccepter interface {
	AcceptsObjects() bool
}

// PayloadDeclarer says whether a serializer reads its payload: values, or keys
// where it serializes keys. One that leaves all of them as they are, because of
// its configuration say, answers false, and none of them crosses to its process;
// it may still replace or refuse them. It is asked before configuration, when it
// answers for any configuration, and after it, exactly. Without it, a serializer
// reads its payload.
type PayloadDeclarer interface {
	ReadsPayload() bool
}

// DropDeclarer says whether an interceptor may drop records; without it, it may.
type DropDeclarer interface {
	MayDrop() bool
}

// DeterminismDeclarer says whether the same records always have the same
// result; without it, the agent assumes that they don't.
type DeterminismDeclarer interface {
	Deterministic() bool
}

// ConcurrencyDeclarer says whether batches of different lanes may be handled at
// the same time; without it, they are handled one at a time.
type ConcurrencyDeclarer interface {
	Concurrent() bool
}

// Closer is called once, after the last batch, and never while one is handled.
// ctx ends after 5 s, after a second when the agent has died; a process that is
// killed gets no call. An error is logged by the agent.
type Closer interface {
	Close(ctx context.Context) error
}

// Role says which payload a serializer serializes.
type Role uint8

// The roles of a serializer.
const (
	RoleValue Role = iota
	RoleKey
)

// Acknowledgement is what became of consecutive records of one partition, or of
// records that failed.
type Acknowledgement struct {
	Topic       string
	Partition   int32
	FirstOffset int64  // of Count consecutive ones; -1 for records without one
	Count       int    // how many records
	Error       string // empty: delivered
}
