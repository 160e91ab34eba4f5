package main

import (
	"bytes"
	"time"
)

// parse3164 parses what is behind the PRI as RFC 3164 and its dialects. None of
// it is mandatory but a PRI or a timestamp: what can't be a timestamp, a host's name or
// a tag is the message's beginning.
func (p *syslogParser) parse3164(rest []byte, received time.Time) error {
	rest = bytes.TrimLeft(rest, " ")
	at := clock{zone: p.zone, received: received}
	stamped, found, err := at.parse(rest)
	cisco := false
	if err == nil && !found && p.m.priority != noPriority {
		stamped, cisco, err = p.parseCisco(rest, at)
		found = cisco
	}
	switch {
	case err != nil:
		return err
	case found:
		p.m.time, p.m.timed, rest = stamped.time, true, stamped.rest
	case p.m.priority == noPriority:
		return failuref("neither a priority nor a timestamp at byte 0")
	}
	rest = bytes.TrimLeft(bytes.TrimPrefix(rest, []byte(":")), " ")
	if found && !stamped.colon && !cisco {
		rest = p.splitHostname(rest)
	}
	p.splitTag(rest)
	return nil
}

// forwarded is what AIX and Solaris put before messages of other hosts.
const forwarded = "Message forwarded from "

// splitHostname takes the host's name, unless the first word is a tag already, as
// in what programs write to the unix socket of their own host.
func (p *syslogParser) splitHostname(b []byte) []byte {
	if after, ok := bytes.CutPrefix(b, []byte(forwarded)); ok {
		if host, rest, found := cut(after, ' '); found && len(host) > 1 && host[len(host)-1] == ':' {
			p.m.hostname = host[:len(host)-1]
			return rest
		}
	}
	word, rest, found := cut(b, ' ')
	if !found || len(word) == 0 || !isHostname(word) {
		return b
	}
	p.m.hostname = word
	rest = bytes.TrimLeft(rest, " ")
	return bytes.TrimLeft(bytes.TrimPrefix(rest, []byte(": ")), " ") // as Cisco's ASA writes it
}

// isHostname accepts names and addresses, and nothing that ends as a tag does.
func isHostname(word []byte) bool {
	for _, c := range word {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && !isDigit(c) && c < 0x80 && bytes.IndexByte([]byte(".-_:%/"), c) < 0 {
			return false
		}
	}
	return word[len(word)-1] != ':' && !isNil(word)
}

// splitTag takes "program:", "program[1234]:" or "program[1234]" off the message.
func (p *syslogParser) splitTag(b []byte) {
	p.m.text = b
	end := bytes.IndexAny(b, " :[")
	if end <= 0 {
		return
	}
	name, rest := b[:end], b[end:]
	var id []byte
	if rest[0] == '[' {
		var closed bool
		if id, rest, closed = cut(rest[1:], ']'); !closed || len(id) == 0 || bytes.IndexByte(id, ' ') >= 0 {
			return
		}
	}
	colon := len(rest) > 0 && rest[0] == ':'
	behind := bytes.TrimPrefix(rest, []byte(":"))
	spaced := len(behind) == 0 || behind[0] == ' '
	if id == nil && (!colon || !spaced) || id != nil && !colon && !spaced || bytes.IndexByte(name, '"') >= 0 {
		return
	}
	p.m.appname, p.m.procid = name, id
	p.m.text = bytes.TrimPrefix(behind, []byte(" "))
}

// ciscoMarks is the most words with a colon that stand before a Cisco device's
// timestamp: the message counter, the host's name and the sequence number.
const ciscoMarks = 3

// parseCisco parses the beginning that Cisco's devices write before the
// timestamp, and the timestamp: "237: host: 000104: *Jan  8 19:46:03.295". The asterisk and the dot
// say that the clock is not, or no longer, synchronised.
func (p *syslogParser) parseCisco(b []byte, at clock) (stamped, bool, error) {
	at.cisco = true
	var counter, sequence, host []byte
	for range ciscoMarks {
		word, rest, found := cut(b, ':')
		if !found || bytes.IndexByte(word, ' ') >= 0 {
			break
		}
		_, isNumber := decimal(word)
		switch {
		case isNumber && counter == nil:
			counter = word
		case isNumber && sequence == nil:
			sequence = word
		case len(word) > 0 && !isNumber && host == nil && isHostname(word):
			host = word
		case len(word) > 0:
			return stamped{}, false, nil
		}
		b = bytes.TrimLeft(rest, " ")
		t, found, err := at.parse(bytes.TrimLeft(b, "*."))
		if err != nil {
			return stamped{}, false, err
		}
		if found {
			p.m.messageCounter, p.m.sequence, p.m.hostname = counter, sequence, host
			return t, true, nil
		}
	}
	return at.parse(bytes.TrimLeft(b, "*."))
}
