package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"slices"
)

// hashDigits is how many hexadecimal digits of a hash stand for a finding: 64
// bits, so that among millions of findings no two share them by chance.
const hashDigits = 16

// span is a finding: the bytes from begin up to end, at least one.
type span struct {
	begin, end int
}

// finder appends the findings in a text to found, in ascending order and without
// overlap among its own. It takes time linear in the text.
type finder func(found []span, text []byte) []span

// eraser replaces findings, of one batch at a time. Its memory is used again for the next text.
type eraser struct {
	finders     []finder
	replacement string
	mac         hash.Hash // nil: the replacement is written
	sum         []byte
	found       []span
}

func newEraser(r *Redact) *eraser {
	e := &eraser{finders: r.finders, replacement: r.Replacement}
	if r.Hash {
		e.mac = hmac.New(sha256.New, []byte(r.Salt))
	}
	return e
}

// redact appends text with its findings replaced to dst, and says whether there
// was one; if not, dst is returned as it was.
func (e *eraser) redact(dst, text []byte) ([]byte, bool) {
	e.found = e.found[:0]
	for _, find := range e.finders {
		e.found = find(e.found, text)
	}
	if len(e.found) == 0 {
		return dst, false
	}
	if len(e.finders) > 1 {
		slices.SortFunc(e.found, func(a, b span) int { return a.begin - b.begin })
	}
	rest := 0
	for i := 0; i < len(e.found); {
		whole := e.found[i]
		for i++; i < len(e.found) && e.found[i].begin < whole.end; i++ {
			whole.end = max(whole.end, e.found[i].end)
		}
		dst = append(dst, text[rest:whole.begin]...)
		dst = e.replace(dst, text[whole.begin:whole.end])
		rest = whole.end
	}
	return append(dst, text[rest:]...), true
}

func (e *eraser) replace(dst, finding []byte) []byte {
	if e.mac == nil {
		return append(dst, e.replacement...)
	}
	e.mac.Reset()
	e.mac.Write(finding)
	e.sum = e.mac.Sum(e.sum[:0])
	return hex.AppendEncode(dst, e.sum[:hashDigits/2])
}
