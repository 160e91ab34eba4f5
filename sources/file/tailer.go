package file

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/watchdog"
)

const (
	// fullBatch is the block size at which a batch is large enough.
	fullBatch = 512 << 10
	// smallBatch keeps thin traffic from asking for a new size each time.
	smallBatch = 4 << 10
)

// inbox tells a tailer which files are worth a read. The discoverer puts, the
// tailer takes.
type inbox struct {
	wake chan struct{} // of one element, never closed; sent to by put and complete

	mu      sync.Mutex
	noticed []*file // each once
	closed  []*file // by the tailer, not yet forgotten by the discoverer
	given   int     // files of the lane so far
	whole   bool    // no more files will be given
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// give hands over a new file.
func (i *inbox) give(f *file) {
	i.mu.Lock()
	i.given++
	f.awaited, f.noticed = true, true
	i.noticed = append(i.noticed, f)
	i.mu.Unlock()
	i.signal()
}

// awaits reports that the file was given and not yet taken.
func (i *inbox) awaits(f *file) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return f.awaited
}

// notice asks for a turn of the file. It never waits.
func (i *inbox) notice(f *file) {
	i.mu.Lock()
	if !f.noticed {
		f.noticed = true
		i.noticed = append(i.noticed, f)
	}
	i.mu.Unlock()
	i.signal()
}

// leave says that the tailer has closed the file.
func (i *inbox) leave(f *file) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = append(i.closed, f)
}

// left returns the files that the tailer has closed since the last call.
func (i *inbox) left() []*file {
	i.mu.Lock()
	defer i.mu.Unlock()
	closed := i.closed
	i.closed = nil
	return closed
}

// complete says that no more files will be given.
func (i *inbox) complete() {
	i.mu.Lock()
	i.whole = true
	i.mu.Unlock()
	i.signal()
}

func (i *inbox) signal() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// take appends the noticed files to dst and forgets them.
func (i *inbox) take(dst []*file) []*file {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, f := range i.noticed {
		f.noticed, f.awaited = false, false
	}
	dst = append(dst, i.noticed...)
	clear(i.noticed)
	i.noticed = i.noticed[:0]
	return dst
}

// expected returns how many files the lane has, once that is settled.
func (i *inbox) expected() (files int, settled bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.given, i.whole
}

// queue holds the files that wait for their turn, in order.
type queue struct {
	files []*file
	head  int // files before it are gone
}

func (q *queue) len() int         { return len(q.files) - q.head }
func (q *queue) waiting() []*file { return q.files[q.head:] }
func (q *queue) push(f *file)     { q.files = append(q.files, f) }

func (q *queue) pop() *file {
	if q.head > len(q.files)/2 { // moves each file at most twice
		n := copy(q.files, q.files[q.head:])
		clear(q.files[n:])
		q.files, q.head = q.files[:n], 0
	}
	f := q.files[q.head]
	q.files[q.head] = nil
	q.head++
	return f
}

// unpop puts back what the last pop returned.
func (q *queue) unpop(f *file) {
	q.head--
	q.files[q.head] = f
}

// tailer reads the files of one lane in turn. It is the only goroutine that
// reads or closes them while Run lasts.
type tailer struct {
	source *Source
	lane   record.Lane
	inbox  *inbox
	room   chan<- struct{} // told when a descriptor is free; the discoverer's, never closed

	framer    *framer // nil: all files are lines as they are
	unpackers unpackers
	pulse     *watchdog.Pulse

	ready    queue
	taken    []*file // scratch of take
	need     int     // room that the first ready file asked for
	finished int     // files read to their limit
	strange  int     // lines that were not of the format
}

func newTailer(s *Source, lane record.Lane, in *inbox, room chan<- struct{}) *tailer {
	t := &tailer{source: s, lane: lane, inbox: in, room: room}
	if !s.rules.isPlain() || s.rules.decompress {
		t.framer = newFramer(&s.rules)
	}
	return t
}

// run reads until ctx ends, or in once mode until every file is read to its limit.
func (t *tailer) run(ctx context.Context) error {
	defer t.pulse.Begin()()
	defer t.unpackers.close()
	for {
		t.pulse.Answer()
		t.take()
		if t.ready.len() == 0 {
			if files, settled := t.inbox.expected(); settled && t.finished >= files {
				return nil
			}
			select {
			case <-ctx.Done():
				return nil
			case <-t.inbox.wake:
			case <-t.pulse.Asked():
			}
			continue
		}
		if err := t.turn(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("file source: %w", err)
		}
	}
}

// take moves noticed files to the end of the queue.
func (t *tailer) take() {
	t.taken = t.inbox.take(t.taken[:0])
	for _, f := range t.taken {
		t.enqueue(f)
	}
	clear(t.taken)
}

func (t *tailer) enqueue(f *file) {
	if !f.queued {
		f.queued = true
		t.ready.push(f)
	}
}

// dequeue returns the first file that need not wait for another. A file waits
// only for one that had its name before, so there is no circle.
func (t *tailer) dequeue() *file {
	for {
		f := t.ready.pop()
		if !t.waits(f) {
			f.queued = false
			return f
		}
		t.ready.push(f)
	}
}

// waits reports that the file's turn comes when another one is read. One that the
// discoverer is about to give, or has given and the tailer not taken, counts as unread.
func (t *tailer) waits(f *file) bool {
	f.mu.Lock()
	after := f.after
	f.mu.Unlock()
	if after == nil {
		return false
	}
	if t.inbox.awaits(after) {
		t.take()
	}
	if t.inbox.awaits(after) || after.queued {
		return true
	}
	f.mu.Lock()
	if f.after == after {
		f.after = nil
	}
	f.mu.Unlock()
	return false
}

// turn makes one batch out of what is ready and submits it.
func (t *tailer) turn(ctx context.Context) error {
	b, err := t.lane.NewBatch(ctx, t.size())
	if err != nil {
		return err
	}
	t.need = 0
	bytes := int64(0)
	for t.ready.len() > 0 && hasRoom(b) {
		f := t.dequeue()
		before := b.Rows()
		enough := t.read(f, b)
		if b.Rows() > before {
			bytes += b.Ends[b.Rows()-1] - b.Offsets[before]
		}
		if enough {
			break
		}
		t.take()
	}
	rows := b.Rows()
	if rows == 0 {
		t.lane.Discard(b)
		return ctx.Err()
	}
	if err := t.lane.Submit(ctx, b); err != nil {
		return err
	}
	t.source.metrics.read(rows, bytes)
	return nil
}

func hasRoom(b *record.Batch) bool {
	block := b.Value.Blocks[0]
	return b.Rows() == 0 || b.Rows() < record.MaxRows && cap(block)-len(block) >= minRoom
}

// size is the room to ask for: what the ready files are known to hold, as far as
// one batch's rows can take it.
func (t *tailer) size() int {
	if t.need > 0 {
		return t.need
	}
	most := min(fullBatch, t.source.maxBlock())
	var size int64
	for _, f := range t.ready.waiting() {
		f.mu.Lock()
		unread := min(f.size, f.limit) - f.cursor
		if f.packed != nil {
			unread = int64(most)
		}
		f.mu.Unlock()
		size += min(max(unread, 0), int64(record.MaxRows*f.average*5/4))
		if size >= int64(most) {
			return most
		}
	}
	return max(int(size), min(smallBatch, most))
}

// read gives the file one turn. It reports whether the batch must be closed.
func (t *tailer) read(f *file, b *record.Batch) (enough bool) {
	if t.closeReleased(f) {
		return false
	}
	if f.yields() {
		t.unpackers.evict(f)
		return false
	}
	skipped, err := f.skipHole()
	if err != nil {
		t.failed(f, err)
		return false
	}
	if skipped > 0 {
		t.source.decided(f.identity, "", Decision{
			Time: t.source.config.Now(), Path: f.name(), What: Holed, Reason: "these bytes were never written", Position: skipped,
		})
	}
	result, err := t.fill(f, b)
	cut, failed := f.pause(result)
	if err = errors.Join(err, failed); err != nil {
		t.failed(f, err)
		return false
	}
	f.reads.succeeded()
	if cut {
		t.unpackers.drop(f)
		t.source.cuts.put(f)
		return false
	}
	switch result {
	case more:
		t.enqueue(f)
	case paused:
		t.enqueue(f)
		return true
	case noRoom:
		f.queued = true
		t.ready.unpop(f)
		t.need = t.source.maxBlock()
		return true
	case drained:
		t.finish(f)
	}
	return false
}

// fill makes records of what the file has to read.
func (t *tailer) fill(f *file, b *record.Batch) (outcome, error) {
	now := t.source.config.Now()
	v, ok := f.view()
	if !ok {
		return replaced, nil
	}
	rules := &t.source.rules
	if rules.decompress && !f.sniffed {
		s, err := rules.shapeOf(f.fd)
		if err != nil || !f.settleShape(&v, s) {
			return drained, err
		}
	}
	switch {
	case f.packed == nil && rules.isPlain():
		return f.fill(b, &v, rules, now)
	case f.packed == nil:
		return t.frame(f, &v, b, now)
	case !t.unpackers.admit(f):
		return more, nil
	}
	result, err := t.frame(f, &v, b, now)
	t.unpackers.leave(result)
	return result, err
}

func (t *tailer) frame(f *file, v *view, b *record.Batch, now time.Time) (outcome, error) {
	found, err := f.frame(b, v, t.framer, now)
	t.source.metrics.lost(lostTruncatedLine, found.lost)
	t.report(f, &found, now)
	return found.outcome, err
}

// finish counts the file when it is read to its limit.
func (t *tailer) finish(f *file) {
	f.mu.Lock()
	atLimit := f.cursor >= f.limit && (f.packed == nil || f.allReadLocked())
	f.mu.Unlock()
	if atLimit && !f.finished {
		f.finished = true
		t.finished++
	}
}

// failed leaves the file alone for a while; the discoverer notices it again.
func (t *tailer) failed(f *file, err error) {
	t.unpackers.evict(f)
	next, report := f.reads.failed(t.source.config.Now())
	f.mu.Lock()
	f.retry = next
	f.mu.Unlock()
	if report {
		t.source.decided(f.identity, "", Decision{Time: t.source.config.Now(), Path: f.name(), What: Unread, Reason: err.Error()})
	}
}

// closeReleased closes the file if the discoverer lets it go, and nothing happened
// to it since.
func (t *tailer) closeReleased(f *file) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil || f.closed {
		return f.closed
	}
	if !f.mayLeaveLocked() {
		f.last, f.leaving = nil, stays
		return false
	}
	f.closed = true
	f.handle.Close()
	t.unpackers.drop(f)
	t.inbox.leave(f)
	select {
	case t.room <- struct{}{}:
	default:
	}
	return true
}
