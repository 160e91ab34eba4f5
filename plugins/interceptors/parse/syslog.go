package main

import (
	"bytes"
	"time"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

// noPriority says that a message has no PRI: files hold such.
const noPriority = -1

// maxPriority is facility 23, severity 7.
const maxPriority = 191

// message is what was found in one line. Its bytes are the line's own, but
// structured's; nil: the line has no such part.
type message struct {
	priority       int
	version        int  // 0: not RFC 5424
	timed          bool // the line has a timestamp
	time           time.Time
	hostname       []byte
	appname        []byte
	procid         []byte
	msgid          []byte
	structured     []byte // a MessagePack map
	messageCounter []byte // decimal digits
	sequence       []byte
	text           []byte
}

// syslogParser parses one line after the other; its memory is used again.
type syslogParser struct {
	zone *time.Location // of timestamps that name none

	m          message
	structured []byte
	elements   [][]byte
	params     []param
	unescaped  []byte
}

// parse appends the object of one line to dst. received is when the record was
// read, in milliseconds since the Unix epoch.
//
// The two formats are told apart by what RFC 5424 demands behind the PRI: a
// version, a space and a timestamp. A line with neither PRI nor timestamp is not syslog.
func (p *syslogParser) parse(dst, line []byte, received int64) ([]byte, error) {
	if at := invalidUTF8(line); at >= 0 {
		return dst, errNotUTF8(at)
	}
	line = bytes.TrimRight(line, "\r\n\x00") // left by senders over datagrams
	p.m = message{priority: noPriority}
	rest, err := p.parsePriority(line)
	if err != nil {
		return dst, err
	}
	if version, body, ok := splitVersion(rest); ok {
		p.m.version = version
		err = p.parse5424(line, body)
	} else {
		err = p.parse3164(rest, time.UnixMilli(received))
	}
	if err != nil {
		return dst, err
	}
	return p.m.append(dst), nil
}

func invalidUTF8(line []byte) int {
	if utf8.Valid(line) {
		return -1
	}
	for i := 0; i < len(line); {
		r, size := utf8.DecodeRune(line[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// parsePriority returns what is behind the PRI.
func (p *syslogParser) parsePriority(line []byte) ([]byte, error) {
	if len(line) == 0 || line[0] != '<' {
		return line, nil
	}
	digits, _, closed := cut(line[1:min(len(line), 5)], '>')
	n, ok := decimal(digits)
	if !closed || !ok || n > maxPriority {
		return nil, failuref("no priority from <0> to <%d> at byte 0", maxPriority)
	}
	p.m.priority = n
	return line[len("<>")+len(digits):], nil
}

// splitVersion returns RFC 5424's version and what is behind the space after it,
// if a timestamp, or the hyphen that stands for none, is there.
func splitVersion(b []byte) (version int, rest []byte, ok bool) {
	digits, _, found := cut(b[:min(len(b), 4)], ' ')
	version, isNumber := decimal(digits)
	if !found || !isNumber || digits[0] == '0' {
		return 0, nil, false
	}
	rest = b[len(digits)+1:]
	isNil := bytes.HasPrefix(rest, []byte("- "))
	isTime := len(rest) > 4 && isDigit(rest[0]) && isDigit(rest[1]) && isDigit(rest[2]) && isDigit(rest[3]) && rest[4] == '-'
	return version, rest, isNil || isTime
}

// append writes the message's parts as a map.
func (m *message) append(dst []byte) []byte {
	header := len(dst)
	dst = msgp.AppendMapHeader(dst, 0)
	count := 0
	name := func(name string) {
		dst = msgp.AppendString(dst, name)
		count++
	}
	text := func(of string, value []byte) {
		if value != nil {
			name(of)
			dst = msgp.AppendStringFromBytes(dst, value)
		}
	}
	number := func(of string, value int) {
		name(of)
		dst = msgp.AppendInt(dst, value)
	}
	if m.priority != noPriority {
		facility, severity := m.priority>>3, m.priority&7
		number("facility", facility)
		text("facility_name", []byte(facilityName(facility)))
		number("severity", severity)
		text("severity_name", []byte(severityName(severity)))
	}
	if m.version != 0 {
		number("version", m.version)
	}
	if m.timed {
		var stamp [len(time.RFC3339Nano)]byte
		text("timestamp", m.time.UTC().AppendFormat(stamp[:0], time.RFC3339Nano))
	}
	text("hostname", m.hostname)
	text("appname", m.appname)
	text("procid", m.procid)
	text("msgid", m.msgid)
	text("message_counter", m.messageCounter)
	text("sequence", m.sequence)
	if m.structured != nil {
		name("structured_data")
		dst = append(dst, m.structured...)
	}
	if m.text == nil {
		m.text = []byte{}
	}
	text("message", m.text)
	dst[header] |= byte(count) // at most 15 members, so the header is one byte
	return dst
}

// facilityName is the keyword of syslog.conf, and of rsyslog for the three that have none there.
func facilityName(facility int) string {
	return [...]string{
		"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
		"ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
	}[facility]
}

func severityName(severity int) string {
	return [...]string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}[severity]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// decimal reads a number of one to nine digits, and nothing else.
func decimal(b []byte) (int, bool) {
	if len(b) == 0 || len(b) > 9 {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
