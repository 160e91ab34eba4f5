// Package producer delivers batches to Kafka: the accumulator that bounds what
// is on its way, one goroutine that hands records to librdkafka grouped by
// partition, and the accounting of delivery reports that moves positions.
package producer

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/watchdog"
)

// deliveriesWaiting is how many batches may wait for the dispatcher.
const deliveriesWaiting = 4

// SendMode is what a pipeline waits for.
type SendMode string

const (
	Async         SendMode = "async"
	Sync          SendMode = "sync"
	FireAndForget SendMode = "fire_and_forget"
)

// Producer is one producer block: a librdkafka instance that its pipelines
// share, and a second one whose batches hold one record, for sync pipelines and suspects.
type Producer struct {
	config      Config
	metrics     *metric.Table
	log         *slog.Logger
	accumulator *accumulator
	topology    *topology
	single      *single
	deliveries  chan []*chunk // to the dispatcher
	observed    bool          // a client has an observer; not changed once the producer runs

	wake    chan struct{} // holds a token when broken, resolved or a fatal instance wait for the dispatcher
	started chan struct{} // closed by Run when there is a client

	mu       sync.Mutex
	main     *instance    // replaced by the dispatcher; nil before Run
	broken   []*partition // for the dispatcher to recover
	resolved []*partition // likewise; their suspects are resolved
}

// New makes a producer and starts nothing. It fails where librdkafka refuses the settings.
func New(c Config, metrics *metric.Table, log *slog.Logger) (*Producer, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	log = log.With("producer", c.Name)
	p := &Producer{
		config: c, metrics: metrics, log: log,
		accumulator: newAccumulator(c.BufferMemory, time.Now),
		topology:    newTopology(log),
		deliveries:  make(chan []*chunk, deliveriesWaiting),
		wake:        make(chan struct{}, 1),
		started:     make(chan struct{}),
	}
	p.single = newSingle(c.singleProperties(), log, func() *watchdog.Pulse { return c.pulse("delivery reports of single records") })
	return p, nil
}

// Client opens a pipeline's share. All clients are opened before Run.
func (p *Producer) Client(pipeline string, mode SendMode) *Client {
	return &Client{producer: p, account: p.accumulator.open(), mode: mode, log: p.log.With("pipeline", pipeline)}
}

// Run delivers until ctx ends. What is unresolved then stays unresolved.
func (p *Producer) Run(ctx context.Context) error {
	main, err := p.startMain()
	if err != nil {
		return fmt.Errorf("producer %q: %w", p.config.Name, err)
	}
	p.setMain(main)
	close(p.started)
	var background sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	background.Go(func() {
		p.topology.run(ctx, func(ask func(*kafka.Producer) error) {
			main := p.mainInstance()
			main.query(func(client *kafka.Producer) {
				if ask(client) == nil {
					main.connected()
				}
			})
		})
	})
	background.Go(func() { p.report(ctx) })
	newDispatcher(p).run(ctx)
	cancel()
	background.Wait()
	p.single.close()
	p.mainInstance().close()
	return nil
}

func (p *Producer) startMain() (*instance, error) {
	ordered := p.config.accountsInChunks()
	var last *partition // reports come in runs of one partition
	report := func(i *instance, m *kafka.Message) {
		tp := &m.TopicPartition
		if last == nil || last.number != tp.Partition || last.topic.name != *tp.Topic {
			last = p.topology.use(*tp.Topic).partition(tp.Partition)
		}
		p.take(i, last, m, ordered)
	}
	return startInstance(p.config.mainProperties(), p.log, p.config.pulse("delivery reports"), instanceEvents{report: report, fatal: p.signal})
}

// take accounts for one report of the main instance.
func (p *Producer) take(from *instance, part *partition, m *kafka.Message, ordered bool) {
	r := report{offset: int64(m.TopicPartition.Offset), wanted: p.observed}
	if m.Opaque != nil {
		r.marker = m.Opaque.(*chunk)
	}
	if err := m.TopicPartition.Error; err != nil {
		r.code = codeOf(err)
		p.takeFailure(from, part, r.code, err.Error())
	}
	delivered, then := part.take(r, ordered, from.fatal.Load())
	if delivered != nil {
		delivered.client.account.progressed()
		delivered.tellDelivered()
		delivered.resolution.Delivered(delivered.rows)
	}
	switch then {
	case recoverPartition:
		p.mu.Lock()
		p.broken = append(p.broken, part)
		p.mu.Unlock()
		p.signal()
	case replaceClient:
		from.fail("delivery reports are missing or too many")
	}
}

// countError counts a report that is an error. The producer's name bounds its topics.
func (p *Producer) countError(topic string, code kafka.ErrorCode) {
	p.metrics.DeliveryErrors.WithLabelValues(p.metrics.TopicLabel(p.config.Name, topic), codeName(code)).Inc()
}

// takeFailure counts a report that is an error and acts on its verdict.
func (p *Producer) takeFailure(from *instance, part *partition, code kafka.ErrorCode, reason string) {
	p.countError(part.topic.name, code)
	switch code {
	case kafka.ErrPurgeQueue, kafka.ErrPurgeInflight:
		return // follows from another error
	case kafka.ErrFatal, kafka.ErrGaplessGuarantee:
		from.fail(reason) // likewise
		return
	}
	part.setReason(code, reason)
	switch verdictOf(code) {
	case configuration:
		p.topology.refresh()
	case replace:
		from.fail(reason)
	case suspect:
		// The records behind the suspects must not pass them.
		if p.config.Idempotence {
			from.fail(reason)
		}
	}
}

func (p *Producer) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *Producer) takeBroken() (broken, resolved []*partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	broken, resolved = p.broken, p.resolved
	p.broken, p.resolved = nil, nil
	return broken, resolved
}

func (p *Producer) setMain(i *instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.main = i
}

func (p *Producer) mainInstance() *instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.main
}

// report keeps the gauge of the accumulator.
func (p *Producer) report(ctx context.Context) {
	gauge := p.metrics.BufferUsedBytes.WithLabelValues(p.config.Name)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		gauge.Set(float64(p.accumulator.total()))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Started is closed when Run has made a client, connected or not.
func (p *Producer) Started() <-chan struct{} { return p.started }

// Owed returns how many records are handed over and not reported by a broker;
// safe for concurrent use.
func (p *Producer) Owed() int64 {
	owed := p.single.owed()
	if main := p.mainInstance(); main != nil {
		owed += main.outstanding.Load()
	}
	return owed
}

// Status is what a producer says of itself.
type Status struct {
	BufferUsed, BufferLimit int64 // bytes
	// Problems say what keeps records from going on, one line each.
	Problems []string
}

// Status returns the producer's state; safe for concurrent use.
func (p *Producer) Status() Status {
	s := Status{BufferUsed: p.accumulator.total(), BufferLimit: p.config.BufferMemory}
	if main := p.mainInstance(); main != nil {
		if problem := main.trouble(); problem != "" {
			s.Problems = append(s.Problems, problem)
		}
	}
	for _, t := range p.topology.list() {
		if problem := t.trouble(); problem != "" {
			s.Problems = append(s.Problems, fmt.Sprintf("topic %s: %s", t.name, problem))
		}
		for _, part := range t.all() {
			if problem := part.trouble(); problem != "" {
				s.Problems = append(s.Problems, fmt.Sprintf("topic %s, partition %d: %s", t.name, part.number, problem))
			}
		}
	}
	slices.Sort(s.Problems)
	return s
}

// message fills m with row i of b. Produce keeps nothing of m. The timestamp 0
// means to librdkafka that the record has none: it sends the time of producing.
func message(m *kafka.Message, b *record.Batch, i int) {
	m.Value, m.Key = b.Value.Bytes(i), b.Key.Bytes(i)
	m.Timestamp = time.UnixMilli(b.Timestamps[i])
	m.Headers = m.Headers[:0]
	for _, h := range b.RowHeaders(i) {
		m.Headers = append(m.Headers, kafka.Header{Key: h.Name, Value: h.Value})
	}
}
