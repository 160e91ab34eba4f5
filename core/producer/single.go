package producer

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/barnabas-agent/barnabas/core/record"
)

// errReplaced is what a record's delivery ends with when its instance was given up.
var errReplaced = errors.New("the kafka client was replaced before it could deliver the record")

// single delivers records one at a time, each in a batch of its own: for sync
// pipelines, and for suspects, where only a record that fails alone is known to
// be at fault. Its instance starts with the first record. Safe for concurrent use.
type single struct {
	properties kafka.ConfigMap
	log        *slog.Logger

	mu       sync.Mutex
	instance *instance // nil: none yet, or closed
	gone     sync.WaitGroup
}

func newSingle(properties kafka.ConfigMap, log *slog.Logger) *single {
	return &single{properties: properties, log: log.With("instance", "single")}
}

// deliver sends row i of b and waits for its report. The error is ctx's, the
// client's, or the report's.
func (s *single) deliver(ctx context.Context, part *partition, b *record.Batch, i int) (int64, error) {
	inst, err := s.current()
	if err != nil {
		return 0, err
	}
	reported := make(chan kafka.TopicPartition, 1)
	m := &kafka.Message{
		TopicPartition: kafka.TopicPartition{Topic: &part.topic.name, Partition: part.number},
		Opaque:         reported,
	}
	message(m, b, i)
	err = errReplaced
	inst.query(func(client *kafka.Producer) {
		inst.outstanding.Add(1)
		if err = client.Produce(m, nil); err != nil {
			inst.outstanding.Add(-1)
		}
	})
	if err != nil {
		if verdictOf(codeOf(err)) == replace {
			inst.fail(err.Error())
		}
		return 0, err
	}
	select {
	case at := <-reported:
		return int64(at.Offset), at.Error
	case <-inst.served:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	// The report may have come with the last events.
	select {
	case at := <-reported:
		return int64(at.Offset), at.Error
	default:
		return 0, errReplaced
	}
}

// current returns an instance that has not failed.
func (s *single) current() (*instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.instance != nil && !s.instance.fatal.Load() {
		return s.instance, nil
	}
	if old := s.instance; old != nil {
		s.instance = nil
		s.gone.Go(old.close)
	}
	inst, err := startInstance(s.properties, s.log, func(m *kafka.Message) {
		if err := m.TopicPartition.Error; err != nil && verdictOf(codeOf(err)) == replace {
			s.failed(err)
		}
		m.Opaque.(chan kafka.TopicPartition) <- m.TopicPartition
	}, func() {})
	if err != nil {
		return nil, err
	}
	s.instance = inst
	return inst, nil
}

// failed has the instance replaced by the next delivery.
func (s *single) failed(err error) {
	s.mu.Lock()
	inst := s.instance
	s.mu.Unlock()
	if inst != nil {
		inst.fail(err.Error())
	}
}

func (s *single) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.instance != nil {
		s.instance.close()
		s.instance = nil
	}
	s.gone.Wait()
}
