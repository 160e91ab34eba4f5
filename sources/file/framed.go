package file

import (
	"bytes"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// framer makes records of files whose lines need more than the splitter: one per
// lane, used by its tailer alone.
type framer struct {
	rules     *rules
	assembler assembler
	container *containerLexer // nil: another format
	charset   *charsetLexer   // nil: UTF-8
	scratch   []byte          // what is looked at of a file, where that is not in the batch
}

func newFramer(r *rules) *framer {
	f := &framer{rules: r}
	f.assembler.rules = r
	switch {
	case r.format != Lines:
		f.container = newContainerLexer(r)
		f.assembler.lexer = f.container
	case r.charset != nil:
		f.charset = newCharsetLexer(r)
		f.assembler.lexer = f.charset
	default:
		f.assembler.lexer = &lineLexer{maxLine: r.maxLine}
	}
	return f
}

// framed is what a fill of a framer found.
type framed struct {
	outcome outcome
	intake  intake // of a compressed file
	lost    int64  // bytes skipped of lines that are too long
	strange int    // lines that were not of the format
	damaged bool   // bytes were no characters
}

// frame is fill for all that is more than plain lines of a file as it is.
func (f *file) frame(b *record.Batch, v *view, r *framer, now time.Time) (found framed, err error) {
	target := f.target(b, r)
	var w window
	if f.packed != nil {
		w, err = f.readPacked(v, target, &found)
	} else {
		w, found.outcome, err = f.readRaw(b, r, v, target)
	}
	if err != nil || found.outcome != more {
		return found, err
	}
	if r.charset != nil {
		mark, known, err := f.settleLayout(v, r, &w)
		if err != nil || !known {
			f.keep(w.data)
			found.outcome = drained
			return found, err
		}
		if mark > 0 {
			f.pass(v, w.data, mark)
			return found, nil
		}
	}
	r.assemble(b, v, w, now)
	found.lost = r.assembler.out.lost
	if r.container != nil {
		found.strange = r.container.strange
	}
	if r.charset != nil {
		found.damaged = r.charset.damaged
	}
	used, err := f.took(v, r, w.data)
	found.outcome = r.judge(used, b)
	return found, err
}

// judge says how a fill ended that used so many bytes.
func (r *framer) judge(used int, b *record.Batch) outcome {
	a := &r.assembler
	switch {
	case a.stopped && b.Rows() < record.MaxRows:
		return noRoom
	case a.window.full && used == 0 && r.rules.inPlace() && len(a.window.data) <= r.rules.maxLine:
		return noRoom
	case a.stopped || a.window.full:
		return more
	default:
		return drained
	}
}

// readRaw reads a window of a file as it is. The outcome is more if there is
// something to look at.
func (f *file) readRaw(b *record.Batch, r *framer, v *view, target []byte) (w window, result outcome, err error) {
	if v.scanned > v.cursor && !v.final && !v.isIdle() {
		if result, err := f.probe(b, v, r.rules); result != more || err != nil {
			return w, result, err
		}
	}
	target = target[:min(int64(len(target)), v.limit-v.cursor)]
	n, err := readGuarded(f.fd, v.guard, target, v.cursor)
	if err != nil {
		return w, drained, err
	}
	end := v.cursor + int64(n)
	if n < 0 || n < len(target) && f.shrank(end) {
		return w, replaced, nil
	}
	data, padded, err := f.withoutPadding(target[:n], end)
	if err != nil {
		return w, drained, err
	}
	w = window{data: data, padded: padded, last: end >= v.limit || v.final && (n < len(target) || padded), idle: v.isIdle() && (v.idleAt == end || padded)}
	w.full = n == len(target) && !w.last && !padded
	return w, more, nil
}

// readPacked is readRaw for what is decompressed.
func (f *file) readPacked(v *view, target []byte, found *framed) (w window, err error) {
	in, err := f.unpack(v, target)
	found.intake, found.outcome = in, in.outcome
	p := f.packed
	if err != nil || in.outcome == replaced || in.outcome == paused {
		f.keep(target[:in.n])
		return w, err
	}
	w = window{data: target[:in.n], full: in.outcome == more, last: in.outcome == drained && p.ended}
	w.idle = !w.full && v.idleAt == v.cursor
	if w.full || w.last || w.idle || in.n == 0 || in.n > p.looked {
		found.outcome = more
	}
	return w, nil
}

// target is where a window of the file is read.
func (f *file) target(b *record.Batch, r *framer) []byte {
	if r.rules.inPlace() {
		block := b.Value.Blocks[0]
		return block[len(block) : len(block)+f.room(b)]
	}
	if r.scratch == nil {
		r.scratch = make([]byte, r.rules.window())
	}
	return r.scratch
}

// assemble makes records of a window.
func (r *framer) assemble(b *record.Batch, v *view, w window, now time.Time) {
	a := &r.assembler
	block := b.Value.Blocks[0]
	a.out = filling{
		batch: b, stream: v.content, inPlace: r.rules.inPlace(), base: len(block),
		position: v.position, at: max(v.position, v.content.last), now: now.UnixMilli(), marks: a.out.marks[:0],
	}
	if r.container != nil {
		r.container.latest, r.container.strange = now.Add(aheadOfClock).UnixMilli(), 0
	}
	a.begin(w, v.situation)
	a.run()
	if at, s := a.position(); w.full && !a.stopped && at == 0 && s == v.situation {
		if len(w.data) > r.rules.maxLine { // else a larger block will show more
			a.force()
		}
	}
}

// took moves the cursor over what the framer used of data.
func (f *file) took(v *view, r *framer, data []byte) (used int, err error) {
	a := &r.assembler
	out := &a.out
	used, s := a.position()
	if out.inPlace {
		block := out.batch.Value.Blocks[0]
		out.batch.Value.Blocks[0] = block[:len(block)+used]
	}
	if out.rows > 0 {
		f.average = max(1, (3*f.average+out.bytes/out.rows)/4)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if out.rows > 0 {
		f.content.append(out.marks, out.at, v.position, v.situation)
	}
	f.situation = s
	f.held = a.holds()
	open := used < len(data) && !a.stopped && !a.window.full
	if f.packed != nil {
		f.tookPackedLocked(data, used, open)
	} else {
		f.moveLocked(v, data, used, open)
		err = f.padLocked(v, a.window.padded)
	}
	return used, err
}

// pass moves the cursor over bytes that belong to no record.
func (f *file) pass(v *view, data []byte, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.packed != nil {
		f.tookPackedLocked(data, n, false)
	} else {
		f.moveLocked(v, data, n, false)
	}
}

// unknownLayout is the layout of a file whose beginning has not been seen.
const unknownLayout = -1

// settleLayout finds out the layout of the file's charset, and how many bytes at
// the cursor are a byte order mark. It is not known before the file has its first
// code unit, or ends without.
func (f *file) settleLayout(v *view, r *framer, w *window) (mark int, known bool, err error) {
	if f.layout == unknownLayout {
		head := w.data
		switch {
		case v.position > 0 && f.packed != nil:
			head = make([]byte, r.rules.charset.HeadSize()) // the encoding was another: no mark tells
		case v.position > 0:
			head = make([]byte, r.rules.charset.HeadSize())
			n, err := pread(f.fd, head, 0)
			if err != nil {
				return 0, false, err
			}
			head = head[:n]
		}
		if len(head) < r.rules.charset.HeadSize() && !w.last {
			return 0, false, nil
		}
		layout, size := r.rules.charset.Begin(head)
		f.mu.Lock()
		f.layout = layout
		f.mu.Unlock()
		if v.position == 0 {
			mark = size
		}
	}
	r.charset.use(min(f.layout, r.rules.charset.Layouts()-1))
	r.charset.damaged = false
	return mark, true, nil
}

// report says what a fill found out, once per file or now and then.
func (t *tailer) report(f *file, found *framed, now time.Time) {
	if found.damaged && !f.damaged {
		f.damaged = true
		t.source.log.Warn("file has bytes that are no characters of its encoding: U+FFFD stands for them",
			"path", f.name(), "encoding", t.source.rules.charset.Name())
	}
	if in := &found.intake; in.damage != nil {
		t.source.log.Error("compressed file is damaged: what was decompressed is delivered, the rest is lost",
			"path", f.name(), "error", in.damage, "bytes_lost_unread", in.lost)
	} else if in.cutShort {
		t.source.log.Warn("compressed file ends in the middle", "path", f.name())
	}
	t.source.metrics.lost(lostCorrupt, found.intake.lost)
	if found.strange > 0 {
		t.strange += found.strange
		if _, report := f.oddities.failed(now); report {
			t.source.log.Warn("file has lines that are not of its format: each becomes a record as it is",
				"path", f.name(), "format", t.source.rules.format.String(), "lines_of_all_files", t.strange)
		}
	}
	if found.lost > 0 {
		if _, report := f.cuts.failed(now); report {
			t.source.log.Warn("long lines are cut: on_long_line is \"truncate\"", "path", f.name(), "bytes_left_out", found.lost)
		}
	}
}

// holds says that complete lines wait for others that may belong to their record.
func (a *assembler) holds() bool {
	for i := range a.tracks {
		if a.tracks[i].group.open {
			return true
		}
	}
	return false
}

// append remembers what records say of their positions. before is where reading
// stood when the first of them began.
func (c *content) append(marks []bookmark, last, before int64, at situation) {
	if before != c.last || at != (situation{}) {
		c.marks = append(c.marks, bookmark{c.last, before, at})
	}
	c.marks = append(c.marks, marks...)
	c.last = last
	delivered, passed := c.delivered.Load(), 0
	for passed < len(c.marks) && c.marks[passed].end < delivered {
		passed++
	}
	if passed > len(c.marks)/2 {
		c.marks = c.marks[:copy(c.marks, c.marks[passed:])]
	}
}

// settledLocked returns the position up to which all is delivered, with what must
// be known there.
func (f *file) settledLocked() (int64, situation) {
	delivered := f.content.delivered.Load()
	if delivered == f.content.last {
		return f.positionLocked(), f.situation
	}
	for i := range f.content.marks {
		if m := &f.content.marks[i]; m.end == delivered {
			return m.position, m.situation
		}
	}
	return delivered, situation{}
}

// newline is the byte without which no line ends.
func (r *rules) newline() byte {
	if r.charset == nil {
		return '\n'
	}
	return bytes.Trim(r.charset.Layout(0).Newline, "\x00")[0]
}
