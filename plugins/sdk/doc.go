// Package sdk is what a Barnabas plugin is written with.
//
// A plugin is a struct that is its own configuration, one method on a batch of
// records, and a main of one line:
//
//	type Upper struct {
//		Prefix string `json:"prefix,omitempty" jsonschema:"description=Put before every value"`
//	}
//
//	func (u *Upper) OnSend(ctx context.Context, b *sdk.Batch) error {
//		for i := range b.Len() {
//			b.SetValue(i, append([]byte(u.Prefix), bytes.ToUpper(b.Value(i))...))
//		}
//		return nil
//	}
//
//	func main() { sdk.ServeInterceptor("upper", "1.0.0", func() sdk.Interceptor { return &Upper{} }) }
//
// There are three kinds of plugins, Kafka's own: an [Interceptor] changes,
// drops or refuses records, a [Serializer] turns values or keys into the bytes
// that Kafka stores, a [Partitioner] chooses partitions. What else a plugin can
// do is one optional interface of one method each: [Configurer],
// [ColumnsDeclarer], [PayloadDeclarer], [TopologyObserver], [Acknowledger],
// [AcknowledgementLossObserver], [ObjectAccepter], [DropDeclarer],
// [DeterminismDeclarer], [ConcurrencyDeclarer], [MetricsProvider], [Closer].
//
// # Borrowed memory
//
// A batch and every byte slice that it returns are lent until the method
// returns; strings may be kept. What is given to a batch is copied.
//
// # Concurrency
//
// The agent feeds a plugin over several lanes, but the SDK calls one method of a
// plugin at a time, so a plugin needs no locks. One that implements
// [ConcurrencyDeclarer] gets its batches, and acknowledgements, of different lanes at the same
// time; all its other methods still have the plugin to themselves.
//
// # Errors
//
// A record that is not good enough is refused with [Batch.Fail]: it goes by the
// stage's on_error, and the others go on. An error that the method itself
// returns says that the plugin is broken: it is started anew and gets the same
// batch again. [RetryLater] says that something the plugin needs is away for now.
package sdk
