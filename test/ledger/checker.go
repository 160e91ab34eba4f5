package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-agent/barnabas/test/kafka/topic"
)

// Expectation says what should be in a topic.
type Expectation struct {
	// Files holds the number of lines that each file got: those from 0 on.
	Files map[string]int64
	// Dropped names the lines that must not arrive, because something on their
	// way drops them. Nil: none.
	Dropped func(file string, sequence int64) bool
	// Line finds the line in a record. Nil: it is the value.
	Line func(*kgo.Record) ([]byte, error)
}

// JSONMessage finds the line in a record whose value is a JSON object with the
// line as its member "message".
func JSONMessage(r *kgo.Record) ([]byte, error) {
	var object struct {
		Message *string `json:"message"`
	}
	if err := json.Unmarshal(r.Value, &object); err != nil {
		return nil, err
	}
	if object.Message == nil {
		return nil, fmt.Errorf("no member \"message\"")
	}
	return []byte(*object.Message), nil
}

// Check reads the topic, as it is now, to its end and compares it.
func Check(ctx context.Context, t *topic.Topic, expected Expectation) (*Report, error) {
	checker := NewChecker(expected)
	if err := t.Each(ctx, checker.Add); err != nil {
		return nil, err
	}
	return checker.Report(), nil
}

// Checker compares records one by one. It may be used by one goroutine at a time.
type Checker struct {
	expected Expectation
	files    map[string]*file
	report   Report
}

// file is what was seen of one file.
type file struct {
	name  string
	lines []line
	last  map[int32]int64 // by partition, the highest sequence of a first copy
}

// line is where the copy of a line that was seen first stands, and how many
// copies there are.
type line struct {
	offset    int64
	partition int32
	copies    uint16
}

// NewChecker makes a Checker that has seen no record.
func NewChecker(expected Expectation) *Checker {
	if expected.Line == nil {
		expected.Line = func(r *kgo.Record) ([]byte, error) { return r.Value, nil }
	}
	if expected.Dropped == nil {
		expected.Dropped = func(string, int64) bool { return false }
	}
	c := &Checker{expected: expected, files: make(map[string]*file, len(expected.Files))}
	for name, count := range expected.Files {
		c.files[name] = &file{name: name, lines: make([]line, count), last: make(map[int32]int64)}
	}
	return c
}

// Add compares one record. Records of one partition have to come in the order of
// their offsets.
func (c *Checker) Add(r *kgo.Record) {
	c.report.Records++
	text, err := c.expected.Line(r)
	if err != nil {
		c.found(&c.report.Torn, "torn", "%s: %v: %.120q", place(r), err, r.Value)
		return
	}
	name, sequence, err := ParseLine(text)
	if err != nil {
		c.found(&c.report.Torn, "torn", "%s: %v: %.120q", place(r), err, text)
		return
	}
	f := c.files[string(name)]
	if f == nil || sequence >= int64(len(f.lines)) {
		c.found(&c.report.Alien, "alien", "%s: line %d of %s was never written", place(r), sequence, name)
		return
	}
	if c.expected.Dropped(f.name, sequence) {
		c.found(&c.report.Undropped, "undropped", "%s: line %d of %s should have been dropped", place(r), sequence, name)
		return
	}
	c.addLine(f, sequence, r)
}

func (c *Checker) addLine(f *file, sequence int64, r *kgo.Record) {
	l := &f.lines[sequence]
	if l.copies < math.MaxUint16 {
		l.copies++
	}
	if l.copies > 1 {
		c.found(&c.report.Duplicates, "duplicate", "%s: line %d of %s again, first at partition %d offset %d",
			place(r), sequence, f.name, l.partition, l.offset)
		if l.partition != r.Partition {
			c.found(&c.report.Scattered, "scattered", "%s: line %d of %s, first at partition %d offset %d",
				place(r), sequence, f.name, l.partition, l.offset)
		}
		return
	}
	l.partition, l.offset = r.Partition, r.Offset
	if last, seen := f.last[r.Partition]; seen && sequence < last {
		c.found(&c.report.Disordered, "disordered", "%s: line %d of %s stands behind line %d at offset %d",
			place(r), sequence, f.name, last, f.lines[last].offset)
		return
	}
	f.last[r.Partition] = sequence
}

// found counts a finding and keeps its text while there are few of its kind.
func (c *Checker) found(count *int64, kind, format string, arguments ...any) {
	*count++
	if *count <= findingsPerKind {
		c.report.Findings = append(c.report.Findings, kind+": "+fmt.Sprintf(format, arguments...))
	}
}

func place(r *kgo.Record) string {
	return fmt.Sprintf("partition %d offset %d", r.Partition, r.Offset)
}
