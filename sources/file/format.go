package file

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/barnabas-agent/barnabas/core/charset"
)

// Format says how the lines of a file hold the messages of programs.
type Format uint8

const (
	Lines  Format = iota // each line is a message
	CRI                  // time, stream, P or F, message: what the runtimes of Kubernetes write
	Docker               // JSON objects with log, stream, time: Docker's json-file
)

func (f Format) String() string {
	switch f {
	case CRI:
		return "cri"
	case Docker:
		return "docker"
	default:
		return "lines"
	}
}

// LongLine says what becomes of a message of more than MaxLine bytes.
type LongLine uint8

const (
	Split      LongLine = iota // it becomes several records
	Truncate                   // its first MaxLine bytes become a record, the rest is counted as lost
	Quarantine                 // its pieces are refused
)

// longLineCode is the code of the pieces of a long line that are refused.
const longLineCode = "file.long_line"

// Multiline joins lines to records. One of Start and Continue is set.
type Multiline struct {
	Start    *regexp.Regexp // a line that matches begins a record
	Continue *regexp.Regexp // a line that matches belongs to the record before it
	Timeout  time.Duration  // a record is complete once its file has not grown for so long
	MaxLines int            // a record has no more
}

func (m *Multiline) check() error {
	switch {
	case (m.Start == nil) == (m.Continue == nil):
		return errors.New("multiline needs a pattern of the lines that begin a record, or of those that continue it")
	case m.MaxLines < 1 || m.Timeout <= 0:
		return fmt.Errorf("multiline of at most %d lines with a timeout of %v: both must be positive", m.MaxLines, m.Timeout)
	}
	return nil
}

// begins says whether a line begins a record. The end of the line is no part of
// it, a carriage return before that neither.
func (m *Multiline) begins(line []byte) bool {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if m.Start != nil {
		return m.Start.Match(line)
	}
	return !m.Continue.Match(line)
}

// rules are how the bytes of a source's files become records. They are constant.
type rules struct {
	format     Format
	charset    *charset.Charset // nil: UTF-8
	maxLine    int
	onLongLine LongLine
	multiline  *Multiline // nil: each message is a record
	decompress bool       // what is compressed, by content
}

func rulesOf(c *Config) rules {
	return rules{
		format: c.Format, charset: c.Charset, maxLine: c.MaxLine, onLongLine: c.OnLongLine,
		multiline: c.Multiline, decompress: c.Decompress,
	}
}

// isPlain says that the splitter does all there is to do.
func (r *rules) isPlain() bool {
	return r.inPlace() && r.onLongLine == Split && r.multiline == nil
}

// inPlace says that records are stretches of the file as they are, so that they
// are read straight into the batch.
func (r *rules) inPlace() bool { return r.format == Lines && r.charset == nil }

// form tells apart the rules that make different things of a situation.
func (r *rules) form() byte {
	if r.charset != nil {
		return 0x80
	}
	return byte(r.format)
}

// unit is how many bytes a code unit has.
func (r *rules) unit() int {
	if r.charset == nil {
		return 1
	}
	return r.charset.Layout(0).Unit
}

// windowSlack is the room that prefixes of messages and the lines of another
// stream between them have beside two messages of the most bytes.
const windowSlack = 256 << 10

// window is how many bytes of a file are looked at to find one record, where they
// are not read into the batch: the most that is kept of a file per lane.
func (r *rules) window() int {
	switch {
	case r.format != Lines:
		return 2*r.maxLine + windowSlack
	case r.charset != nil:
		return r.charset.Expansion()*r.maxLine + 64
	default:
		return r.maxLine + 1
	}
}
