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
	// fruitless is how many recoveries in a row may end without a success
	// before the oldest records of a partition are sent one by one.
	fruitless = 3
)

// chunk is a run of records of one batch for one partition. The message of its
// last record carries the chunk as its Opaque and so marks its end among the
// reports of the partition: an Opaque on every message would cost more than the
// rest of a report (a map entry under one lock).
type chunk struct {
	partition  *partition
	client     *Client
	batch      *record.Batch
	resolution record.Resolution
	rows       []uint32 // ascending

	// under partition.mu
	codes    []kafka.ErrorCode // the reports, in order, where one of them was an error and their number fits
	done     bool
	accepted bool // fire and forget: its positions have moved
}

// partition accounts for what is on its way to one partition. The dispatcher
// appends chunks and produces them; the goroutine that serves reports resolves them.
type partition struct {
	topic  *topic
	number int32

	mu          sync.Mutex
	chunks      []*chunk // not resolved, oldest first
	outstanding int      // messages handed to the client and not reported
	sinceMarker int      // reports since the last marker
	codes       []kafka.ErrorCode
	lastOffset  int64
	irregular   bool // the reports since the last marker do not fit
	broken      bool // produces nothing until recovered
	perRecord   bool // every record is its own chunk, until nothing is outstanding
	attempts    int  // recoveries since the last success
	resumeAt    time.Time
	code        kafka.ErrorCode // of the last report that was an error
	reason      string          // the same for people
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

// take accounts for one report. It returns the chunk that this resolves as
// delivered, if any, and whether the partition needs to be recovered from here on.
//
// A chunk is delivered when its marker arrives, as many reports came since the
// marker before as it has records, all are successes, and offsets increase. An
// invalid offset (librdkafka has none for duplicate sequences) is left out of the check of order.
func (p *partition) take(r report, ordered bool) (delivered *chunk, broke bool) {
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
		return nil, false
	}
	fits := p.sinceMarker == len(r.marker.rows) && !p.irregular
	codes := p.codes
	p.sinceMarker, p.codes, p.irregular = 0, nil, false
	if fits && codes == nil {
		p.attempts = 0
		p.remove(r.marker)
		return r.marker, false
	}
	if fits {
		r.marker.codes = codes
	} else {
		p.perRecord = true
	}
	broke = !p.broken
	p.broken = true
	return nil, broke
}

// remove takes a delivered chunk out of the queue.
func (p *partition) remove(c *chunk) {
	c.done = true
	for len(p.chunks) > 0 && p.chunks[0].done {
		p.chunks[0] = nil
		p.chunks = p.chunks[1:]
	}
}

// setReason keeps what the last error was.
func (p *partition) setReason(code kafka.ErrorCode, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.code, p.reason = code, reason
}

// trouble says why the partition produces nothing, "" when it does.
func (p *partition) trouble() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.broken {
		return ""
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

// unproduced takes back messages of the last chunk that the client did not take.
func (p *partition) unproduced(n int, code kafka.ErrorCode, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outstanding -= n
	p.broken, p.code, p.reason = true, code, reason
}

// withdraw removes the chunk that was enqueued last, of whose one record nothing was produced.
func (p *partition) withdraw(c *chunk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outstanding--
	p.remove(c)
}

// postpone sets when the partition is to be recovered and returns whether that is now.
func (p *partition) postpone(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resumeAt.IsZero() {
		p.resumeAt = now
		if v := verdictOf(p.code); v == outage || v == configuration {
			p.resumeAt = now.Add(min(retryFirst<<min(p.attempts, 10), retryMost))
		}
	}
	return p.outstanding == 0 && !now.Before(p.resumeAt)
}

// tired says whether recoveries keep ending without a success.
func (p *partition) tired() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.attempts >= fruitless && verdictOf(p.code) == replace
}

// mend lets the partition produce again. It returns whether its records have to be chunks of their own.
func (p *partition) mend() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken, p.resumeAt = false, time.Time{}
	p.attempts++
	single := p.perRecord
	p.perRecord = false
	return single
}

// unresolved takes everything out of the queue that has to be produced again,
// oldest first, and forgets the reports so far. A chunk whose reports are known
// to be successes followed by failures is delivered up to the first failure;
// where that is not certain all of it is produced again: duplicates, never a gap.
func (p *partition) unresolved() (again []*chunk, delivered []*chunk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.chunks {
		if c.done {
			continue
		}
		if n := successes(c.codes); n > 0 {
			delivered = append(delivered, &chunk{client: c.client, batch: c.batch, resolution: c.resolution, partition: p, rows: c.rows[:n]})
			c.rows, c.codes = c.rows[n:], c.codes[n:]
		}
		again = append(again, c)
	}
	p.chunks, p.outstanding = nil, 0
	p.sinceMarker, p.codes, p.irregular, p.lastOffset = 0, nil, false, -1
	return again, delivered
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
	if n == len(codes) {
		return 0
	}
	return n
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
