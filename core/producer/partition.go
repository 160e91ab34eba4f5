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
	rows       []uint32 // ascending
	accepted   bool     // fire and forget: its positions have moved

	// under partition.mu
	done  bool // resolved
	alone bool // a suspect is among its records: each has to be sent by itself

	landed *offsetRuns // where its records are, once they are delivered; nil: nobody wants to know
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
	lastOffset  int64
	since       sinceMarker
	distrusted  bool // reports did not fit: nothing is delivered until recovered
	perRecord   bool // and every record is to be a chunk of its own then
	broken      bool // produces nothing until recovered
	attempts    int  // recoveries since the last success
	resumeAt    time.Time
	code        kafka.ErrorCode // of the last failure since the partition began to produce
	reason      string          // the same for people
	waiting     string          // why a record that is sent alone is not delivered yet
}

// sinceMarker is what the reports since the last marker said.
type sinceMarker struct {
	reports   int
	failed    bool // one is an error
	suspects  bool // one names its record a suspect
	irregular bool // their offsets do not increase
	landed    offsetRuns
}

func newPartition(t *topic, number int32) *partition {
	return &partition{topic: t, number: number, lastOffset: -1}
}

// report is one delivery report.
type report struct {
	code   kafka.ErrorCode
	offset int64
	marker *chunk // nil but for the last record of a chunk
	wanted bool   // somebody wants to know offsets
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

// take accounts for one report. It returns the chunk that this shows to be
// delivered: its marker arrives as the next one expected, as many reports came
// since the marker before as it has records, all are successes, and offsets
// increase. An invalid offset (librdkafka has none for duplicate sequences) is
// left out of the check of order. Where one of this does not hold, all of the
// chunk is produced again: duplicates, never a gap.
//
// ordered says that reports are expected in the order of the records; else every
// record is a chunk. ending says that the client is about to be replaced: what is
// purged is reported before what was in flight, so nothing is made of the order.
func (p *partition) take(r report, ordered, ending bool) (delivered *chunk, then consequence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outstanding--
	p.since.reports++
	switch {
	case r.code != kafka.ErrNoError:
		p.since.failed = true
		p.since.suspects = p.since.suspects || verdictOf(r.code) == suspect
	case ordered && r.offset >= 0:
		p.since.irregular = p.since.irregular || r.offset <= p.lastOffset
		p.lastOffset = r.offset
	}
	if r.wanted && r.code == kafka.ErrNoError {
		p.since.landed.add(r.offset)
	}
	if r.marker == nil {
		return nil, goOn
	}
	if r.wanted {
		landed := p.since.landed
		r.marker.landed = &landed
	}
	return p.takeMarker(r.marker, ordered, ending)
}

// takeMarker judges the reports since the last marker.
func (p *partition) takeMarker(c *chunk, ordered, ending bool) (delivered *chunk, then consequence) {
	since := p.since
	p.since = sinceMarker{}
	c.alone = c.alone || since.suspects
	if since.reports != len(c.rows) || c.done || (ordered && !p.expects(c)) {
		p.distrusted, p.broken = true, true
		p.perRecord = p.perRecord || !ending
		return nil, replaceClient
	}
	if since.irregular {
		p.distrusted, p.perRecord = true, true
	}
	if !since.failed && !p.distrusted {
		p.attempts = 0
		p.remove(c)
		return c, goOn
	}
	if p.broken {
		return nil, goOn
	}
	p.broken = true
	return nil, recoverPartition
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
	case p.perRecord:
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
	p.since, p.lastOffset, p.distrusted = sinceMarker{}, -1, false
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
	again, perRecord = p.chunks, p.perRecord
	if p.broken || len(again) > 0 {
		p.attempts++
	}
	p.chunks, p.broken, p.perRecord, p.resumeAt = nil, false, false, time.Time{}
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
