package wire

import "strings"

// interner keeps the few strings that frames repeat (topics, paths, header
// names), so that what a view returns does not borrow the frame's memory and
// still costs no allocation per record.
type interner struct {
	known map[string]string
}

// What is kept is bounded: when the table is full it is emptied, and long
// strings never enter it.
const (
	internedStrings = 1024
	internedLength  = 256
)

// keep returns a copy of s that outlives the frame.
func (n *interner) keep(s string) string {
	if known, ok := n.known[s]; ok {
		return known
	}
	own := strings.Clone(s)
	if len(own) > internedLength {
		return own
	}
	if n.known == nil || len(n.known) >= internedStrings {
		n.known = make(map[string]string)
	}
	n.known[own] = own
	return own
}

// keepBytes is keep for bytes.
func (n *interner) keepBytes(b []byte) string {
	if known, ok := n.known[string(b)]; ok {
		return known
	}
	return n.keep(string(b))
}
