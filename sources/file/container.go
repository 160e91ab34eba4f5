package file

import (
	"bytes"
	"time"
)

// aheadOfClock is how far a runtime's time may lie in the future to be believed.
const aheadOfClock = time.Hour

// message is what one line of a container's log holds.
type message struct {
	text     []byte // without the runtime's prefix and line end
	appended bool   // it stands in the buffer
	stream   uint8
	complete bool
	time     int64 // milliseconds since the Unix epoch; 0: none that is valid
}

// containerLexer takes the lines that container runtimes write.
type containerLexer struct {
	parse   func(line, buffer []byte) (message, bool) // its text is the line's, or appended to the buffer
	header  bool                                      // the beginning of a line says what there is to know
	giant   int                                       // bytes of an unfinished line that is looked at piece by piece
	latest  int64                                     // milliseconds: a later time is not believed
	strange int                                       // lines that were not of the format
	text    []byte                                    // of fragments in use
}

func (l *containerLexer) reset() { l.text = l.text[:0] }

func newContainerLexer(r *rules) *containerLexer {
	l := &containerLexer{parse: parseCRI, header: true, giant: 2*r.maxLine + windowSlack/2}
	if r.format == Docker {
		l.parse, l.header = parseDocker, false
	}
	return l
}

func (l *containerLexer) next(w *window, at int, in inside) (fragment, inside, bool) {
	rest := w.data[at:]
	length := bytes.IndexByte(rest, '\n')
	switch {
	case in.line:
		return l.goOn(w, at, length, in)
	case length >= 0:
		return l.line(rest[:length], at, at+length+1), inside{}, true
	case w.last && len(rest) > 0:
		return l.line(rest, at, at+len(rest)), inside{}, true
	case len(rest) > l.giant:
		return l.begin(rest, at)
	}
	return fragment{}, in, false
}

func (l *containerLexer) line(line []byte, start, end int) fragment {
	if cap(l.text)-len(l.text) < len(line) {
		l.text = make([]byte, 0, max(len(line), 2*cap(l.text)))
	}
	m, ok := l.parse(line, l.text)
	if m.appended {
		l.text = l.text[:len(l.text)+len(m.text)]
	}
	if !ok {
		l.strange++
		m = message{text: line, stream: streamRaw, complete: true}
	}
	return fragment{start: start, end: end, text: m.text, stream: m.stream, complete: m.complete, time: l.believe(m.time)}
}

// begin takes the beginning of a line that is too long to wait for its end.
func (l *containerLexer) begin(rest []byte, at int) (fragment, inside, bool) {
	m, ok := message{}, false
	if l.header {
		m, ok = l.parse(rest, nil)
	}
	if !ok {
		l.strange++
		m = message{text: rest, stream: streamRaw, complete: true}
	}
	f := fragment{start: at, end: at + len(rest), text: m.text, stream: m.stream, time: l.believe(m.time)}
	return f, inside{line: true, stream: m.stream, complete: m.complete, time: f.time}, true
}

// goOn takes what follows of such a line.
func (l *containerLexer) goOn(w *window, at, length int, in inside) (fragment, inside, bool) {
	rest := w.data[at:]
	f := fragment{start: at, end: len(w.data), text: rest, stream: in.stream, inside: in, time: in.time}
	switch {
	case length >= 0:
		f.end, f.text, f.complete = at+length+1, rest[:length], in.complete
		return f, inside{}, true
	case w.last && len(rest) > 0:
		f.complete = in.complete
		return f, inside{}, true
	}
	return f, in, len(rest) > l.giant/2
}

func (l *containerLexer) believe(ms int64) int64 {
	if ms > l.latest {
		return 0
	}
	return ms
}

// maxTime bounds the text of a time.
const maxTime = 64

// parseTime returns the milliseconds since the Unix epoch of an RFC 3339 time, 0 if
// it is none or none since then.
func parseTime(text []byte) int64 {
	var t time.Time
	if len(text) > maxTime || t.UnmarshalText(text) != nil {
		return 0
	}
	return max(0, t.UnixMilli())
}

// streamOf returns the number of a stream by its name.
func streamOf(name []byte) (uint8, bool) {
	switch string(name) {
	case "stdout":
		return streamOut, true
	case "stderr":
		return streamErr, true
	default:
		return 0, false
	}
}

// parseCRI takes a line of the container runtime interface: time, stream, tags and
// message, between single spaces. Of the tags, which colons part, the first is P
// or F. (kubernetes/design-proposals: kubelet-cri-logging.)
func parseCRI(line, _ []byte) (m message, ok bool) {
	when, rest, ok := bytes.Cut(line[:min(len(line), maxTime+1)], []byte(" "))
	if !ok || len(when) == 0 || when[0] < '0' || when[0] > '9' {
		return m, false
	}
	rest = line[len(when)+1:]
	name, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return m, false
	}
	if m.stream, ok = streamOf(name); !ok {
		return m, false
	}
	tags, text, _ := bytes.Cut(rest, []byte(" "))
	tag, _, _ := bytes.Cut(tags, []byte(":"))
	switch string(tag) {
	case "F":
		m.complete = true
	case "P":
	default:
		return m, false
	}
	m.text, m.time = text, parseTime(when)
	return m, true
}
