package producer

import (
	"strings"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/barnabas-agent/barnabas/core/record"
)

const (
	// retryFirst and retryMost bound the pause before a partition whose records
	// failed for no fault of theirs is tried again; it doubles in between.
	retryFirst = 250 * time.Millisecond
	retryMost  = 10 * time.Second
)

// backoff is the pause before attempt number attempts+1.
func backoff(attempts int) time.Duration {
	return min(retryFirst<<min(attempts, 10), retryMost)
}

// chunk is a run of records of one batch for one partition. The message of its
// last record carries the chunk as its Opaque and so marks its end among the
// reports of the partition: an Opaque on every message would cost more than the
// rest of a report (a map entry under one lock).
//
// It belongs to the dispatcher until its last record is handed to the client,
// then to whoever serves reports, then to the dispatcher again, or to the
// recovery that it gives the chunk to.
type chunk struct {
	partition  *partition
	client     *Client
	batch      *record.Batch
	resolution record.Resolution
	rows       []uint32 // ascending; those not delivered yet
	accepted   bool     // fire and forget: its positions have moved

	// under partition.mu
	done  bool // resolved
	alone bool // a suspect is among its records: each has to be sent by itself
}

// partition accounts for what is on its way to one partition. The dispatcher
// appends chunks and produces them; the goroutine that serves reports resolves them.
type partition struct {
	topic  *topic
	number int32

	mu          sync.Mutex
	chunks      []*chunk // not resolved, oldest first; resolved ones only behind such
	expected    int      // index in chunks of the one whose marker comes next
	outstanding int      // messages handed to the client and not reported
	sinceMarker int      // reports since the last marker
	codes       []kafka.ErrorCode
	lastOffset  int64
	irregular   bool // offsets since the last marker do not increase
	distrusted  bool // reports did not fit: nothing is delivered until recovered
	broken      bool // produces nothing until recovered
	attempts    int  // recoveries since the last success
	resumeAt    time.Time
	code        kafka.ErrorCode // of the last failure since the partition began to produce
	reason      string          // the same for people
	waiting     string          // why a record that is sent alone is not delivered yet
}

func newPartition(t *topic, number int32) *partition {
	return &partition{topic: t, number: number, lastOffset: -1}
}

// report is one delivery report.
type report struct {
	code   kafka.ErrorCode
	offset int64
	marker *chunk // nil but for the last record of a chunk
}

// consequence is what a report leads to, beside rows that are delivered.
type consequence int

const (
	goOn consequence = iota
	// recoverPartition: records of the partition have to be produced again.
	recoverPartition
	// replaceClient: reports are missing or too many, so the number of messages
	// that are outstanding isn't known either.
	replaceClient
)

// take accounts for one report. It returns the rows of the report's chunk that
// this shows to be delivered.
//
// A chunk is delivered when its marker arrives as the next one expected, as many
// reports came since the marker before as it has records, all are successes, and
// offsets increase. Of a chunk whose last reports are failures, the records
// before them are delivered. An invalid offset (librdkafka has none for
// duplicate sequences) is left out of the check of order. ordered says that
// reports are expected in the order of the records; else every chunk has one.
func (p *partition) take(r report, ordered bool) (delivered []uint32, then consequence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outstanding--
	p.sinceMarker++
	if r.code == kafka.ErrNoError {
		if ordered && r.offset >= 0 {
			p.irregular = p.irregular || r.offset <= p.lastOffset
			p.lastOffset = r.offset
		}
	} else if p.codes == nil {
		p.codes = make([]kafka.ErrorCode, p.sinceMarker-1, chunkRows)
	}
	if p.codes != nil {
		p.codes = append(p.codes, r.code)
	}
	if r.marker == nil {
		return nil, goOn
	}
	return p.takeMarker(r.marker, ordered)
}

// takeMarker judges the reports since the last marker.
func (p *partition) takeMarker(c *chunk, ordered bool) (delivered []uint32, then consequence) {
	fits := p.sinceMarker == len(c.rows) && !c.done && (!ordered || p.expects(c))
	irregular, codes := p.irregular, p.codes
	p.sinceMarker, p.codes, p.irregular = 0, nil, false
	for _, code := range codes {
		c.alone = c.alone || verdictOf(code) == suspect
	}
	switch {
	case !fits:
		p.distrusted, p.broken = true, true
		return nil, replaceClient
	case p.distrusted || irregular:
		p.distrusted = true
	case codes == nil:
		p.attempts = 0
		p.remove(c)
		return c.rows, goOn
	default:
		n := successes(codes)
		delivered, c.rows = c.rows[:n:n], c.rows[n:]
	}
	if p.broken {
		return delivered, goOn
	}
	p.broken = true
	return delivered, recoverPartition
}

// expects says whether c is the chunk whose marker comes next, and waits for the one behind it.
func (p *partition) expects(c *chunk) bool {
	if p.expected >= len(p.chunks) || p.chunks[p.expected] != c {
		return false
	}
	p.expected++
	return true
}

// remove takes a resolved chunk out of the queue.
func (p *partition) remove(c *chunk) {
	c.done = true
	for len(p.chunks) > 0 && p.chunks[0].done {
		p.chunks[0] = nil
		p.chunks = p.chunks[1:]
		p.expected = max(0, p.expected-1)
	}
}

// successes returns how many reports at the beginning are successes, where only
// failures follow them; else none can be told apart.
func successes(codes []kafka.ErrorCode) int {
	n := 0
	for n < len(codes) && codes[n] == kafka.ErrNoError {
		n++
	}
	for _, code := range codes[n:] {
		if code == kafka.ErrNoError {
			return 0
		}
	}
	return n
}

// setReason keeps what the last error was.
func (p *partition) setReason(code kafka.ErrorCode, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.code, p.reason = code, reason
}

// setWaiting keeps why a record that is sent alone is not delivered yet, "" once it is.
func (p *partition) setWaiting(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = reason
}

// trouble says why records of the partition do not go on, "" when they do.
func (p *partition) trouble() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.waiting != "":
		return p.waiting
	case !p.broken:
		return ""
	case p.distrusted:
		return "delivery reports did not fit: records are sent again"
	case p.reason == "":
		return "records are sent again: the client is replaced"
	}
	return p.reason
}

// enqueue appends a chunk; it returns whether it may be produced at once.
func (p *partition) enqueue(c *chunk) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.chunks = append(p.chunks, c)
	if p.broken {
		return false
	}
	p.outstanding += len(c.rows)
	return true
}

// unproduced takes back n messages of chunk c, the last one, that the client did not take.
func (p *partition) unproduced(c *chunk, n int, code kafka.ErrorCode, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outstanding -= n
	p.broken, p.code, p.reason = true, code, reason
	c.alone = c.alone || verdictOf(code) == suspect
}

// due says whether the partition may be recovered now: everything handed to the
// client is reported, and the pause after an outage is over.
func (p *partition) due(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resumeAt.IsZero() {
		p.resumeAt = now
		if v := verdictOf(p.code); p.attempts > 0 || v == outage || v == configuration {
			p.resumeAt = now.Add(backoff(p.attempts))
		}
	}
	return p.outstanding <= 0 && !now.Before(p.resumeAt)
}

// takeSuspects takes the chunks out of the queue whose records have to be sent
// one by one: up to the last that holds a suspect. The partition stays broken where there are any.
func (p *partition) takeSuspects() []*chunk {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget()
	last := -1
	for n, c := range p.chunks {
		if c.alone {
			last = n
		}
	}
	suspects := p.chunks[: last+1 : last+1]
	if len(suspects) > 0 {
		p.chunks, p.broken = p.chunks[last+1:], true
	}
	return suspects
}

// forget drops what is known of reports, of which none are outstanding or wanted
// any more, and the chunks that are done.
func (p *partition) forget() {
	open := make([]*chunk, 0, len(p.chunks))
	for _, c := range p.chunks {
		if !c.done {
			open = append(open, c)
		}
	}
	p.chunks, p.expected, p.outstanding = open, 0, 0
	p.sinceMarker, p.codes, p.irregular, p.lastOffset = 0, nil, false, -1
}

// abandon forgets what was handed to a client that is replaced. It returns
// whether records of this partition failed by an error of their own.
func (p *partition) abandon() (atFault bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget()
	atFault = p.code != kafka.ErrNoError
	p.broken = p.broken || len(p.chunks) > 0
	return atFault
}

// suspectsResolved lets the partition be recovered again at once.
func (p *partition) suspectsResolved() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempts, p.code, p.reason, p.resumeAt = 0, kafka.ErrNoError, "", time.Time{}
}

// restart lets the partition produce again and returns what that has to begin
// with, oldest first, and whether its records have to be chunks of their own,
// because their reports did not fit.
func (p *partition) restart() (again []*chunk, perRecord bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget()
	again, perRecord = p.chunks, p.distrusted
	if p.broken || len(again) > 0 {
		p.attempts++
	}
	p.chunks, p.broken, p.distrusted, p.resumeAt = nil, false, false, time.Time{}
	p.code, p.reason = kafka.ErrNoError, ""
	return again, perRecord
}

// compacted says whether a cleanup.policy includes compaction.
func compacted(policy string) bool {
	for part := range strings.SplitSeq(policy, ",") {
		if strings.TrimSpace(part) == "compact" {
			return true
		}
	}
	return false
}
