package stdin

import (
	"bytes"

	"github.com/barnabas-agent/barnabas/core/spool"
)

// splitter cuts what was read into lines, and longer ones into pieces of max bytes.
type splitter struct {
	max     int
	buffer  []byte // read and not kept yet; its room is enough for a line and a read
	used    int    // of buffer, by entries
	entries []spool.Entry
}

// cut returns the complete lines, which belong to the splitter until drop, and at
// the end of the input what is left.
func (l *splitter) cut(ended bool, now int64) []spool.Entry {
	l.entries, l.used = l.entries[:0], 0
	for {
		rest := l.buffer[l.used:]
		window := rest[:min(len(rest), l.max+1)]
		length := bytes.IndexByte(window, '\n')
		advance := length + 1
		switch {
		case length >= 0:
		case len(window) > l.max:
			length, advance = l.max, l.max
		case ended && len(rest) > 0:
			length, advance = len(rest), len(rest)
		default:
			return l.entries
		}
		l.entries = append(l.entries, spool.Entry{Time: now, Value: rest[:length]})
		l.used += advance
	}
}

// drop forgets what was cut.
func (l *splitter) drop() {
	l.buffer = append(l.buffer[:0], l.buffer[l.used:]...)
	l.used = 0
}
