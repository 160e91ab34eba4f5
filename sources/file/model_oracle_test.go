package file

import (
	"os"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/barnabas-agent/barnabas/core/record"
)

// thing is one inode: what stays the same when names change.
type thing struct {
	id      identity
	body    *body    // what it holds
	bodies  []*body  // all that it held
	writer  *os.File // of a program that has it open; nil without
	copied  bool     // it is a copy or has one, and may be read in the place of another
	moved   bool     // some name came to it or went: its last line may count as complete
	durable mark     // what the store has

	// Of this run of the agent.
	known    bool // it was followed, or its position was saved: it is found under any name
	orphan   bool // it is not open, and resume waits for it
	waits    int  // its size, while it waits unread for its turn
	followed *following
	resume   mark // where it is read on if it is followed anew
}

// body is what a file held from one truncation to the next.
type body struct {
	bytes     string
	owed      int // once it can't be read any more: what has to arrive; -1 before
	delivered int // from the beginning on, ever
}

// mark is a position in a body.
type mark struct {
	body     *body // nil: there is none
	position int
	size     int // known at that time
}

// following is what the agent knows of a file that it has open.
type following struct {
	file    *file
	last    *state   // the file's, when it was looked at
	content *content // the agent's view of what body was when the agent began with it
	start   mark     // where its first record must begin
	latest  *reading // nil before the first record
	cursor  int      // of content
	known   int      // size that a poll saw
	cut     bool     // a poll saw that bytes were taken away
	pending int      // those of them that were not read
	gone    int      // bytes that were taken away unread, seen or not, and are not counted yet
	stale   bool     // bytes were taken away, and the agent did not begin anew
}

// reading is what came of one stream.
type reading struct {
	stream record.Stream
	thing  *thing
	body   *body
	next   int    // where the next record begins
	acked  int    // what is delivered
	ends   []mark // of the records that are not delivered
}

func newBody() *body { return &body{owed: -1} }

// continues says that the first n bytes of b are those of other, so that a position
// in one is as good in the other.
func (b *body) continues(other *body, n int) bool {
	return len(b.bytes) >= n && len(other.bytes) >= n && b.bytes[:n] == other.bytes[:n]
}

// lose says that nothing of the body can be read any more.
func (b *body) lose(read int) {
	if b.owed < 0 {
		b.owed = max(b.delivered, read)
	}
}

// shares returns how many of the first n bytes of other b begins with.
func (b *body) shares(other *body, n int) int {
	n = min(n, len(b.bytes))
	for i := range n {
		if b.bytes[i] != other.bytes[i] {
			return i
		}
	}
	return n
}

// fits says that b goes on where m is: nothing was cut off, and the bytes before the
// position and the first ones are the same.
func (m mark) fits(b *body) bool {
	return m.body != nil && len(b.bytes) >= max(m.position, m.size) && b.continues(m.body, max(m.position, min(headSize, m.size)))
}

// in returns the position at which b is read on, 0 if it is not what m is of.
func (m mark) in(b *body) int {
	if !m.fits(b) {
		return 0
	}
	return m.position
}

func (th *thing) begin(saved bool) {
	th.known, th.orphan, th.followed, th.resume, th.waits = saved, saved, nil, th.durable, 0
	if !saved {
		th.durable, th.resume = mark{}, mark{}
	}
}

func (th *thing) closeWriter() {
	if th.writer != nil {
		th.writer.Close()
		th.writer = nil
	}
}

// read is how far this run has read what the file holds.
func (th *thing) read() int {
	if fl := th.followed; fl != nil && fl.latest != nil && fl.latest.body == th.body {
		return fl.latest.next
	}
	return 0
}

// replaced gives the file a new content that begins with what is left of the old.
func (m *model) replaced(th *thing, rest string) {
	old := th.body
	if fl := th.followed; fl != nil && len(rest) < len(old.bytes) {
		lost := len(old.bytes)
		if !fl.stale {
			lost -= fl.cursor
		}
		fl.gone += max(0, lost)
		fl.stale = true
	}
	read := th.read()
	th.body = newBody()
	th.body.bytes, th.body.delivered = rest, min(len(rest), old.delivered)
	th.bodies = append(th.bodies, th.body)
	old.lose(read)
}

// thingOf returns the inode that the agent follows as f.
func (m *model) thingOf(f *file) *thing {
	for _, th := range m.all {
		if th.id == f.identity {
			return th
		}
	}
	m.Fatalf("%s is followed as %v, which never was", f.path, f.identity)
	return nil
}

// open returns the agent's view of the file, nil if it does not have it open.
func (m *model) open(th *thing) *file {
	f := m.discovers.tracked[th.id.inode]
	if f == nil || f.identity != th.id || f.closed {
		return nil
	}
	return f
}

// named says that the folder has a name of the file, visible that a pattern
// matches one.
func (m *model) named(th *thing) (named, visible bool) {
	for name, other := range m.names {
		if other == th {
			named = true
			visible = visible || strings.HasSuffix(name, ".log") || name == m.link
		}
	}
	return named, visible
}

// looked takes note of what the discoverer saw.
func (m *model) looked() {
	for _, th := range m.all {
		f := m.open(th)
		if th.orphan {
			m.usedPosition(th, f)
		}
		if f != nil {
			m.saw(th, f)
		}
		m.waiting(th, f)
	}
}

func (m *model) saw(th *thing, f *file) {
	fl := th.followed
	if fl == nil || fl.file != f {
		start := mark{th.body, th.resume.in(th.body), 0}
		if th.copied && start.position == 0 {
			start.position = int(f.cursor) // where the file was cut of which it is the copy
		}
		fl = &following{file: f, content: f.content, start: start, cursor: start.position, known: len(th.body.bytes), latest: m.readings[f.content]}
		th.followed, th.known = fl, true
	}
	if f.last != nil && f.last != fl.last { // it may be closed
		fl.last = f.last
		th.resume = m.vouched(th, f.last)
	}
	if l, err := lookAt(f.fd); err != nil || l.size != f.seen.size || l.modified != f.seen.modified {
		return // the event was not of this file
	}
	size := len(th.body.bytes)
	if size < fl.known {
		if fl.cut {
			fl.pending += fl.known
		} else {
			fl.pending += max(0, fl.known-fl.cursor)
		}
		fl.cut = true
	}
	fl.known = size
}

// usedPosition accounts for a position that is no longer waiting for its file.
func (m *model) usedPosition(th *thing, f *file) {
	undelivered := th.resume.size - th.resume.position
	switch {
	case f != nil && th.resume.fits(th.body):
	case f != nil:
		m.lost(lostTruncated, undelivered)
	case m.isOrphan(th):
		return
	default:
		if named, _ := m.named(th); named {
			m.Fatalf("the position of a file was given up that still has a name")
		}
		m.lost(lostVanished, undelivered)
	}
	th.orphan = false
}

// isOrphan says that the agent keeps a position of a file that is not open.
func (m *model) isOrphan(th *thing) bool {
	for _, s := range m.discovers.orphans[th.id.inode] {
		if s.identity == th.id {
			return true
		}
	}
	f := m.discovers.tracked[th.id.inode]
	return f != nil && f.identity == th.id && f.closed // it has not noticed yet
}

// waiting accounts for a file that was gone before its turn came.
func (m *model) waiting(th *thing, f *file) {
	r := m.source.resting[th.id.inode]
	named, _ := m.named(th)
	switch {
	case r != nil && r.saved == nil && r.reason == FileWaits && named:
		th.waits = int(r.look.size)
	case r == nil && f == nil && !named && th.waits > 0:
		m.counted[lostVanished].most += th.waits // unless its number was given again, or it couldn't be read
		m.waited = true
		th.waits = 0
	case f != nil:
		th.waits = 0
	}
}

// taken says that another file has the inode number, which looks like a new name.
func (m *model) taken(th *thing) bool {
	return slices.ContainsFunc(m.all, func(other *thing) bool { return other != th && other.id.inode == th.id.inode })
}

// lost says that the agent counts so many bytes as lost.
func (m *model) lost(reason string, n int) {
	m.counted[reason].least += n
	m.counted[reason].most += n
}

// restarted takes note of what the tailer did.
func (m *model) restarted() {
	for _, th := range m.all {
		fl := th.followed
		if fl == nil {
			continue
		}
		if fl.file.content != fl.content {
			if !fl.stale {
				m.Fatalf("%s was begun anew, and is what it was", fl.file.path)
			}
			m.counted[lostTruncated].least += fl.pending
			m.counted[lostTruncated].most += fl.gone
			*fl = following{file: fl.file, content: fl.file.content, start: mark{th.body, 0, 0}, latest: fl.latest, known: len(th.body.bytes)}
		}
		if r := fl.latest; r != nil && r.stream == fl.content {
			fl.cursor = r.next
		}
	}
}

// arrived checks one record.
func (m *model) arrived(stream record.Stream, value []byte, offset, end int) {
	r := m.readings[stream]
	if r == nil {
		r = m.began(stream)
	}
	if th := m.owner(stream); th != r.thing { // it is a copy
		r.thing = th
		th.followed.latest = r
	}
	now := r.thing.body
	if r.body != now {
		if !now.continues(r.body, r.next) {
			m.Fatalf("%q was read on at %d, where its content was replaced", stream.Origin().File, r.next)
		}
		r.body = now
	}
	if offset != r.next {
		m.Fatalf("a record of %q begins at %d, %d is next", stream.Origin().File, offset, r.next)
	}
	behind := offset + len(value)
	if behind > len(now.bytes) || now.bytes[offset:behind] != string(value) {
		m.Fatalf("%q holds no %q at %d", stream.Origin().File, value, offset)
	}
	switch {
	case strings.Contains(string(value), "\n"):
		m.Fatalf("%q is more than one line", value)
	case end == behind+1 && now.bytes[behind] == '\n':
	case end == behind && len(value) == maxModelLine:
	case end == behind && behind == len(now.bytes) && (r.thing.moved || r.thing.copied || m.taken(r.thing)):
	default:
		m.Fatalf("%q of %q is not the whole line: it reaches to %d", value, stream.Origin().File, end)
	}
	r.next = end
	r.ends = append(r.ends, mark{body: now, position: end})
}

// owner returns the file that a stream's records are read from now.
func (m *model) owner(stream record.Stream) *thing {
	for _, f := range m.discovers.tracked {
		if f.content == stream {
			return m.thingOf(f)
		}
	}
	m.Fatalf("a record of %q came, which is not followed", stream.Origin().File)
	return nil
}

// began finds out which file a new stream is of, and where it must begin.
func (m *model) began(stream record.Stream) *reading {
	th := m.owner(stream)
	r := &reading{stream: stream, thing: th, body: th.body}
	if th.followed.content == stream {
		r.next = th.followed.start.in(th.body)
	}
	if r.next > th.body.delivered {
		m.Fatalf("%s is read from %d on, delivered are %d bytes", stream.Origin().File, r.next, th.body.delivered)
	}
	th.followed.latest = r
	r.acked = r.next
	m.readings[stream] = r
	m.order = append(m.order, r)
	return r
}

// delivered resolves the next n records. What was delivered of one file is delivered of
// its copies too.
func (m *model) delivered(r *reading, n int) {
	if n == 0 {
		return
	}
	last := r.ends[n-1]
	r.ends = r.ends[n:]
	r.stream.Delivered(int64(last.position))
	r.acked = last.position
	for _, th := range m.all {
		for _, b := range th.bodies {
			b.delivered = max(b.delivered, b.shares(last.body, last.position))
		}
	}
}

// commit makes positions durable, and checks that they are neither ahead of what
// was delivered nor behind it.
func (m *model) commit() {
	m.positions.Commit(m.source)
	for _, th := range m.all {
		encoded := m.positions[m.source.key(th.id)]
		f := m.open(th)
		if encoded == nil {
			if named, _ := m.named(th); named && f == nil && th.durable.body != nil {
				m.Fatalf("the position of a file was removed that still has a name")
			}
			th.durable = mark{}
			continue
		}
		st, err := decodeState(encoded)
		m.must(err)
		th.durable = m.vouched(th, st)
		if f == nil || th.followed.stale {
			continue
		}
		if r := th.followed.latest; r != nil && r.stream == f.content && int64(r.acked) != st.position {
			m.Fatalf("position %d of %s was saved, %d is delivered", st.position, st.path, r.acked)
		}
	}
}

// vouched returns the content that a state is of, the latest that it fits. All before
// its position was delivered.
func (m *model) vouched(th *thing, st *state) mark {
	for _, b := range slices.Backward(th.bodies) {
		position := int(st.position)
		if len(b.bytes) < max(position, st.headLength) || b.delivered < position {
			continue
		}
		guard := b.bytes[position-st.guardLength : position]
		if xxhash.Sum64String(b.bytes[:st.headLength]) == st.headHash && xxhash.Sum64String(guard) == st.guardHash {
			return mark{b, position, int(st.size)}
		}
	}
	if st.position > 0 {
		m.Fatalf("position %d of %s was saved, up to which nothing was delivered", st.position, st.path)
	}
	return mark{body: newBody(), size: int(st.size)} // it was replaced as its first bytes were looked at: it begins anew
}

// settle takes note of what can't be read any more.
func (m *model) settle() {
	for _, th := range m.all {
		named, visible := m.named(th)
		f := m.open(th)
		if fl := th.followed; fl != nil && f == nil {
			th.followed, th.orphan = nil, true
			if fl.file.leaving == leavesGone && th.body.delivered < len(th.body.bytes) {
				m.Fatalf("%s was closed with %d of %d bytes delivered", fl.file.path, th.body.delivered, len(th.body.bytes))
			}
			if r := fl.latest; r != nil && r.stream == fl.content && len(r.ends) > 0 {
				m.Fatalf("%s was closed while records of it were not delivered", fl.file.path)
			}
		}
		if f != nil || visible || named && th.known {
			same := f == nil && !visible && len(th.body.bytes) == th.resume.position && th.resume.in(th.body) == 0
			if !same {
				continue
			}
			// Its size says that nothing is new, until the next start.
		}
		th.body.lose(th.read())
	}
}

// forget is what a crash makes unreadable, and unknown.
func (m *model) forget() {
	m.collect()
	for _, th := range m.all {
		named, visible := m.named(th)
		if !visible && (!named || m.positions[m.source.key(th.id)] == nil) {
			th.body.lose(0)
		}
		for _, b := range th.bodies {
			if b.owed >= 0 {
				b.owed = b.delivered
			}
		}
	}
}

// collect takes the agent's counters before they are gone.
func (m *model) collect() {
	for reason := range m.counted {
		m.got[reason] += lostBytes(m.t, m.source, reason)
	}
}

// account is the end: what is missing, and what was counted.
func (m *model) account() {
	for _, th := range m.all {
		_, visible := m.named(th)
		for _, b := range th.bodies {
			owed := b.owed
			if owed < 0 && visible {
				owed = strings.LastIndexByte(b.bytes, '\n') + 1
			} else if owed < 0 {
				owed = len(b.bytes)
			}
			if b.delivered < owed {
				m.Fatalf("missing: %q", b.bytes[b.delivered:owed])
			}
		}
		if f := m.open(th); f != nil && !visible && f.status().Lag == 0 { // a copy may have been found just now
			m.Fatalf("%s is delivered and has no name, and is not closed", f.path)
		}
	}
	m.collect()
	if m.copies {
		return
	}
	for reason, b := range m.counted {
		if got := m.got[reason]; got < b.least || got > b.most {
			m.Fatalf("%d bytes are counted as lost, %s, expected %d to %d", got, reason, b.least, b.most)
		} else if m.attentive && !m.waited && b.least != b.most {
			m.Fatalf("%d to %d bytes were lost, %s: an attentive agent knows", b.least, b.most, reason)
		}
	}
}
