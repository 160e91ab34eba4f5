package producer

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/watchdog"
)

var (
	// errReplaced is what a record's delivery ends with when its instance was given up.
	errReplaced = errors.New("the kafka client was replaced before it could deliver the record")
	errClosed   = errors.New("the producer has ended")
)

// single delivers records one at a time, each in a batch of its own: for sync
// pipelines, and for suspects, where only a record that fails alone is known to
// be at fault. Its instance starts with the first record. Safe for concurrent use.
type single struct {
	properties kafka.ConfigMap
	log        *slog.Logger
	pulse      func() *watchdog.Pulse // makes one for each instance

	mu       sync.Mutex
	instance *instance // nil: none yet, or closed
	closed   bool
	gone     sync.WaitGroup // instances that are being closed
}

func newSingle(properties kafka.ConfigMap, log *slog.Logger, pulse func() *watchdog.Pulse) *single {
	return &single{properties: properties, log: log.With("instance", "single"), pulse: pulse}
}

// deliver sends row i of b and waits for its report. The error is ctx's, the
// client's, or the report's.
func (s *single) deliver(ctx context.Context, part *partition, b *record.Batch, i int) (offset int64, err error) {
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
		return 0, ctx.Err() // a broker may have the record all the same: it is read again
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
	if s.closed {
		return nil, errClosed
	}
	if s.instance != nil && !s.instance.fatal.Load() {
		return s.instance, nil
	}
	if old := s.instance; old != nil {
		s.instance = nil
		s.gone.Go(old.close)
	}
	inst, err := startInstance(s.properties, s.log, s.pulse(), instanceEvents{
		report: func(i *instance, m *kafka.Message) {
			if err := m.TopicPartition.Error; err != nil && verdictOf(codeOf(err)) == replace {
				i.fail(err.Error())
			}
			m.Opaque.(chan kafka.TopicPartition) <- m.TopicPartition
		},
		fatal: func() {}, // the next delivery finds out
	})
	if err != nil {
		return nil, err
	}
	s.instance = inst
	return inst, nil
}

// owed returns how many records await their report.
func (s *single) owed() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.instance == nil {
		return 0
	}
	return s.instance.outstanding.Load()
}

// close ends the instance; deliveries fail from here on.
func (s *single) close() {
	s.mu.Lock()
	s.closed = true
	last := s.instance
	s.instance = nil
	s.mu.Unlock()
	if last != nil {
		last.close()
	}
	s.gone.Wait()
}
