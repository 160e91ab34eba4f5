package file

import "bytes"

// fragment is one line, or a stretch of one that is too long to be looked at as a
// whole.
type fragment struct {
	start, end int    // its bytes in the window, with the line's end
	text       []byte // what it adds to its message
	stream     uint8
	complete   bool   // it completes its message
	inside     inside // of its first byte
	time       int64  // milliseconds since the Unix epoch; 0: not known
}

// window is a stretch of a file's bytes, from the position on where reading goes on.
type window struct {
	data []byte
	last bool // nothing follows: what has no end is complete
	idle bool // nothing has followed for so long that no line will join the last ones
	full bool // more follows, as far as is known

	skipping bool // what has no end yet will be left out, however long it is

	padded bool // NULs that nobody has written follow
}

// lexer cuts a window into fragments.
type lexer interface {
	// next returns the fragment that begins at data[at:], and what its end is inside
	// of; ok is false if more bytes are needed to know.
	next(w *window, at int, in inside) (f fragment, after inside, ok bool)
	// reset lets the lexer reuse the memory of the texts that it has returned.
	reset()
}

// lineLexer takes each line of UTF-8, or of anything that has '\n', as it is.
type lineLexer struct{ maxLine int }

func (l *lineLexer) reset() {}

func (l *lineLexer) next(w *window, at int, _ inside) (fragment, inside, bool) {
	rest := w.data[at:]
	f := fragment{start: at, end: len(w.data), text: rest}
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		f.end, f.text, f.complete = at+i+1, rest[:i], true
		return f, inside{}, true
	}
	f.complete = w.last
	return f, inside{}, len(rest) > 0 && (w.last || w.skipping || len(rest) > l.maxLine)
}
