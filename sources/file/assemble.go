package file

// partWait is how much later, by the times of a file's lines, another stream's line
// must be for a message that was begun to be taken for complete.
const partWait = 60_000 // milliseconds

// piece is what becomes one record, or is skipped: a stretch of the fragments of
// one stream.
type piece struct {
	stream   uint8
	first    int // fragment
	from     int // byte of its text
	last, to int // the end: byte to of fragment last
	length   int // of the value
	messages int // complete ones in it
	time     int64
	latest   int64    // of its fragments
	before   progress // of the message that it begins in
	after    progress // of the message that it ends in
	skip     bool
	open     bool // it exists
}

// track is one stream of a file while a window is assembled.
type track struct {
	next    int    // fragments of the stream before it have been passed
	offset  int    // and so many bytes of it
	passed  passed // ahead of next, from the situation that the window began with
	lexing  progress
	message piece   // begun and not complete
	group   piece   // complete messages that more may join
	ready   []piece // complete, in the stream's order; those before taken are passed
	taken   int
}

// first returns the oldest ready piece, nil if there is none.
func (t *track) first() *piece {
	if t.taken == len(t.ready) {
		return nil
	}
	return &t.ready[t.taken]
}

// assembler makes records of the fragments of one window: it joins the parts of a
// message and the lines of a record, keeps each within maxLine, and keeps the order
// of their first fragments over all streams, so that everything before a position
// has become records but for what the position's situation says.
type assembler struct {
	rules *rules
	lexer lexer
	out   filling

	window    window
	fragments []fragment
	tracks    [streamCount]track
	head      int    // the first fragment that has not been passed
	lexed     int    // bytes of the window that are in fragments
	inside    inside // of what follows them
	stopped   bool   // a record did not fit
	joined    []byte // scratch of begins
}

// begin starts on a window.
func (a *assembler) begin(w window, at situation) {
	a.window, a.lexed, a.inside, a.stopped = w, 0, at.inside, false
	a.fragments, a.head = a.fragments[:0], 0
	a.lexer.reset()
	for i := range a.tracks {
		t := &a.tracks[i]
		*t = track{passed: at.streams[i], lexing: at.streams[i].message, ready: t.ready[:0]}
	}
}

// run makes records of what is complete, until the batch is full.
func (a *assembler) run() {
	for !a.stopped {
		a.window.skipping = a.rules.format == Lines && a.tracks[0].lexing == truncated
		f, after, ok := a.lexer.next(&a.window, a.lexed, a.inside)
		if !ok {
			break
		}
		a.fragments = append(a.fragments, f)
		a.lexed, a.inside = f.end, after
		a.add(len(a.fragments) - 1)
		a.flush()
		if a.head == len(a.fragments) {
			a.forget()
		}
	}
	if !a.stopped && (a.window.idle || a.window.last) {
		for i := range a.tracks {
			a.finish(&a.tracks[i], a.window.last)
		}
		a.flush()
	}
}

// forget drops the fragments, all of which are passed.
func (a *assembler) forget() {
	a.fragments, a.head = a.fragments[:0], 0
	for i := range a.tracks {
		t := &a.tracks[i]
		t.next, t.offset = 0, 0
	}
	a.lexer.reset()
}

// force completes what holds the others up, for want of room to look further.
func (a *assembler) force() {
	var oldest *track
	first := len(a.fragments)
	for i := range a.tracks {
		if at := a.tracks[i].oldest(); at < first {
			oldest, first = &a.tracks[i], at
		}
	}
	if oldest == nil {
		return
	}
	if oldest.group.open {
		a.closeGroup(oldest)
	} else {
		a.cut(oldest, continued)
	}
	a.flush()
}

// oldest returns the first fragment of what is not complete in a track.
func (t *track) oldest() int {
	switch {
	case t.group.open:
		return t.group.first
	case t.message.open && (t.message.length > 0 || t.message.before == fresh):
		return t.message.first
	default:
		return int(^uint(0) >> 1)
	}
}

// finish completes what is there of a stream.
func (a *assembler) finish(t *track, parts bool) {
	if parts && t.message.open {
		a.complete(t)
	}
	if t.group.open {
		a.closeGroup(t)
	}
}

// add takes a fragment.
func (a *assembler) add(i int) {
	f := &a.fragments[i]
	if f.time > 0 {
		a.age(f)
	}
	t := &a.tracks[f.stream]
	from, passed := t.pass(i, f)
	if passed {
		a.advance()
		return
	}
	if t.lexing == truncated {
		t.ready = append(t.ready, piece{
			stream: f.stream, first: i, from: from, last: i, to: len(f.text), before: truncated, after: t.ends(f, truncated), skip: true, open: true,
		})
		t.lexing = t.ready[len(t.ready)-1].after
		return
	}
	a.extend(t, i, from)
	if f.complete && t.message.open {
		a.complete(t)
	} else if f.complete {
		t.lexing = fresh
	}
}

// ends returns the progress behind a fragment.
func (t *track) ends(f *fragment, p progress) progress {
	if f.complete {
		return fresh
	}
	return p
}

// pass leaves out what became a record before the window's position. It returns
// where the rest of the fragment begins, or that there is none.
func (t *track) pass(i int, f *fragment) (from int, all bool) {
	p := &t.passed
	if p.messages > 0 {
		if f.complete {
			p.messages--
		}
		t.next, t.offset = i+1, 0
		return 0, true
	}
	if p.bytes == 0 {
		return 0, false
	}
	from = int(min(p.bytes, int64(len(f.text))))
	p.bytes -= int64(from)
	if from < len(f.text) {
		t.next, t.offset = i, from
		return from, false
	}
	t.next, t.offset = i+1, 0
	if f.complete {
		t.lexing, p.message, p.bytes = fresh, fresh, 0
	}
	return from, true
}

// extend adds the text of a fragment to its stream's message, and cuts off what is
// more than a record holds.
func (a *assembler) extend(t *track, i, from int) {
	f := &a.fragments[i]
	for {
		m := &t.message
		if !m.open {
			*m = piece{stream: f.stream, first: i, from: from, time: f.time, before: t.lexing, open: true}
		}
		if m.length == 0 && m.before != fresh { // empty parts add nothing to what was cut
			m.first, m.from = i, from
		}
		left := len(f.text) - from
		m.latest = max(m.latest, f.time)
		whole := a.rules.charset != nil && !f.complete // the lexer has cut between characters
		if m.length+left <= a.rules.maxLine && !whole {
			m.last, m.to = i, len(f.text)
			m.length += left
			return
		}
		n := min(a.rules.maxLine-m.length, left)
		from += n
		m.last, m.to = i, from
		m.length += n
		if done := a.long(t, i); done || whole {
			return
		}
	}
}

// long cuts a piece off a message that is too long. It reports that nothing is left
// of the fragment.
func (a *assembler) long(t *track, i int) (done bool) {
	f := &a.fragments[i]
	switch a.rules.onLongLine {
	case Truncate:
		to := t.message.to
		a.cut(t, truncated)
		t.ready = append(t.ready, piece{
			stream: f.stream, first: i, from: to, last: i, to: len(f.text), before: truncated, after: t.ends(f, truncated), skip: true, open: true,
		})
		t.lexing = t.ready[len(t.ready)-1].after
		return true
	case Quarantine:
		a.cut(t, refused)
	default:
		a.cut(t, continued)
	}
	return false
}

// cut ends a piece within its message. What it would have joined is complete.
func (a *assembler) cut(t *track, after progress) {
	if t.group.open {
		a.closeGroup(t)
	}
	m := t.message
	m.after = after
	if m.before == refused {
		m.after = refused
	}
	t.lexing = m.after
	t.ready = append(t.ready, m)
	t.message = piece{}
}

// complete takes the message, which is whole.
func (a *assembler) complete(t *track) {
	m := t.message
	m.messages = 1
	if !a.fragments[m.last].complete { // nothing follows, as far as is known
		m.after = max(continued, m.before)
	}
	t.message, t.lexing = piece{}, m.after
	switch {
	case m.before != fresh && m.length == 0:
		m.skip = true
		t.ready = append(t.ready, m)
	case a.rules.multiline == nil || m.before != fresh:
		t.ready = append(t.ready, m)
	default:
		a.join(t, m)
	}
}

// join adds a message to its stream's record, or begins the next one with it.
func (a *assembler) join(t *track, m piece) {
	g := &t.group
	if g.open && (g.length+1+m.length > a.rules.maxLine || a.rules.multiline.begins(a.textOf(&m))) {
		a.closeGroup(t)
	}
	if g.open {
		g.last, g.to, g.after = m.last, m.to, m.after
		g.length += 1 + m.length
		g.messages++
		g.latest = max(g.latest, m.latest)
	} else {
		*g = m
	}
	if g.messages == a.rules.multiline.MaxLines {
		a.closeGroup(t)
	}
}

func (a *assembler) closeGroup(t *track) {
	t.ready = append(t.ready, t.group)
	t.group = piece{}
}

// textOf returns the value of a piece of one message, valid until the next call.
func (a *assembler) textOf(p *piece) []byte {
	if p.first == p.last {
		return a.fragments[p.first].text[p.from:p.to]
	}
	a.joined = a.appendValue(a.joined[:0], p)
	return a.joined
}

// appendValue appends the value of a piece.
func (a *assembler) appendValue(dst []byte, p *piece) []byte {
	from := p.from
	for i := p.first; i <= p.last; i++ {
		f := &a.fragments[i]
		if f.stream != p.stream {
			continue
		}
		to := len(f.text)
		if i == p.last {
			to = p.to
		}
		dst = append(dst, f.text[from:to]...)
		if f.complete && i < p.last {
			dst = append(dst, '\n')
		}
		from = 0
	}
	return dst
}

// age completes what another stream left unfinished so long before a line that
// nothing is to be expected.
func (a *assembler) age(f *fragment) {
	for i := range a.tracks {
		t := &a.tracks[i]
		if uint8(i) == f.stream {
			continue
		}
		if t.group.open && !t.message.open && t.group.latest > 0 && f.time-t.group.latest >= a.rules.multiline.Timeout.Milliseconds() {
			a.closeGroup(t)
		}
		if t.message.open && t.message.latest > 0 && f.time-t.message.latest >= partWait {
			a.cut(t, continued)
		}
	}
}

// flush passes ready pieces on, as long as nothing that began before is unfinished.
func (a *assembler) flush() {
	for !a.stopped {
		first := int(^uint(0) >> 1)
		var oldest *track
		for i := range a.tracks {
			if p := a.tracks[i].first(); p != nil && p.first < first {
				oldest, first = &a.tracks[i], p.first
			}
		}
		if oldest == nil {
			return
		}
		for i := range a.tracks {
			t := &a.tracks[i]
			if t.first() == nil && t.oldest() < first {
				return
			}
		}
		p := oldest.first()
		if !p.skip && !a.out.fits(p) {
			a.stopped = true
			return
		}
		a.consume(oldest, p)
		if oldest.taken++; oldest.taken == len(oldest.ready) {
			oldest.ready, oldest.taken = oldest.ready[:0], 0
		}
	}
}

// consume passes a piece, and hands it out.
func (a *assembler) consume(t *track, p *piece) {
	t.next, t.offset = p.last, p.to
	if t.offset == len(a.fragments[p.last].text) {
		t.next, t.offset = p.last+1, 0
	}
	t.passed.message = p.after
	a.advance()
	a.out.take(a, p)
}

// advance moves head over what has been passed.
func (a *assembler) advance() {
	for a.head < len(a.fragments) && a.tracks[a.fragments[a.head].stream].next > a.head {
		a.head++
	}
}

// position returns where reading goes on in the window, and what must be known there.
func (a *assembler) position() (int, situation) {
	s := situation{inside: a.inside}
	at := a.lexed
	if a.head < len(a.fragments) {
		at, s.inside = a.fragments[a.head].start, a.fragments[a.head].inside
	}
	for i := range a.tracks {
		s.streams[i] = a.tracks[i].since(a.head, a.fragments, uint8(i))
	}
	if a.rules.inPlace() {
		at += int(s.streams[0].bytes)
		s.streams[0].bytes = 0
	}
	return at, s
}

// since counts what a stream has passed from a fragment on.
func (t *track) since(head int, fragments []fragment, stream uint8) passed {
	p := t.passed
	var messages, bytes int64
	for i := head; i < t.next && i < len(fragments); i++ {
		if f := &fragments[i]; f.stream == stream && f.complete {
			messages, bytes = messages+1, 0
		} else if f.stream == stream {
			bytes += int64(len(f.text))
		}
	}
	if p.messages == 0 {
		p.bytes += bytes + int64(t.offset)
	}
	p.messages += messages
	return p
}
