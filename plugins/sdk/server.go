package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// server is one configured stage behind the protocol.
type server struct {
	wirev1.UnimplementedPluginServer
	program *Program
	options RegisterOptions

	// turn is held, for writing, by whoever calls the plugin. A concurrent
	// plugin's batches and acknowledgements hold it for reading.
	turn     sync.RWMutex
	plugin   any // nil until configured for real
	stage    stage
	topology *wirev1.Topology // the last one; nil: none yet
	closed   bool
	reusable bool // one agent after the other may configure it; constant

	metrics atomic.Pointer[[]Metric] // nil until configured for real

	broken sync.Once // guards options.Broken
}

var _ wirev1.PluginServer = (*server)(nil)

func newServer(p *Program, o RegisterOptions) *server {
	return &server{program: p, options: o}
}

// Describe says what the plugin is.
func (s *server) Describe(context.Context, *wirev1.DescribeRequest) (*wirev1.Description, error) {
	return s.program.describe()
}

// Configure checks a configuration on a fresh plugin, which becomes the stage's
// own unless the configuration is only to be validated.
func (s *server) Configure(ctx context.Context, m *wirev1.ConfigureRequest) (*wirev1.ConfigureReply, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.plugin != nil && !m.ValidateOnly && !s.reusable {
		return nil, status.Error(codes.FailedPrecondition, "the plugin is configured already")
	}
	plugin := s.program.new()
	wrong, err := configure(ctx, plugin, m.Config)
	if err != nil {
		return nil, err
	}
	reply := &wirev1.ConfigureReply{}
	for _, e := range wrong {
		reply.Errors = append(reply.Errors, &wirev1.ConfigError{Pointer: e.Pointer, Message: e.Message})
	}
	if len(wrong) > 0 {
		return reply, nil
	}
	metrics, err := metricsOf(plugin)
	if err != nil {
		return nil, err
	}
	stage := s.program.stage(plugin, m.Role)
	reply.Reads, reply.Writes = stage.columns.Reads.Message(), stage.columns.Writes.Message()
	if !m.ValidateOnly {
		s.plugin, s.stage, s.closed = plugin, stage, false
		s.metrics.Store(&metrics)
		s.showTopology()
	}
	return reply, nil
}

// maxPartitions bounds what the agent can make a plugin allocate per topic.
const maxPartitions = 1 << 20

// UpdateTopology hands the partition counts to the plugin.
func (s *server) UpdateTopology(_ context.Context, m *wirev1.Topology) (*wirev1.Empty, error) {
	for _, t := range m.Topics {
		if t.Partitions > maxPartitions || len(t.Unavailable) > int(t.Partitions) {
			return nil, status.Errorf(codes.InvalidArgument, "topic %q: %d partitions, %d unavailable", t.Topic, t.Partitions, len(t.Unavailable))
		}
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	s.topology = m
	s.showTopology()
	return &wirev1.Empty{}, nil
}

// showTopology needs turn.
func (s *server) showTopology() {
	observer, ok := s.plugin.(TopologyObserver)
	if !ok || s.topology == nil {
		return
	}
	topics := make([]TopicPartitions, 0, len(s.topology.Topics))
	for _, t := range s.topology.Topics {
		known := TopicPartitions{Topic: t.Topic, Partitions: int32(t.Partitions)}
		for _, p := range t.Unavailable {
			known.Unavailable = append(known.Unavailable, int32(p))
		}
		topics = append(topics, known)
	}
	observer.OnTopology(NewTopology(topics...))
}

// Acknowledge hands what became of records to the plugin until the stream ends.
func (s *server) Acknowledge(stream grpc.ClientStreamingServer[wirev1.Acknowledgements, wirev1.Empty]) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&wirev1.Empty{})
		}
		if err != nil {
			return err
		}
		ranges := make([]Acknowledgement, len(m.Ranges))
		for i, r := range m.Ranges {
			ranges[i] = Acknowledgement{
				Topic: r.Topic, Partition: r.Partition, FirstOffset: r.FirstOffset,
				Count: int(r.Count), Error: r.Error,
			}
		}
		err = s.withPlugin(func(plugin any) error {
			if o, ok := plugin.(AcknowledgementLossObserver); ok && m.Dropped > 0 {
				o.OnAcknowledgementLoss(m.Dropped)
			}
			if a, ok := plugin.(Acknowledger); ok && len(ranges) > 0 {
				a.OnAcknowledgement(ranges)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// withPlugin calls f when it is its turn.
func (s *server) withPlugin(f func(plugin any) error) error {
	s.turn.RLock()
	if s.stage.concurrent {
		defer s.turn.RUnlock()
	} else {
		s.turn.RUnlock()
		s.turn.Lock()
		defer s.turn.Unlock()
	}
	if s.plugin == nil || s.closed {
		return status.Error(codes.FailedPrecondition, "the plugin is not configured, or closed")
	}
	return f(s.plugin)
}

// Close ends the plugin's work. Called again it does nothing.
func (s *server) Close(ctx context.Context, _ *wirev1.Empty) (*wirev1.Empty, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.closed || s.plugin == nil {
		return &wirev1.Empty{}, nil
	}
	s.closed = true
	if c, ok := s.plugin.(Closer); ok {
		if err := c.Close(ctx); err != nil {
			return nil, fmt.Errorf("close %s: %w", s.program.name, err)
		}
	}
	return &wirev1.Empty{}, nil
}
