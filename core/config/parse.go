package config

import (
	"bytes"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Bounds on looking for errors of syntax in one file: their number, and how much
// text is parsed anew.
const (
	maxSyntaxErrors = 50
	maxReparsed     = 2 << 20
)

// parsedFile is a file as far as it could be parsed.
type parsedFile struct {
	source *source
	body   *hclsyntax.Body
	broken int // offset from which on the parser has guessed; -1: nowhere
}

// parse reads a file and parses as much of it as it can.
func (d *decoder) parse(name string, pipes bool) (parsedFile, bool) {
	text, err := readBounded(name, maxFile, pipes)
	if err != nil {
		d.partial = true
		d.errorAt(wholeFile(name), "", "%s", openError(err))
		return parsedFile{}, false
	}
	src := &source{name: name, text: text}
	if place, problem := checkLimits(src); problem != "" {
		d.partial = true
		d.errorAt(place, "", "%s", problem)
		return parsedFile{}, false
	}
	body, healed, problems, broken := parseAll(name, text)
	src.hidden = hiddenSpans(text, healed, len(problems) > 0)
	d.partial = d.partial || len(problems) > 0
	d.fromHCL(problems, src)
	return parsedFile{source: src, body: body, broken: broken}, body != nil
}

// parseAll parses a text and returns all its errors of syntax. The parser
// itself is sure of the first one only, so the line that it is in is blanked
// and the rest parsed anew, until what is left is right or a line is at fault
// that the nesting depends on: broken is the error's offset then, else -1.
// healed is the text with all lines blanked that are at fault.
func parseAll(name string, text []byte) (body *hclsyntax.Body, healed []byte, problems hcl.Diagnostics, broken int) {
	healed = slices.Clone(text)
	for range min(maxSyntaxErrors, 1+maxReparsed/max(1, len(text))) {
		file, diags := hclsyntax.ParseConfig(healed, name, hcl.InitialPos)
		if file != nil {
			body, _ = file.Body.(*hclsyntax.Body)
		}
		redefined, first := splitSyntaxErrors(diags)
		if first == nil {
			return body, healed, append(problems, redefined...), -1
		}
		problems = append(problems, first)
		broken = first.Subject.Start.Byte
		line := lineAround(healed, broken)
		nested, blank := nests(line), len(bytes.TrimSpace(line)) == 0
		for i := range line {
			line[i] = ' '
		}
		if nested || blank {
			return body, healed, append(problems, redefined...), broken
		}
	}
	return body, healed, problems, broken
}

// splitSyntaxErrors returns the errors that no other follows from, attributes
// written twice, and the first of all others.
func splitSyntaxErrors(diags hcl.Diagnostics) (redefined hcl.Diagnostics, first *hcl.Diagnostic) {
	for _, diag := range diags {
		switch {
		case diag.Severity != hcl.DiagError || diag.Subject == nil:
		case diag.Summary == "Attribute redefined":
			redefined = append(redefined, diag)
		case first == nil || diag.Subject.Start.Byte < first.Subject.Start.Byte:
			first = diag
		}
	}
	return redefined, first
}

// lineAround returns the line that byte i is in, without its end.
func lineAround(text []byte, i int) []byte {
	i = min(i, len(text))
	start := bytes.LastIndexByte(text[:i], '\n') + 1
	if end := bytes.IndexByte(text[start:], '\n'); end >= 0 {
		return text[start : start+end]
	}
	return text[start:]
}

// nests says that a line opens or closes something that other lines are in.
func nests(line []byte) bool {
	tokens, _ := hclsyntax.LexConfig(line, "", hcl.InitialPos)
	braces, brackets := 0, 0
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace:
			braces++
		case hclsyntax.TokenCBrace:
			if braces--; braces < 0 {
				return true
			}
		case hclsyntax.TokenOBrack, hclsyntax.TokenOParen:
			brackets++
		case hclsyntax.TokenCBrack, hclsyntax.TokenCParen:
			brackets--
		case hclsyntax.TokenOHeredoc:
			return true
		}
	}
	return braces != 0 || brackets > 0
}

// dropGuesses forgets what was found, in a file that can't be parsed to its
// end, behind its first error of syntax: there the parser has guessed. What the
// parser itself said, the first findings, stays.
func (d *decoder) dropGuesses(fromParser int, parsed []parsedFile) {
	broken := map[string]int{}
	for _, f := range parsed {
		if f.broken >= 0 {
			broken[f.source.name] = f.broken
		}
	}
	kept := d.found[:fromParser]
	for _, f := range d.found[fromParser:] {
		if offset, is := broken[f.File]; !is || f.place.at.Start.Byte < offset {
			kept = append(kept, f)
		}
	}
	d.found = kept
}
