package file

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/cespare/xxhash/v2"
)

// logrotate compresses a file some time after it was rotated: what was delivered from
// app.log.1 is in app.log.1.gz, and matches again. A new compressed file is compared
// with what was delivered to its end under a related name in its folder. If it is the
// same from the first byte to the last, as far as head, guard and length say, its
// position is behind all of it. In doubt it is read: duplicates.

const (
	// maxDeparted is how many delivered files that are gone are remembered for that.
	maxDeparted = 256
	// maxCompared is how many files may be known for any of them to be what is
	// compressed; with more it must have the compressed file's name.
	maxCompared = 4096
	// sliceOf is how much of a compressed file is compared in one go: some 30 ms.
	sliceOf = 8 << 20
	// repeatWindow is how much before the end is searched for the guard: where it
	// stands twice, lines repeat.
	repeatWindow = 128 << 10
)

// recognition is the comparison of one compressed file, of which there is one at a
// time. It belongs to the discoverer.
type recognition struct {
	look   look
	path   string
	first  time.Time
	last   time.Time // when it went on
	handle *os.File
	known  []*state // with what it is compared
	kind   compression

	decoder *decoder
	buffer  []byte
	raw     int64  // read of the file
	plain   int64  // decompressed
	head    []byte // the first bytes of that
	tail    []byte // the last ones
}

// recognises reports that a new file is not to be read yet, because it is compared
// with what was delivered. After that a file that was recognised has a position.
func (d *discoverer) recognises(handle *os.File, c *candidate, now time.Time) (waits bool) {
	fd := int(handle.Fd())
	l, err := lookAt(fd)
	if err != nil || d.source.config.Once || !d.source.rules.decompress || len(d.orphans[l.inode]) > 0 || d.tracked[l.inode] != nil {
		return false
	}
	if r := d.compared; r != nil && (r.look.inode == l.inode && r.path != c.real || now.Sub(r.last) >= copyQuiet) {
		d.endCompare() // it was renamed, or is gone
	}
	if r := d.compared; r != nil && r.path != c.real {
		return d.mayBeKnown(fd, c, now) // its turn comes
	}
	if d.compared == nil && !d.beginCompare(fd, l, c, now) {
		return d.tooShort(fd, l, c, now)
	}
	r := d.compared
	r.last = now
	same, err := r.advance(sliceOf)
	switch {
	case same == nil && err == nil:
		d.moving = true
		return true
	case errors.Is(err, io.ErrUnexpectedEOF) && now.Sub(r.first) < copyMost && now.Sub(time.Unix(0, l.modified)) < copyQuiet:
		r.restart(l) // it is still being written
		return true
	}
	if same != nil {
		d.recognised(fd, same, r, c, now)
	}
	d.endCompare()
	return false
}

// tooShort reports that a file, perhaps one that was just created, does not show yet
// whether it is compressed.
func (d *discoverer) tooShort(fd int, l look, c *candidate, now time.Time) bool {
	s, err := d.source.rules.shapeOf(fd)
	h := d.held[c.real]
	if h != nil && h.look.inode != l.inode {
		h = nil // another file had the name
	}
	if err != nil || s.known || len(d.delivered(c)) == 0 || h != nil && now.Sub(h.first) >= copyQuiet {
		delete(d.held, c.real)
		return false
	}
	if h == nil {
		d.held[c.real] = &hold{look: l, first: now, since: now} // so that events of it are taken
	}
	return true
}

// mayBeKnown reports that there is something to compare the file with.
func (d *discoverer) mayBeKnown(fd int, c *candidate, now time.Time) bool {
	s, err := d.source.rules.shapeOf(fd)
	return err == nil && s.kind != notCompressed && now.Sub(d.compared.first) < copyMost && len(d.delivered(c)) > 0
}

func (d *discoverer) beginCompare(fd int, l look, c *candidate, now time.Time) bool {
	s, err := d.source.rules.shapeOf(fd)
	if err != nil || s.kind == notCompressed {
		return false
	}
	known := d.delivered(c)
	if len(known) == 0 {
		return false
	}
	handle, err := openBeneath(c.root, c.relative)
	if err != nil {
		return false
	}
	d.compared = &recognition{path: c.real, first: now, last: now, handle: handle, known: known, kind: s.kind}
	d.compared.restart(l)
	return true
}

// endCompare lets go of what a comparison holds.
func (d *discoverer) endCompare() {
	if d.compared != nil {
		d.compared.decoder.stop()
		d.compared.handle.Close()
		d.compared = nil
	}
}

// delivered returns the states of files of the same folder with related names of
// which all is delivered: those that are gone, and those that may be compressed at this moment.
func (d *discoverer) delivered(c *candidate) []*state {
	dir, base := filepath.Split(c.real)
	named := func(real, path string) bool {
		return filepath.Dir(real)+"/" == dir && (relatedTo(filepath.Base(real), base) || relatedTo(filepath.Base(path), base))
	}
	fits := func(s *state) bool {
		return s.position > 0 && s.position == s.size && s.compression == notCompressed && named(s.real, s.path)
	}
	var all []*state
	for _, s := range d.departed {
		if fits(s) {
			all = append(all, s)
		}
	}
	add := func(f *file) {
		if f == nil || !named(f.real, f.path) {
			return
		}
		if s := f.deliveredState(); s != nil && fits(s) {
			all = append(all, s)
		}
	}
	if len(d.tracked)+len(d.orphans) > maxCompared {
		add(d.names[dir+base[:len(base)-len(filepath.Ext(base))]])
		return all
	}
	for _, f := range d.tracked {
		add(f)
	}
	for _, states := range d.orphans {
		for _, s := range states {
			if fits(s) {
				all = append(all, s)
			}
		}
	}
	return all
}

// deliveredState is the state of a file of which all is delivered, else nil.
func (f *file) deliveredState() *state {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return f.last // the discoverer has not noticed yet
	}
	if f.truncated || f.packed != nil || !f.allSettledLocked() {
		return nil
	}
	s, err := f.stateLocked()
	if err != nil {
		return nil
	}
	return s
}

// depart remembers a file that is gone and of which all was delivered.
func (d *discoverer) depart(s *state) {
	if s.position == 0 || s.position != s.size || s.compression != notCompressed || !d.source.rules.decompress {
		return
	}
	if len(d.departed) == maxDeparted {
		d.departed = append(d.departed[:0], d.departed[1:]...)
	}
	d.departed = append(d.departed, s)
}

// restart begins at the file's first byte.
func (r *recognition) restart(l look) {
	if r.decoder != nil {
		r.decoder.stop()
	}
	r.look, r.decoder, r.raw, r.plain, r.head, r.tail = l, newDecoder(r.kind), 0, 0, nil, nil
	if r.buffer == nil {
		r.buffer = make([]byte, inputSize)
	}
}

// advance decompresses about so many bytes more. Neither a state nor an error: there
// is more to do.
func (r *recognition) advance(most int) (same *state, err error) {
	for done := 0; done < most; {
		m, ok := r.decoder.resume()
		if !ok {
			return nil, errStopped
		}
		switch m {
		case produced:
			done += r.decoder.decoded
			if r.take(r.decoder.output[:r.decoder.decoded]); len(r.known) == 0 {
				return nil, errOthers
			}
		case starved:
			n, err := pread(int(r.handle.Fd()), r.buffer[:max(0, min(int64(len(r.buffer)), r.look.size-r.raw))], r.raw)
			if err != nil {
				return nil, err
			}
			r.raw += int64(n)
			r.decoder.input, r.decoder.fed, r.decoder.ended = r.buffer[:n], r.decoder.fed+int64(n), n == 0
		case finished:
			return r.judge()
		case failed:
			return nil, r.decoder.err
		}
	}
	return nil, nil
}

var errOthers = errors.New("it holds other bytes than what was delivered")

// take notes what comes out. As soon as the head is there, what has another one is
// no more compared.
func (r *recognition) take(b []byte) {
	r.plain += int64(len(b))
	if missing := headSize - len(r.head); missing > 0 {
		r.head = append(r.head, b[:min(missing, len(b))]...)
		if len(r.head) == headSize {
			r.known = r.withHead()
		}
	}
	r.tail = append(r.tail, b[max(0, len(b)-repeatWindow):]...)
	if len(r.tail) > 2*repeatWindow {
		r.tail = append(r.tail[:0], r.tail[len(r.tail)-repeatWindow:]...)
	}
}

func (r *recognition) withHead() []*state {
	var kept []*state
	for _, s := range r.known {
		if s.headLength > 0 && int64(s.headLength) >= min(headSize, s.position) && s.headLength <= len(r.head) && xxhash.Sum64(r.head[:s.headLength]) == s.headHash {
			kept = append(kept, s)
		}
	}
	return kept
}

// judge is the end of the file.
func (r *recognition) judge() (*state, error) {
	for _, s := range r.withHead() {
		if s.position != r.plain || s.guardLength > len(r.tail) {
			continue
		}
		guard := r.tail[len(r.tail)-s.guardLength:]
		if xxhash.Sum64(guard) == s.guardHash && bytes.Index(r.tail, guard) == len(r.tail)-s.guardLength {
			return s, nil
		}
	}
	return nil, errOthers
}

// recognised gives the file a position behind all that it holds. What it was the same
// as vouches for no other one.
func (d *discoverer) recognised(fd int, same *state, r *recognition, c *candidate, now time.Time) {
	size := r.look.size
	s := &state{
		identity: identify(fd, r.look.inode), path: c.path, real: c.real, position: size, size: size,
		headLength: int(min(headSize, size)), guardLength: int(min(guardSize, size)), modified: r.look.modified,
		compression: r.kind, plain: r.plain, member: rung{r.plain, size}, seen: size, layout: unknownLayout,
	}
	var found evidence
	err := found.compare(fd, s)
	s.headHash, s.guardHash = found.head, found.guard
	if err == nil {
		s.seenHash, err = evidenceOf(fd, size)
	}
	if err != nil {
		return
	}
	d.orphans[s.identity.inode] = append(d.orphans[s.identity.inode], s)
	d.source.settle(s.identity, s)
	for i, gone := range d.departed {
		if gone == same {
			d.departed = append(d.departed[:i], d.departed[i+1:]...)
			break
		}
	}
	d.source.decided(s.identity, "", Decision{
		Time: now, Path: c.path, What: Compacted, Reason: "it holds what was delivered of " + same.real, Position: size, Size: size,
	})
}
