// Package devbroker is the Kafka broker that `barnabas run --dev` embeds: one
// node of kfake on the loopback interface, with its data on disk. It keeps what
// a real broker keeps, but neither replicates nor survives the loss of power.
package devbroker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// partitions is how many partitions a topic gets.
const partitions = 6

// largestBatch lets every max_request_size through that a configuration made
// for a real cluster may name.
const largestBatch = "104857600"

// Config says where the broker lives.
type Config struct {
	Dir    string   // holds the data; made, for the owner alone, when it is missing
	Port   int      // on 127.0.0.1; another is taken where it is not free, and for 0
	Topics []string // made before the first client connects; others when a client asks for them
}

// Broker is a running broker.
type Broker struct {
	cluster *kfake.Cluster
	address string
}

// Start starts the broker on the data of its last run. Its goroutines end with
// Run's context or Close.
func Start(c Config, log *slog.Logger) (*Broker, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the embedded broker: %w", err)
	}
	cluster, err := newCluster(c, log)
	if err != nil {
		return nil, fmt.Errorf("start the embedded broker on %s (move that folder away to begin with an empty broker): %w", c.Dir, err)
	}
	b := &Broker{cluster: cluster, address: cluster.ListenAddrs()[0]}
	topics := &topicMaker{cluster: cluster, known: map[string]bool{}}
	for _, topic := range c.Topics {
		if err := topics.ensure(topic); err != nil {
			b.Close()
			return nil, fmt.Errorf("make topic %q on the embedded broker: %w", topic, err)
		}
	}
	cluster.ControlKey(kmsg.Metadata.Int16(), topics.onMetadata)
	cluster.ControlKey(kmsg.DeleteTopics.Int16(), topics.onDelete)
	return b, nil
}

// topicMaker makes topics as they are asked for. kfake's own way to do that
// writes a topic down only when the broker is closed, so that after a kill its
// records would be gone.
type topicMaker struct {
	cluster *kfake.Cluster // not owned

	mu    sync.Mutex
	known map[string]bool
}

func (m *topicMaker) ensure(topic string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[topic] {
		return nil
	}
	err := m.cluster.CreateTopic(topic, partitions, nil)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return err
	}
	m.known[topic] = true
	return nil
}

// onMetadata sees each metadata request before the cluster answers it.
func (m *topicMaker) onMetadata(request kmsg.Request) (kmsg.Response, error, bool) {
	m.cluster.KeepControl()
	metadata, ok := request.(*kmsg.MetadataRequest)
	if !ok || !metadata.AllowAutoTopicCreation {
		return nil, nil, false
	}
	for _, topic := range metadata.Topics {
		if topic.Topic != nil {
			// The answer to a name that can't be made is the cluster's.
			_ = m.ensure(*topic.Topic)
		}
	}
	return nil, nil, false
}

func newCluster(c Config, log *slog.Logger) (*kfake.Cluster, error) {
	options := []kfake.Opt{
		kfake.DataDir(c.Dir),
		kfake.ClusterID("barnabas-dev"),
		kfake.DefaultNumPartitions(partitions),
		kfake.BrokerConfigs(map[string]string{"message.max.bytes": largestBatch}),
		kfake.WithLogger(brokerLog{log}),
	}
	cluster, err := kfake.NewCluster(append(options, kfake.Ports(c.Port))...)
	if c.Port != 0 && errors.Is(err, syscall.EADDRINUSE) {
		return kfake.NewCluster(append(options, kfake.Ports(0))...)
	}
	return cluster, err
}

// onDelete sees each request to delete topics before it is done: a topic that a
// client asks for afterwards is made again.
func (m *topicMaker) onDelete(kmsg.Request) (kmsg.Response, error, bool) {
	m.cluster.KeepControl()
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.known)
	return nil, nil, false
}

// Address is the broker's bootstrap address, host:port.
func (b *Broker) Address() string { return b.address }

// Run blocks until ctx ends, then closes the broker.
func (b *Broker) Run(ctx context.Context) error {
	<-ctx.Done()
	b.Close()
	return nil
}

// Close disconnects all clients and makes what the broker holds durable. It may
// be called more than once.
func (b *Broker) Close() { b.cluster.Close() }

// brokerLog puts kfake's lines into the agent's log, each client's comings and
// goings at debug level.
type brokerLog struct {
	log *slog.Logger
}

// Logf implements kfake.Logger.
func (l brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case kfake.LogLevelError:
		to = slog.LevelError
	case kfake.LogLevelWarn:
		to = slog.LevelWarn
	}
	if ctx := context.Background(); l.log.Enabled(ctx, to) {
		l.log.Log(ctx, to, "embedded broker: "+fmt.Sprintf(format, args...))
	}
}
