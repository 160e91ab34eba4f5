package config

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Severity says whether a configuration can be used in spite of a Diagnostic.
type Severity uint8

// The severities.
const (
	Error   Severity = iota // the configuration can't be used
	Warning                 // it can; what is said is worth knowing
)

// Diagnostic is one thing to say about a configuration. It holds no secret.
type Diagnostic struct {
	Severity Severity
	File     string // as named by the user
	Line     int    // from 1
	Column   int    // from 1, in characters as a person counts them
	Message  string // one line: what is wrong
	Snippet  string // the line of the file with the place marked; empty when there is none
	Hint     string // what to do; may be empty or have several lines
}

// Error returns the Diagnostic's first line: "PATH:LINE:COLUMN: message".
func (d Diagnostic) Error() string {
	kind := ""
	if d.Severity == Warning {
		kind = "warning: "
	}
	return fmt.Sprintf("%s:%d:%d: %s%s", d.File, d.Line, d.Column, kind, d.Message)
}

// Text returns the Diagnostic with snippet and hint, ending in a line end.
func (d Diagnostic) Text() string {
	var b strings.Builder
	b.WriteString(d.Error() + "\n" + d.Snippet)
	if d.Hint != "" {
		b.WriteString("  hint: " + strings.ReplaceAll(d.Hint, "\n", "\n        ") + "\n")
	}
	return b.String()
}

// Diagnostics are in the order of the files and of the lines in them.
type Diagnostics []Diagnostic

// HasErrors says that the configuration can't be used.
func (d Diagnostics) HasErrors() bool {
	for i := range d {
		if d[i].Severity == Error {
			return true
		}
	}
	return false
}

// Err joins all errors, warnings left out; nil if there are none.
func (d Diagnostics) Err() error {
	var all []error
	for i := range d {
		if d[i].Severity == Error {
			all = append(all, d[i])
		}
	}
	return errors.Join(all...)
}

// Write writes each Diagnostic as its Text, with an empty line between two.
func (d Diagnostics) Write(w io.Writer) error {
	for i := range d {
		text := d[i].Text()
		if i > 0 {
			text = "\n" + text
		}
		if _, err := io.WriteString(w, text); err != nil {
			return fmt.Errorf("write diagnostics: %w", err)
		}
	}
	return nil
}
