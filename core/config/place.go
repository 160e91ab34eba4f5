package config

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// maxSnippet bounds the columns of a snippet.
const maxSnippet = 160

// source is the text of one file, with the pieces of it that are never shown.
type source struct {
	name   string // as named by the user
	text   []byte
	hidden []span
}

// span is a half-open range of bytes. A comment is left out of what is shown, a
// secret is replaced.
type span struct {
	start, end int
	comment    bool
}

// Place is a piece of the configuration's text. The zero Place stands for the
// configuration as a whole.
type Place struct {
	source *source
	at     hcl.Range
}

// Error makes a Diagnostic of severity Error at the place. message is one line
// that says what is wrong, hint what to do.
func (p Place) Error(message, hint string) Diagnostic {
	return p.diagnostic(Error, message, hint)
}

// Warning makes a Diagnostic of severity Warning at the place.
func (p Place) Warning(message, hint string) Diagnostic {
	return p.diagnostic(Warning, message, hint)
}

func (p Place) diagnostic(severity Severity, message, hint string) Diagnostic {
	d := Diagnostic{
		Severity: severity,
		File:     p.at.Filename,
		Line:     max(p.at.Start.Line, 1),
		Column:   max(p.at.Start.Column, 1),
		Message:  printable(strings.ReplaceAll(strings.TrimSpace(message), "\n", " ")),
		Hint:     printableLines(strings.TrimSpace(hint)),
	}
	if p.source != nil {
		d.File = p.source.name
		d.Snippet = p.snippet(d.Line)
	}
	return d
}

// secrets returns the secrets that the place overlaps or touches.
func (p Place) secrets() []string {
	var texts []string
	for _, s := range p.source.hidden {
		if !s.comment && s.start <= p.at.End.Byte && s.end >= p.at.Start.Byte {
			texts = append(texts, string(p.source.text[s.start:s.end]))
		}
	}
	return texts
}

func (p Place) holdsSecret() bool { return len(p.secrets()) > 0 }

// unlessSecret returns a text of hcl's, or nothing where it shares a word with a
// secret that the place overlaps.
func (p Place) unlessSecret(text string) string {
	words := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	}
	said := words(text)
	for _, secret := range p.secrets() {
		if slices.ContainsFunc(words(secret), func(word string) bool { return slices.Contains(said, word) }) {
			return ""
		}
	}
	return text
}

// snippet shows the place's first line, hidden pieces replaced, and marks what
// of it belongs to the place.
func (p Place) snippet(number int) string {
	text := p.source.text
	from := min(max(p.at.Start.Byte, 0), len(text))
	start := bytes.LastIndexByte(text[:from], '\n') + 1
	end := len(text)
	if i := bytes.IndexByte(text[start:], '\n'); i >= 0 {
		end = start + i
	}
	var line, marks strings.Builder
	column := 0
	put := func(r rune, marked bool) {
		mark := ' '
		switch {
		case marked:
			mark = '^'
		case r == '\t':
			mark = '\t'
		}
		if column++; column <= maxSnippet {
			line.WriteRune(r)
			marks.WriteRune(mark)
		}
	}
	for i := start; i < end && column < maxSnippet; {
		if hidden, ok := p.source.hiddenAt(i); ok {
			for _, r := range hidden.shown() {
				put(r, p.covers(i) || p.covers(hidden.end-1))
			}
			i = hidden.end
			continue
		}
		r, size := utf8.DecodeRune(text[i:end])
		put(printableRune(r), p.covers(i))
		i += size
	}
	if !strings.ContainsRune(marks.String(), '^') && column < maxSnippet {
		marks.WriteRune('^') // a place at the line's end
	}
	return gutter(number, line.String(), marks.String())
}

func gutter(number int, line, marks string) string {
	label := strings.Repeat(" ", max(0, 5-len(strconv.Itoa(number)))) + strconv.Itoa(number)
	blank := strings.Repeat(" ", len(label))
	return label + " | " + strings.TrimRightFunc(line, unicode.IsSpace) + "\n" +
		blank + " | " + strings.TrimRightFunc(marks, unicode.IsSpace) + "\n"
}

// covers says that byte i belongs to the place; an empty place covers the byte
// that it stands before.
func (p Place) covers(i int) bool {
	return i == p.at.Start.Byte || i > p.at.Start.Byte && i < p.at.End.Byte
}

// shown is what stands for the span in a snippet.
func (s span) shown() string {
	if s.comment {
		return ""
	}
	return redacted
}

func (s *source) hiddenAt(i int) (span, bool) {
	n, _ := slices.BinarySearchFunc(s.hidden, i, func(h span, i int) int { return h.end - i - 1 })
	if n < len(s.hidden) && s.hidden[n].start <= i && i < s.hidden[n].end {
		return s.hidden[n], true
	}
	return span{}, false
}

// printable makes a text fit for one line of a terminal.
func printable(text string) string { return strings.Map(printableRune, text) }

// printableLines is printable for a text of several lines.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n")
}

// printableRune keeps escape sequences that a file may hold off the terminal.
func printableRune(r rune) rune {
	if r != '\t' && !unicode.IsPrint(r) {
		return '\uFFFD'
	}
	return r
}

// Places finds the text of a block and of its attributes.
type Places struct {
	header     Place // type and labels
	attributes map[string]Place
}

// Block is the block's header: its type and labels.
func (p Places) Block() Place { return p.header }

// At is the value of an attribute, or the block's header where the attribute is
// not written.
func (p Places) At(attribute string) Place {
	if place, ok := p.attributes[attribute]; ok {
		return place
	}
	return p.header
}

// members are the places inside an object or a list, by JSON pointer
// (RFC 6901).
type members map[string]Place

// at finds the member that pointer names, or the nearest one around it, or
// otherwise.
func (m members) at(pointer string, otherwise Place) Place {
	for {
		if place, ok := m[pointer]; ok {
			return place
		}
		slash := strings.LastIndexByte(pointer, '/')
		if slash < 0 {
			return otherwise
		}
		pointer = pointer[:slash]
	}
}

// membersOf collects the places of all members that stand in the text, and
// refuses a name that stands twice in one object. What a function or a template
// makes has the place of its expression.
func (v value) membersOf() members {
	found := members{"": v.place}
	var walk func(pointer string, expr hclsyntax.Expression)
	walk = func(pointer string, expr hclsyntax.Expression) {
		switch e := expr.(type) {
		case *hclsyntax.ParenthesesExpr:
			walk(pointer, e.Expression)
		case *hclsyntax.TupleConsExpr:
			for i, element := range e.Exprs {
				at := pointer + "/" + strconv.Itoa(i)
				found[at] = Place{v.source, element.Range()}
				walk(at, element)
			}
		case *hclsyntax.ObjectConsExpr:
			for _, item := range e.Items {
				name, ok := memberName(item.KeyExpr, v.decoder.context)
				if !ok {
					continue
				}
				at := pointer + "/" + escapePointer(name)
				place := Place{v.source, hcl.RangeBetween(item.KeyExpr.Range(), item.ValueExpr.Range())}
				if _, again := found[at]; again {
					v.decoder.errorAt(place, "", "%s is set a second time", quote(name))
				}
				found[at] = place
				walk(at, item.ValueExpr)
			}
		}
	}
	walk("", v.expr)
	return found
}

func memberName(expr hclsyntax.Expression, context *hcl.EvalContext) (string, bool) {
	v, diags := expr.Value(context)
	v, _ = v.Unmark()
	if diags.HasErrors() || !isText(v) {
		return "", false
	}
	return v.AsString(), true
}

// escapePointer writes a name as one step of a JSON pointer.
func escapePointer(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// Has says that an attribute is written.
func (p Places) Has(attribute string) bool {
	_, ok := p.attributes[attribute]
	return ok
}
