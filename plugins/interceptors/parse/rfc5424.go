package main

import (
	"bytes"

	"github.com/tinylib/msgp/msgp"
)

// maxElements bounds the elements of structured data, and the parameters of each,
// so that looking for repeated names costs a bounded time.
const maxElements = 256

// param is one parameter of an element.
type param struct {
	name, value []byte
	escaped     bool // value holds backslashes that quote
	written     bool
}

// parse5424 parses what is behind the version. It takes more than RFC 5424 allows
// where the meaning is plain: fields of any length, timestamps without zone or with more
// digits, values that hold a bare "]", and, as Heroku's routers send it, no
// structured data at all.
func (p *syslogParser) parse5424(line, rest []byte) error {
	var stamp []byte
	for _, field := range []struct {
		name string
		to   *[]byte
	}{
		{"TIMESTAMP", &stamp}, {"HOSTNAME", &p.m.hostname}, {"APP-NAME", &p.m.appname},
		{"PROCID", &p.m.procid}, {"MSGID", &p.m.msgid},
	} {
		at := len(line) - len(rest)
		value, after, found := cut(rest, ' ')
		if len(value) == 0 || !found {
			return failuref("no %s at byte %d", field.name, at)
		}
		if !isNil(value) {
			*field.to = value
		}
		rest = after
	}
	if stamp != nil {
		t, behind, ok := parseISO(stamp, p.zone)
		if !ok || len(behind) > 0 {
			return failuref("no RFC 3339 TIMESTAMP behind the version")
		}
		p.m.time, p.m.timed = t, true
	}
	rest, err := p.parseStructured(line, rest)
	if err != nil {
		return err
	}
	p.m.text = bytes.TrimPrefix(rest, []byte("\ufeff"))
	return nil
}

func isNil(field []byte) bool { return len(field) == 1 && field[0] == '-' }

// parseStructured returns the message behind the structured data.
func (p *syslogParser) parseStructured(line, rest []byte) ([]byte, error) {
	if first, after, _ := cut(rest, ' '); isNil(first) {
		return after, nil
	}
	if len(rest) == 0 || rest[0] != '[' {
		return rest, nil
	}
	// A header for up to 65535 elements, whose number is not known yet.
	p.structured = append(p.structured[:0], 0xde, 0, 0)
	p.elements = p.elements[:0]
	for len(rest) > 0 && rest[0] == '[' {
		at := len(line) - len(rest)
		id, after, reason := p.parseElement(rest[1:])
		if reason == "" && p.repeats(id) {
			reason = "repeats the id of another"
		}
		if reason == "" && len(p.elements) == maxElements {
			reason = "is one too many"
		}
		if reason != "" {
			return nil, failuref("the structured data element at byte %d %s", at, reason)
		}
		p.elements = append(p.elements, id)
		p.structured = msgp.AppendStringFromBytes(p.structured, id)
		p.appendParams()
		rest = after
	}
	p.structured[1], p.structured[2] = byte(len(p.elements)>>8), byte(len(p.elements))
	p.m.structured = p.structured
	if len(rest) > 0 && rest[0] != ' ' {
		return nil, failuref("no space behind the structured data, at byte %d", len(line)-len(rest))
	}
	return bytes.TrimPrefix(rest, []byte(" ")), nil
}

func (p *syslogParser) repeats(id []byte) bool {
	for _, other := range p.elements {
		if bytes.Equal(other, id) {
			return true
		}
	}
	return false
}

// parseElement reads an element's id and its parameters, which stand behind "[".
// A reason says what is wrong with it.
func (p *syslogParser) parseElement(b []byte) (id, rest []byte, reason string) {
	p.params = p.params[:0]
	id, rest = splitName(b)
	if len(id) == 0 {
		return nil, nil, "has no id"
	}
	for {
		spaces := len(rest) - len(bytes.TrimLeft(rest, " "))
		rest = rest[spaces:]
		switch {
		case len(rest) == 0:
			return nil, nil, "does not end"
		case rest[0] == ']':
			return id, rest[1:], ""
		case spaces == 0:
			return nil, nil, "has no space before a parameter"
		case len(p.params) == maxElements:
			return nil, nil, "has too many parameters"
		}
		var one param
		one.name, rest = splitName(rest)
		if len(one.name) == 0 || !bytes.HasPrefix(rest, []byte(`="`)) {
			return nil, nil, "has a parameter without name or quoted value"
		}
		if one.value, rest, one.escaped = splitValue(rest[2:]); rest == nil {
			return nil, nil, "has a value that does not end"
		}
		p.params = append(p.params, one)
	}
}

// splitName returns the SD-NAME that b begins with.
func splitName(b []byte) (name, rest []byte) {
	for i, c := range b {
		if c <= ' ' || c == '=' || c == ']' || c == '"' || c == 0x7f {
			return b[:i], b[i:]
		}
	}
	return b, nil
}

// splitValue returns what stands before the closing quote; rest is nil without one.
func splitValue(b []byte) (value, rest []byte, escaped bool) {
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '"':
			return b[:i], b[i+1:], escaped
		case b[i] == '\\' && i+1 < len(b) && isEscapable(b[i+1]):
			escaped = true
			i++
		}
	}
	return nil, nil, false
}

// isEscapable: a backslash before any other character stands for itself.
func isEscapable(c byte) bool { return c == '"' || c == '\\' || c == ']' }

// appendParams writes the parameters as a map, those of one name as a list.
func (p *syslogParser) appendParams() {
	distinct := 0
	header := len(p.structured)
	p.structured = append(p.structured, 0xde, 0, 0)
	for i := range p.params {
		if p.params[i].written {
			continue
		}
		distinct++
		same := p.params[i:]
		count := 0
		for n := range same {
			if bytes.Equal(same[n].name, same[0].name) {
				count++
			}
		}
		p.structured = msgp.AppendStringFromBytes(p.structured, same[0].name)
		if count > 1 {
			p.structured = msgp.AppendArrayHeader(p.structured, uint32(count))
		}
		for n := range same {
			if bytes.Equal(same[n].name, same[0].name) {
				same[n].written = true
				p.structured = msgp.AppendStringFromBytes(p.structured, p.unescape(&same[n]))
			}
		}
	}
	p.structured[header+1], p.structured[header+2] = byte(distinct>>8), byte(distinct)
}

func (p *syslogParser) unescape(of *param) []byte {
	if !of.escaped {
		return of.value
	}
	p.unescaped = p.unescaped[:0]
	for i := 0; i < len(of.value); i++ {
		if of.value[i] == '\\' && i+1 < len(of.value) && isEscapable(of.value[i+1]) {
			i++
		}
		p.unescaped = append(p.unescaped, of.value[i])
	}
	return p.unescaped
}
