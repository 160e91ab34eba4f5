package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// findingsPerKind bounds how many findings of a kind are described one by one.
const findingsPerKind = 8

// Report is what was found in a topic. The counts are of lines, but Records, Duplicates
// and what was not a line that should be there, which are of records.
type Report struct {
	Records    int64 // in the topic
	Expected   int64 // lines that should be there
	Missing    int64 // of them
	Duplicates int64 // copies beyond the first
	Disordered int64 // first copies that stand behind a later line of their file in their partition
	Scattered  int64 // copies in another partition than the first; not a fault where the partition is no function of the record
	Undropped  int64 // copies of lines that should have been dropped
	Alien      int64 // whole lines that nobody wrote
	Torn       int64 // records that hold no whole line

	Copies   map[int]int64 // by number of copies, how many lines have as many
	Findings []string      // the first few of each kind: what, and where

	gaps int64 // runs of missing lines
}

// Report returns what was found so far. It is called once, after all records are
// added.
func (c *Checker) Report() *Report {
	c.report.Copies = make(map[int]int64)
	for _, name := range slices.Sorted(maps.Keys(c.files)) {
		c.count(c.files[name])
	}
	return &c.report
}

// count adds the copies of each line of the file and its gaps.
func (c *Checker) count(f *file) {
	gap := 0 // length of the gap that ends before the line
	for sequence := range f.lines {
		copies := int(f.lines[sequence].copies)
		dropped := copies == 0 && c.expected.Dropped(f.name, int64(sequence))
		if !dropped {
			c.report.Expected++
			c.report.Copies[copies]++
		}
		switch {
		case copies == 0 && !dropped:
			gap++
		case gap > 0:
			c.missing(f, sequence-gap, sequence)
			gap = 0
		}
	}
	if gap > 0 {
		c.missing(f, len(f.lines)-gap, len(f.lines))
	}
	c.report.Missing = c.report.Copies[0]
}

// missing describes a gap by its neighbours.
func (c *Checker) missing(f *file, from, to int) {
	text := fmt.Sprintf("lines %d to %d of %s (%d)", from, to-1, f.name, to-from)
	if from > 0 && f.lines[from-1].copies > 0 {
		text += fmt.Sprintf(", behind partition %d offset %d", f.lines[from-1].partition, f.lines[from-1].offset)
	}
	if to < len(f.lines) && f.lines[to].copies > 0 {
		text += fmt.Sprintf(", before partition %d offset %d", f.lines[to].partition, f.lines[to].offset)
	}
	c.found(&c.report.gaps, "missing", "%s", text)
}

// Err says what is wrong with the topic, or nil when every line that should be
// there is, in order, nothing else is, and copies beyond the first are no more
// than allowed.
func (r *Report) Err(duplicates int64) error {
	faults := r.Missing + r.Disordered + r.Scattered + r.Undropped + r.Alien + r.Torn
	if faults == 0 && r.Duplicates <= duplicates {
		return nil
	}
	return errors.New("the topic does not hold what was written: " + r.String())
}

// String describes all that was found, the counts in the first line.
func (r *Report) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d records for %d lines: %d missing, %d duplicates, %d disordered, %d scattered, %d undropped, %d alien, %d torn",
		r.Records, r.Expected, r.Missing, r.Duplicates, r.Disordered, r.Scattered, r.Undropped, r.Alien, r.Torn)
	if r.Duplicates > 0 {
		text.WriteString("; lines by copies:")
		for _, copies := range slices.Sorted(maps.Keys(r.Copies)) {
			fmt.Fprintf(&text, " %d×%d", r.Copies[copies], copies)
		}
	}
	for _, finding := range r.Findings {
		text.WriteString("\n  " + finding)
	}
	return text.String()
}
