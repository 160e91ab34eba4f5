package plugintest

import (
	"time"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// Topic is the topic of the records that the suite sends.
const Topic = "plugintest"

// Option changes how a plugin is tested.
type Option func(*options)

type options struct {
	role     sdk.Role
	topology []sdk.TopicPartitions
	timeout  time.Duration
}

func newOptions(all []Option) options {
	o := options{
		topology: []sdk.TopicPartitions{{Topic: Topic, Partitions: 6}},
		timeout:  10 * time.Second,
	}
	for _, option := range all {
		option(&o)
	}
	return o
}

// ForKeys tests a serializer as key serializer.
func ForKeys() Option { return func(o *options) { o.role = sdk.RoleKey } }

// WithTopology says how many partitions topics have, instead of six for Topic.
func WithTopology(topics ...sdk.TopicPartitions) Option {
	return func(o *options) { o.topology = topics }
}

// WithTimeout bounds each batch, instead of ten seconds.
func WithTimeout(timeout time.Duration) Option {
	return func(o *options) { o.timeout = timeout }
}
