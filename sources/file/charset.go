package file

import (
	"bytes"
	"unicode/utf8"

	"golang.org/x/text/transform"

	"github.com/barnabas-agent/barnabas/core/charset"
)

// charsetLexer decodes lines to UTF-8. Of a line that is too long it makes
// fragments that end between characters, each of what one record holds.
type charsetLexer struct {
	charset *charset.Charset
	maxLine int
	layouts []transform.Transformer // by the number of a layout

	layout  *charset.Layout
	decoder transform.Transformer
	text    []byte // of fragments in use
	damaged bool   // something was no character
}

func newCharsetLexer(r *rules) *charsetLexer {
	l := &charsetLexer{charset: r.charset, maxLine: r.maxLine}
	for i := range r.charset.Layouts() {
		l.layouts = append(l.layouts, r.charset.Layout(i).NewDecoder())
	}
	return l
}

// use chooses the layout.
func (l *charsetLexer) use(layout int) {
	l.layout, l.decoder = l.charset.Layout(layout), l.layouts[layout]
}

func (l *charsetLexer) reset() { l.text = l.text[:0] }

func (l *charsetLexer) next(w *window, at int, _ inside) (fragment, inside, bool) {
	rest := w.data[at:]
	if len(rest) == 0 {
		return fragment{}, inside{}, false
	}
	f := fragment{start: at, end: len(w.data), complete: w.last}
	line := rest
	if i := l.layout.Index(rest); i >= 0 {
		line, f.end, f.complete = rest[:i], at+i+len(l.layout.Newline), true
	}
	text, read := l.decode(line, l.maxLine+utf8.UTFMax, f.complete)
	switch {
	case len(text) > l.maxLine:
		text, read = l.decode(line, l.maxLine, false)
		f.end, f.complete = at+read, false
	case !f.complete && w.skipping && read > 0:
		f.end = at + read
	case !f.complete:
		return fragment{}, inside{}, false // a line of this length is waited for
	case read < len(line): // it was the room that was short, not the line that was long
		text, read = l.decode(line, l.maxLine, false)
		f.end, f.complete = at+read, false
	}
	l.text = l.text[:len(l.text)+len(text)]
	l.damaged = l.damaged || bytes.Contains(text, []byte("\uFFFD"))
	f.text = text
	return f, inside{}, true
}

// decode decodes at most so many bytes of text, behind the texts that are in use,
// and returns how many bytes of source they come from.
func (l *charsetLexer) decode(line []byte, most int, end bool) (text []byte, read int) {
	room := min(most, 3*len(line)+utf8.UTFMax)
	if cap(l.text)-len(l.text) < room {
		l.text = make([]byte, 0, max(room, 2*cap(l.text)))
	}
	free := l.text[len(l.text) : len(l.text)+room]
	l.decoder.Reset()
	// Its errors say that room or source is short, which the counts say too.
	n, read, _ := l.decoder.Transform(free, line, end)
	return free[:n:n], read
}
