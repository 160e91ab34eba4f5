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
	lost    int64 // bytes skipped of lines that are too long
	strange int   // lines that were not of the format
	damaged bool  // bytes were no characters
}

// frame is fill for all that is more than plain lines of a file as it is.
func (f *file) frame(b *record.Batch, r *framer, now time.Time) (found framed, err error) {
	v, ok := f.view()
	if !ok {
		return framed{outcome: replaced}, nil
	}
	target := f.target(b, r, &v)
	if v.scanned > v.cursor && !v.final && !v.isIdle() {
		if result, err := f.probe(b, &v, r.rules); result != more || err != nil {
			return framed{outcome: result}, err
		}
	}
	n, err := readGuarded(f.fd, v.guard, target, v.cursor)
	if err != nil {
		return found, err
	}
	if n < 0 || n < len(target) && f.shrank(v.cursor+int64(n)) {
		return framed{outcome: replaced}, nil
	}
	data, end := target[:n], v.cursor+int64(n) >= v.limit
	if r.charset != nil {
		mark, known, err := f.settleLayout(&v, r, data, end || v.final)
		if err != nil || !known {
			return framed{outcome: drained}, err
		}
		if mark > 0 {
			f.pass(&v, data, mark)
			return framed{outcome: more}, nil
		}
	}
	w := window{data: data, last: end || v.final && n < len(target)}
	out := r.assemble(b, &v, w, n == len(target), now)
	found = framed{outcome: drained, lost: out.lost}
	if r.container != nil {
		found.strange = r.container.strange
	}
	if r.charset != nil {
		found.damaged = r.charset.damaged
	}
	used := f.took(&v, r, data)
	switch {
	case r.assembler.stopped && b.Rows() < record.MaxRows:
		found.outcome = noRoom
	case r.assembler.stopped:
		found.outcome = more
	case n == len(target) && used == 0 && r.rules.inPlace() && n <= r.rules.maxLine && !end:
		found.outcome = noRoom
	case n == len(target) && !end:
		found.outcome = more
	}
	return found, nil
}

// target is where a window of the file is read.
func (f *file) target(b *record.Batch, r *framer, v *view) []byte {
	var target []byte
	if r.rules.inPlace() {
		block := b.Value.Blocks[0]
		target = block[len(block) : len(block)+f.room(b)]
	} else {
		if r.scratch == nil {
			r.scratch = make([]byte, r.rules.window())
		}
		target = r.scratch
	}
	return target[:min(int64(len(target)), v.limit-v.cursor)]
}

// assemble makes records of a window.
func (r *framer) assemble(b *record.Batch, v *view, w window, full bool, now time.Time) *filling {
	a := &r.assembler
	block := b.Value.Blocks[0]
	a.out = filling{
		batch: b, stream: v.content, inPlace: r.rules.inPlace(), base: len(block),
		position: v.cursor, at: max(v.cursor, v.content.last), now: now.UnixMilli(), marks: a.out.marks[:0],
	}
	if r.container != nil {
		r.container.latest, r.container.strange = now.Add(aheadOfClock).UnixMilli(), 0
	}
	a.begin(w, v.situation)
	a.run(v.isIdle() && v.idleAt == v.cursor+int64(len(w.data)))
	if at, s := a.position(); full && !w.last && !a.stopped && at == 0 && s == v.situation {
		if len(w.data) > r.rules.maxLine { // else a larger block will show more
			a.force()
		}
	}
	return &a.out
}

// took moves the cursor over what the framer used of data.
func (f *file) took(v *view, r *framer, data []byte) (used int) {
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
		f.content.append(out.marks, out.at, v.cursor, v.situation)
	}
	f.moveLocked(v, data, used, used < len(data))
	f.situation = s
	f.held = a.holds()
	return used
}

// pass moves the cursor over bytes that belong to no record.
func (f *file) pass(v *view, data []byte, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.moveLocked(v, data, n, false)
}

// unknownLayout is the layout of a file whose beginning has not been seen.
const unknownLayout = -1

// settleLayout finds out the layout of the file's charset, and how many bytes at
// the cursor are a byte order mark. It is not known before the file has its first
// code unit, or ends without.
func (f *file) settleLayout(v *view, r *framer, data []byte, last bool) (mark int, known bool, err error) {
	if f.layout == unknownLayout {
		head := data
		if v.cursor > 0 {
			head = make([]byte, r.rules.charset.HeadSize())
			n, err := pread(f.fd, head, 0)
			if err != nil {
				return 0, false, err
			}
			head = head[:n]
		}
		if len(head) < r.rules.charset.HeadSize() && !last {
			return 0, false, nil
		}
		f.layout, mark = r.rules.charset.Begin(head)
		if v.cursor > 0 {
			mark = 0
		}
	}
	r.charset.use(f.layout)
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
		return f.cursor, f.situation
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
