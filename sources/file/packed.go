package file

import (
	"bytes"
	"errors"
	"io"
)

// rung pairs a position in what is decompressed with one in the file.
type rung struct{ plain, raw int64 }

// packed is the decompressed side of a compressed file: its records' positions are
// those in the stream that comes out, while the file's own cursor counts what has
// been read of the file. The tailer owns it; what Checkpoint reads is changed under
// the file's lock.
type packed struct {
	kind     compression
	position int64  // of the next record
	rest     []byte // what is decompressed from there on
	members  []rung // where decoding can begin; the first is at or before all that is not settled
	rungs    []rung // once all before plain is settled, so much of the file is
	corrupt  bool   // what follows rest can't be decompressed
	ended    bool   // nothing follows rest, unless the file grows
	clean    bool   // no decoder is open, and rest ends where a member does
	done     bool   // all that is known of the file is in records
	whole    bool   // and nothing of it could not be decompressed; written under the file's lock
	looked   int    // bytes of rest in which nothing ends a line
	from     int64  // start_at = "end": what comes of the bytes before it is passed over

	decoder *decoder // nil: not open
	buffer  []byte   // the decoder's input
	pending []byte   // output of the decoder behind rest; none is left when it is asked for more
	raw     int64    // read of the file by the decoder
	base    int64    // raw when it began
	tail    []byte   // up to guardSize bytes before raw
	passing int64    // bytes that are decompressed again before what is wanted
}

func newPacked(kind compression) *packed {
	return &packed{kind: kind, members: []rung{{}}, rungs: []rung{{}}, clean: true}
}

// resumePacked goes on behind what a saved state has settled.
func resumePacked(s *state) *packed {
	return &packed{
		kind: s.compression, position: s.plain, members: []rung{s.member}, rungs: []rung{{s.plain, s.position}},
		corrupt: s.corrupt, clean: s.member == rung{s.plain, s.seen},
	}
}

// open begins to decode at the last member before what is wanted.
func (p *packed) open() {
	wanted := p.position + int64(len(p.rest))
	start := lastBefore(p.members, wanted)
	p.passing = wanted - start.plain
	p.raw, p.base, p.tail = start.raw, start.raw, p.tail[:0]
	p.buffer = make([]byte, inputSize)
	p.decoder = newDecoder(p.kind)
	p.ended, p.clean = false, false
}

// close lets go of the decoder.
func (p *packed) close() {
	if p.decoder != nil {
		p.decoder.stop()
		p.decoder, p.buffer, p.pending = nil, nil, nil
	}
}

// evict lets go of the decoder though it is in the middle of a member, and of what
// it gave and no record has: all that is decompressed again. Without a decoder nothing
// would: then what it gave stays.
func (p *packed) evict() {
	if p.decoder == nil {
		return
	}
	p.close()
	p.rest, p.looked = nil, 0
}

// lastBefore returns the last of some rungs at or before a position, or the first.
func lastBefore(rungs []rung, plain int64) rung {
	i := len(rungs) - 1
	for i > 0 && rungs[i].plain > plain {
		i--
	}
	return rungs[i]
}

// pruned drops the rungs before the last one at or before a position.
func pruned(rungs []rung, plain int64) []rung {
	n := 0
	for n+1 < len(rungs) && rungs[n+1].plain <= plain {
		n++
	}
	return rungs[:copy(rungs, rungs[n:])]
}

// intake is what a read of a compressed file gave.
type intake struct {
	n        int
	outcome  outcome // more: there was no room; drained: the file has no more; replaced; paused
	lost     int64   // bytes of the file that can't be decompressed
	damage   error   // why
	cutShort bool    // the file ends in the middle of a member
	passed   int     // bytes decompressed that are not wanted
}

// unpack fills target with what is decompressed from the position on.
func (f *file) unpack(v *view, target []byte) (in intake, err error) {
	p := f.packed
	in.n, in.outcome = copy(target, p.rest), more
	if in.n < len(p.rest) {
		return in, nil
	}
	if p.corrupt {
		in.lost, in.outcome = f.writeOff(v.cursor), drained
		p.ended = true
		return in, nil
	}
	if p.decoder == nil {
		if p.from == 0 && (p.clean || p.ended) && v.cursor >= min(f.knownSize(), v.limit) {
			p.ended = p.ended || v.final || v.cursor >= v.limit
			in.outcome = drained
			return in, nil
		}
		p.open()
	}
	for in.n < len(target) {
		if in.passed >= sliceOf {
			in.outcome = paused
			return in, nil
		}
		if len(p.pending) > 0 {
			f.take(&in, target)
			continue
		}
		m, ok := p.decoder.resume()
		if !ok {
			return in, errStopped
		}
		if done, err := f.step(v, m, &in); done || err != nil {
			return in, err
		}
	}
	return in, nil
}

// take moves what the decoder gave into target, as far as it is wanted.
func (f *file) take(in *intake, target []byte) {
	p := f.packed
	n := len(p.pending)
	switch {
	case p.passing > 0:
		n = int(min(int64(n), p.passing))
		p.passing -= int64(n)
		in.passed += n
	case p.from > 0:
		f.mu.Lock()
		p.position += int64(n)
		f.mu.Unlock()
		in.passed += n
	default:
		n = copy(target[in.n:], p.pending)
		in.n += n
	}
	p.pending = p.pending[n:]
}

// step does what a moment of the decoder asks for. done ends the read.
func (f *file) step(v *view, m moment, in *intake) (done bool, err error) {
	p := f.packed
	switch m {
	case produced:
		p.pending = p.decoder.output[:p.decoder.decoded]
		return false, nil
	case between:
		f.reached(rung{p.position + int64(in.n), p.base + p.decoder.used()})
		return false, nil
	case starved:
		return f.nourish(v, in)
	case finished:
		p.close()
		p.clean = true
		p.ended, in.outcome = true, drained
		return true, nil
	default:
		p.clean = false
		return f.failed(in)
	}
}

// reached remembers a place where decoding can begin.
func (f *file) reached(at rung) {
	p := f.packed
	if p.passing > 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	last := &p.members[len(p.members)-1]
	switch {
	case last.plain == at.plain:
		last.raw = max(last.raw, at.raw)
	case last.plain < at.plain:
		p.members = append(p.members, at)
	}
}

// nourish gives the decoder what the file has next.
func (f *file) nourish(v *view, in *intake) (done bool, err error) {
	p := f.packed
	limit := v.limit
	if p.from > 0 {
		limit = min(limit, p.from)
	}
	if v.cursor > p.raw {
		limit = min(limit, v.cursor) // where what is read again must fit what was read
	}
	n, err := readGuarded(f.fd, p.tail, p.buffer[:min(int64(len(p.buffer)), max(0, limit-p.raw))], p.raw)
	switch {
	case err != nil:
		return true, err
	case n < 0 || n == 0 && f.shrank(p.raw):
		in.outcome = replaced
		return true, nil
	case n == 0 && p.from > 0:
		p.from = 0
	case n == 0 && (v.final || p.raw >= v.limit):
		p.decoder.ended = true
	case n == 0:
		in.outcome = drained
		if p.clean = !p.decoder.begun; p.clean {
			p.close()
		}
		return true, nil
	}
	p.tail = lastOf(p.tail, p.buffer[:n])
	p.raw += int64(n)
	p.decoder.input, p.decoder.fed = p.buffer[:n], p.decoder.fed+int64(n)
	if !f.sawRaw(v) {
		in.outcome = replaced
		return true, nil
	}
	return false, nil
}

// sawRaw moves the file's cursor to where the decoder has read. It returns false if
// what was read again is not what it was.
func (f *file) sawRaw(v *view) bool {
	p := f.packed
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.raw > f.cursor {
		f.cursor, f.scanned = p.raw, p.raw
		f.tail = append(f.tail[:0], p.tail...)
		f.size = max(f.size, p.raw)
		v.cursor = f.cursor
	}
	n := min(len(p.tail), len(f.tail))
	return p.raw < f.cursor || bytes.Equal(p.tail[len(p.tail)-n:], f.tail[len(f.tail)-n:])
}

// failed decides what it means that the decoder can't go on.
func (f *file) failed(in *intake) (done bool, err error) {
	p := f.packed
	err, used, ended := p.decoder.err, p.base+p.decoder.used(), p.decoder.ended
	p.close()
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		if in.n > len(p.rest) {
			return true, nil // first what comes before
		}
		return true, err
	case errors.Is(err, io.ErrUnexpectedEOF) && ended:
		p.ended, in.outcome, in.cutShort = true, drained, true
		return true, nil
	}
	f.mu.Lock()
	p.corrupt, p.ended = true, true
	f.mu.Unlock()
	in.outcome, in.damage, in.lost = drained, err, f.writeOff(used)
	return true, nil
}

// writeOff moves the file's cursor to its end, behind what can't be decompressed,
// and returns how much that is.
func (f *file) writeOff(from int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l, err := lookAt(f.fd); err == nil {
		f.measureLocked(l.size)
	}
	end := min(f.size, f.limit)
	if f.truncated || end <= f.cursor && end <= from {
		return 0
	}
	lost := end - from
	tail := make([]byte, min(guardSize, end))
	if readFull(f.fd, tail, end-int64(len(tail))) != nil {
		return 0 // it changes: another turn will see how
	}
	f.cursor, f.scanned, f.tail = end, end, tail
	return max(0, lost)
}

func (f *file) knownSize() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}

// keep keeps what unpack gave for the next time.
func (f *file) keep(data []byte) {
	if f.packed != nil {
		f.packed.rest = append(f.packed.rest[:0], data...)
		f.packed.looked = 0
	}
}

// tookPackedLocked moves the position over so many of the bytes that unpack gave.
// open: nothing in the rest ends a line.
func (f *file) tookPackedLocked(data []byte, used int, open bool) {
	p := f.packed
	p.position += int64(used)
	p.rest = append(p.rest[:0], data[used:]...)
	p.looked = 0
	if open {
		p.looked = len(p.rest)
	}
	p.done = len(p.rest) == 0 && p.from == 0 && (p.clean || p.ended)
	p.whole = p.done && p.clean
	raw := f.cursor
	switch {
	case p.decoder != nil:
		raw = min(p.base+p.decoder.used(), f.cursor-1) // it may keep back what it has decoded
	case !f.allReadLocked():
		raw--
	}
	if raw > p.rungs[len(p.rungs)-1].raw {
		p.rungs = append(p.rungs, rung{p.position + int64(len(p.rest)), raw})
	}
	settled, _ := f.settledLocked()
	p.rungs = pruned(p.rungs, settled)
	p.members = pruned(p.members, settled)
}

// rawLocked returns how much of the file is settled when the position is.
func (f *file) rawLocked(position int64) int64 {
	if f.packed == nil {
		return position
	}
	return max(lastBefore(f.packed.rungs, position).raw, lastBefore(f.packed.members, position).raw)
}

// positionLocked is where the next record begins.
func (f *file) positionLocked() int64 {
	if f.packed == nil {
		return f.cursor
	}
	return f.packed.position
}

// allReadLocked says that records have all that is known of the file, but for a line
// whose end is missing.
func (f *file) allReadLocked() bool {
	return f.cursor >= f.size && (f.packed == nil || f.packed.done)
}

// allSettledLocked says that all that is known of the file is delivered.
func (f *file) allSettledLocked() bool {
	settled, _ := f.settledLocked()
	return f.allReadLocked() && settled == f.positionLocked()
}
