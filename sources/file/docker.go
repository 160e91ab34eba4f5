package file

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a value that parseDocker passes over.
const maxDepth = 32

// parseDocker takes a line of Docker's json-file driver: an object with log, and
// with stream and time, and others. A log that ends with "\n" completes a message.
// The text is the line's own memory, or appended to a buffer if it has escapes.
func parseDocker(line, buffer []byte) (m message, ok bool) {
	s := scanner{rest: line}
	var log []byte
	escaped, found := false, false
	s.space()
	s.expect('{')
	s.space()
	for first := true; !s.failed && !s.take('}'); first = false {
		if !first {
			s.expect(',')
			s.space()
		}
		name, odd := s.text()
		if odd {
			name = unescape(nil, name)
		}
		s.space()
		s.expect(':')
		s.space()
		switch string(name) {
		case "log":
			log, escaped = s.text()
			found = true
		case "stream":
			name, _ := s.text()
			if m.stream, ok = streamOf(name); !ok {
				return m, false
			}
		case "time":
			when, _ := s.text()
			m.time = parseTime(when)
		default:
			s.skip()
		}
		s.space()
	}
	s.space()
	if s.failed || len(s.rest) > 0 || !found {
		return m, false
	}
	if escaped {
		log, m.appended = unescape(buffer, log)[len(buffer):], true
	}
	m.text, m.complete = bytes.CutSuffix(log, []byte("\n"))
	return m, true
}

// scanner reads JSON (RFC 8259); after a failure all that it returns is empty.
type scanner struct {
	rest   []byte
	failed bool
}

func (s *scanner) space() {
	for len(s.rest) > 0 && (s.rest[0] == ' ' || s.rest[0] == '\t' || s.rest[0] == '\r' || s.rest[0] == '\n') {
		s.rest = s.rest[1:]
	}
}

func (s *scanner) take(b byte) bool {
	if s.failed || len(s.rest) == 0 || s.rest[0] != b {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) expect(b byte) {
	if !s.take(b) {
		s.failed = true
	}
}

// text reads a string and returns what stands between its quotes, checked but not
// unescaped.
func (s *scanner) text() (raw []byte, escaped bool) {
	s.expect('"')
	if s.failed {
		return nil, false
	}
	for i := 0; i < len(s.rest); {
		switch c := s.rest[i]; {
		case c == '"':
			raw, s.rest = s.rest[:i], s.rest[i+1:]
			return raw, escaped
		case c < ' ':
			s.failed = true
			return nil, false
		case c != '\\':
			i++
		default:
			n := escapeLength(s.rest[i:])
			if n == 0 {
				s.failed = true
				return nil, false
			}
			escaped = true
			i += n
		}
	}
	s.failed = true
	return nil, false
}

// escapeLength returns how long the escape at the beginning of b is, 0 if it is none.
func escapeLength(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b[2:]); ok {
			return 6
		}
	}
	return 0
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape appends b to out, its checked escapes decoded. None is shorter than what
// it stands for. Half of a surrogate pair becomes U+FFFD.
func unescape(out, b []byte) []byte {
	for i := 0; i < len(b); {
		if b[i] != '\\' {
			out = append(out, b[i])
			i++
			continue
		}
		switch c := b[i+1]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, _ := hex4(b[i+2:])
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(utf8.RuneError)
				if len(b) >= i+8 && b[i+2] == '\\' && b[i+3] == 'u' {
					low, _ = hex4(b[i+4:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			out = utf8.AppendRune(out, r)
		default: // '"', '\\', '/'
			out = append(out, c)
		}
		i += 2
	}
	return out
}

// skip passes over any value.
func (s *scanner) skip() {
	depth := 0
	for !s.failed {
		s.space()
		if len(s.rest) == 0 {
			s.failed = true
			return
		}
		switch c := s.rest[0]; c {
		case '{', '[':
			depth++
			s.rest = s.rest[1:]
			s.failed = s.failed || depth > maxDepth
		case '}', ']':
			if depth == 0 {
				s.failed = true
				return
			}
			depth--
			s.rest = s.rest[1:]
		case ',', ':':
			if depth == 0 {
				s.failed = true
				return
			}
			s.rest = s.rest[1:]
		case '"':
			s.text()
		default:
			s.word()
		}
		if depth == 0 {
			return
		}
	}
}

// word passes over a number, true, false or null, without looking closely.
func (s *scanner) word() {
	n := 0
	for n < len(s.rest) && bytes.IndexByte([]byte("+-.0123456789eEtrufalsn"), s.rest[n]) >= 0 {
		n++
	}
	s.rest, s.failed = s.rest[n:], s.failed || n == 0
}
