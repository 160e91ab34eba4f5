package file

import "github.com/cespare/xxhash/v2"

// shape is how a file's bytes hold what is read of it.
type shape struct {
	kind  compression
	known bool // else it has too few bytes to tell
}

// shapeOf finds out by the file's first bytes.
func (r *rules) shapeOf(fd int) (shape, error) {
	if !r.decompress {
		return shape{known: true}, nil
	}
	var head [magicSize]byte
	n, err := pread(fd, head[:], 0)
	kind, certain := sniff(head[:n])
	return shape{kind, certain}, err
}

// evidenceOf hashes the first bytes of a file and those before a position in it, as
// its head and guard are.
func evidenceOf(fd int, position int64) (uint64, error) {
	head, guard := min(headSize, position), min(guardSize, position)
	b := make([]byte, head+guard)
	err := readFull(fd, b[:head], 0)
	if err == nil {
		err = readFull(fd, b[head:], position-guard)
	}
	return xxhash.Sum64(b), err
}

// check begins a file anew that is not read as it was when its position was saved,
// or that is not what was read: settled records say little of a compressed file,
// so that all that was seen of it counts.
func (s shape) check(fd int, saved *state, verdict decision) decision {
	if verdict.resumed && saved.compression != notCompressed {
		if hash, err := evidenceOf(fd, saved.seen); err != nil || hash != saved.seenHash {
			return decision{reason: "the compressed bytes that were read before are others now, or gone: it was rewritten"}
		}
	}
	switch {
	case !verdict.resumed && s.kind != notCompressed:
		verdict.position = 0 // no line's end in what is compressed is one
	case verdict.resumed && s.kind != saved.compression && s.known:
		return decision{reason: "compression has changed, or what it applies to: its saved position is not one in what is read now"}
	}
	return verdict
}

// beginAs takes over the shape that the file was found to have. With fromEnd, what
// is there already is passed over.
func (f *file) beginAs(s shape, fromEnd bool) {
	f.sniffed = s.known
	if !s.known || s.kind == notCompressed {
		return
	}
	f.packed = newPacked(s.kind)
	if fromEnd {
		f.packed.from = f.size
	}
}

// settleShape is beginAs for a file that has been too short. It is not known before
// there are enough bytes, or no more will come.
func (f *file) settleShape(v *view, s shape) (known bool) {
	if !s.known && (v.final || v.limit != unlimited) {
		s = shape{known: true}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.beginAs(s, false)
	return s.known
}
