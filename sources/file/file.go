package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// content is what a file holds from one beginning to the next truncation. It is
// the stream that the records belong to: positions of one content only grow.
type content struct {
	origin    record.Origin
	delivered atomic.Int64
	last      int64      // where the last record that was read ends; guarded by the file's lock
	marks     []bookmark // of records that were read, in their order; likewise
}

// Origin implements record.Stream. The path is the one under which the file was found.
func (c *content) Origin() record.Origin { return c.origin }

// Delivered implements record.Stream.
func (c *content) Delivered(position int64) {
	for {
		old := c.delivered.Load()
		if position <= old || c.delivered.CompareAndSwap(old, position) {
			return
		}
	}
}

// file is one tracked inode, held open until all of it is delivered. The
// discoverer looks at it, one tailer reads it, and Checkpoint saves it.
type file struct {
	identity identity     // constant
	key      string       // of its checkpoint; constant
	host     string       // constant
	rules    *rules       // constant
	lane     int          // constant
	fd       int          // handle's; valid until the tailer closes it
	average  int          // bytes per record, moving; owned by the tailer
	queued   bool         // waits for its turn; owned by the tailer
	finished bool         // once: read to its limit; owned by the tailer
	reads    backoff      // of reading; owned by the tailer
	damaged  bool         // it was said that bytes are no characters; owned by the tailer
	oddities backoff      // spaces what is said of lines that are not of the format; owned by the tailer
	cuts     backoff      // spaces what is said of lines that are cut; owned by the tailer
	rewrites backoff      // spaces what is said of them; owned by the discoverer
	cut      time.Time    // when the discoverer first dealt with a content that is gone; owned by it
	searched time.Time    // when it last looked for a copy in vain; owned by it
	folder   int64        // when the file's folder had changed at that time; owned by it
	ahead    []byte       // while a line is open, up to guardSize bytes before scanned; owned by the tailer
	noticed  bool         // in the inbox; guarded by the inbox
	awaited  bool         // in the inbox for the first time; guarded by the inbox
	emitted  checkpointed // owned by Checkpoint
	changed  time.Time    // when the discoverer saw a difference; owned by it
	untold   time.Time    // when it last saw one that no event had told of; owned by it
	opened   time.Time    // when its turn began; owned by the discoverer
	spent    time.Time    // since when it could be deleted; owned by the discoverer
	watch    *watch       // of its folder; owned by the discoverer
	slot     int          // decides in which polls it is looked at while it is quiet; constant
	nameless bool         // the last scan that could tell found no name of it; owned by the discoverer

	mu        sync.Mutex
	seen      look      // the last look; written by the discoverer
	handle    *os.File  // closed by the tailer, or by Source.Close after Run
	candidate           // the last name that matched, without its look; written by the discoverer
	content   *content  // replaced by the discoverer when the file begins anew
	after     *file     // read before this one, because its records come before; nil: none
	reading   bool      // the tailer reads at this moment; written by it
	cursor    int64     // where the next unread line begins; written by the tailer while reading
	situation situation // at the cursor; written as cursor is
	layout    int       // of its charset; owned by the tailer while reading
	packed    *packed   // nil: its bytes are the records'; replaced as content is
	sniffed   bool      // it is known whether it is compressed; written as cursor is
	padded    bool      // what was not looked at is padding; written as cursor is
	held      bool      // lines before scanned wait for others of their record; written as cursor is
	idleAt    int64     // its size when it had not grown for so long that what is held is complete; else 0
	scanned   int64     // no "\n" stands between cursor and here; written as cursor is
	tail      []byte    // up to guardSize bytes before cursor, as they were read; written as cursor is
	head      head      // of this content; read by the discoverer
	size      int64     // the largest known of this content
	limit     int64     // read no further
	unproven  bool      // the file has changed, and its first bytes were not looked at since
	truncated bool      // the content is gone: nothing is read before the discoverer begins the file anew
	gone      gone      // what is known of that
	rotated   bool      // it lost the name under which it was found; written by the discoverer
	final     bool      // nobody writes to it any more: a line without end is complete
	last      *state    // not nil: all that was read is delivered, this is its last state, and the tailer may close it
	leaving   leaving   // why last is set
	given     uint64    // the checkpoint with which its position became durable
	yielding  bool      // others wait for its descriptor: it is read no further
	closed    bool
	retry     time.Time // a read failed: not before this time again
}

// checkpointed is what Checkpoint has given for a file so far.
type checkpointed struct {
	content   *content
	position  int64
	situation situation
	size      int64
	path      string
}

// unlimited is the limit of a file that is followed.
const unlimited = math.MaxInt64

func newFile(handle *os.File, id identity, c candidate, host string, r *rules, position int64) *file {
	f := &file{
		identity:  id,
		host:      host,
		rules:     r,
		layout:    unknownLayout,
		fd:        int(handle.Fd()),
		average:   firstAverage,
		handle:    handle,
		candidate: c,
		cursor:    position,
		scanned:   position,
		size:      max(position, c.look.size),
		limit:     unlimited,
		seen:      c.look,
	}
	f.content = f.newContent(position)
	return f
}

func (f *file) newContent(position int64) *content {
	c := &content{origin: record.Origin{Kind: "file", File: f.path, Host: f.host}, last: position}
	c.delivered.Store(position)
	return c
}

// loadTail reads the bytes before the cursor, which later reads are compared with.
func (f *file) loadTail() error {
	f.tail = make([]byte, min(guardSize, f.cursor))
	return readFull(f.fd, f.tail, f.cursor-int64(len(f.tail)))
}

// observe reports whether there may be something to read.
func (f *file) observe(now time.Time) (ready bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false, nil
	}
	l, err := lookAt(f.fd)
	if err != nil {
		return false, err
	}
	differs := l.size != f.seen.size || l.modified != f.seen.modified
	if differs {
		f.changed, f.untold = now, now
		f.final, f.idleAt = false, 0   // what is written after all may be part of a line
		if f.leaving != leavesOthers { // then it is opened again in any case
			f.last, f.leaving = nil, stays
		}
	}
	touched := differs || l.changed != f.seen.changed // a time that no program can set back
	if touched {
		f.suspectLocked(l.size)
	}
	f.measureLocked(l.size)
	f.seen = l
	if !f.truncated {
		if err := f.head.extend(f.fd, l.size); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false, err
		}
	}
	if f.held && f.idleAt == 0 && now.Sub(f.changed) >= f.rules.multiline.Timeout {
		f.idleAt = f.size
	}
	unread := f.unseenLocked(now) || !f.allReadLocked() && (f.final || f.held && f.idleAt > 0)
	return (touched || unread) && f.cursor < f.limit && !now.Before(f.retry), nil
}

// onceLimit keeps a file that is read once from being read beyond what it holds now.
func (f *file) onceLimit(size int64) int64 {
	if f.limit == unlimited {
		return unlimited
	}
	return size
}

// resume takes over a saved state that the file was found to continue, and the very
// bytes that proved it.
func (f *file) resume(saved *state, found *evidence) {
	f.tail, f.head = found.tail, found.first
	if saved.form == f.rules.form() {
		f.situation = saved.situation
	}
	f.sniffed = saved.position > 0
	if saved.compression != notCompressed {
		f.sniffed, f.packed, f.layout = true, resumePacked(saved), saved.layout
		f.content = f.newContent(saved.plain)
	}
	f.emitted = checkpointed{
		content: f.content, position: f.content.last, situation: f.situation, size: saved.size, path: saved.path,
	}
}

// name returns the last name that matched.
func (f *file) name() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.path
}

func (f *file) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

func (f *file) status() FileStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	position, _ := f.settledLocked()
	delivered := f.rawLocked(position)
	size := max(f.size, f.cursor)
	return FileStatus{
		Path: f.path, Size: size, Read: f.cursor, Delivered: delivered,
		Lag: max(0, size-delivered), Rotated: f.rotated, State: FileOpen,
	}
}

// rename gives the file the name under which it was found.
func (f *file) rename(c *candidate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.candidate = *c
	f.rotated = true
}

// move gives the file the way by which it is opened again.
func (f *file) move(c *candidate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.root, f.relative = c.root, c.relative
}

// found says that the file has a name that matches.
func (f *file) found() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leaving == leavesGone {
		f.last, f.leaving = nil, stays
	}
}

// lose says that it has none any more, so that it may not be closed to be opened again.
func (f *file) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rotated = true
	if f.leaving != leavesGone {
		f.last, f.leaving = nil, stays
	}
}

// finish makes the last line of a rotated file complete, if nobody goes on
// writing it. It reports whether that leaves something to read.
func (f *file) finish(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.rotated || f.final || f.closed {
		return false
	}
	f.final = isFinal(writersOf(f.fd), now.Sub(f.changed))
	return f.final && !f.allReadLocked()
}

// isDone reports that a file without a name is delivered, and that nobody will add to it.
func (f *file) isDone(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.truncated || !f.allSettledLocked() {
		return false
	}
	return isAbandoned(writersOf(f.fd), now.Sub(f.changed))
}

// release lets the tailer close the file, of which all that was read is delivered.
// It fails when the file has changed just now.
func (f *file) release(why leaving) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	last, err := f.stateLocked()
	if err == nil {
		f.last, f.leaving = last, why
	}
	return err
}

// checkpoint returns the file's state if it changed since the last call. It is
// called by one goroutine at a time, and counts the checkpoints of the source.
func (f *file) checkpoint(count uint64) (*state, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.truncated {
		return nil, false // what was saved is what is left of the content
	}
	position, at := f.settledLocked()
	e := &f.emitted
	if e.content == f.content && e.position == position && e.situation == at && e.size == f.size && e.path == f.path {
		return nil, false
	}
	if f.closed {
		f.given = count
		e.content, e.position, e.situation, e.size, e.path = f.content, position, at, f.size, f.path
		return f.last, f.last != nil
	}
	s, err := f.stateLocked()
	if err != nil {
		return nil, false // the position stays as it was: the next call tries again
	}
	e.content, e.position, e.situation, e.size, e.path = f.content, position, at, f.size, f.path
	f.given = count
	return s, true
}

// stateLocked describes the file with everything delivered that is settled. It
// fails when the bytes before the cursor are no longer those that were read, so
// that a truncated file's new bytes never vouch for an old position.
func (f *file) stateLocked() (*state, error) {
	settled, at := f.settledLocked()
	position := f.rawLocked(settled)
	l, err := lookAt(f.fd) // before the hashes: what changes from here on has another time
	if err != nil {
		return nil, err
	}
	if err := f.head.extend(f.fd, max(f.size, position)); err != nil {
		return nil, err
	}
	s := &state{
		identity:    f.identity,
		path:        f.path,
		real:        f.real,
		position:    position,
		size:        max(f.size, position),
		headLength:  f.head.length,
		headHash:    f.head.sum(),
		guardLength: int(min(guardSize, position)),
		modified:    l.modified,
		situation:   at,
		form:        f.rules.form(),
	}
	if p := f.packed; p != nil {
		s.compression, s.plain, s.member, s.corrupt, s.layout = p.kind, settled, lastBefore(p.members, settled), p.corrupt && f.allSettledLocked(), f.layout
		s.seen = f.cursor
		if s.seenHash, err = evidenceOf(f.fd, s.seen); err != nil {
			return nil, err
		}
	}
	if s.guardHash, err = hashAt(f.fd, position-int64(s.guardLength), s.guardLength); err != nil {
		return nil, err
	}
	var tail [guardSize]byte
	if err := readFull(f.fd, tail[:len(f.tail)], f.cursor-int64(len(f.tail))); err != nil {
		return nil, err
	}
	if !bytes.Equal(tail[:len(f.tail)], f.tail) {
		return nil, fmt.Errorf("%s was replaced since it was read", f.path)
	}
	return s, nil
}

// close releases the descriptor; later calls do nothing.
func (f *file) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		f.handle.Close()
	}
}

const (
	firstDelay = time.Second
	longDelay  = time.Minute
	// repeatLog is how often a failure that lasts is logged again.
	repeatLog = 10 * time.Minute
)

// backoff spaces the attempts at something that fails, and what is said of it.
type backoff struct {
	delay  time.Duration
	logged time.Time
}

// failed returns when to try again, and whether the failure is to be logged.
func (b *backoff) failed(now time.Time) (next time.Time, report bool) {
	b.delay = min(max(firstDelay, 2*b.delay), longDelay)
	report = b.logged.IsZero() || now.Sub(b.logged) >= repeatLog
	if report {
		b.logged = now
	}
	return now.Add(b.delay), report
}

// succeeded makes the next failure a first one.
func (b *backoff) succeeded() { *b = backoff{} }
