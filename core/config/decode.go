package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// maxFindings bounds what is said about one configuration; more is no help.
const maxFindings = 1000

// decoder fills a Config from parsed files and collects what there is to say.
type decoder struct {
	options Options
	folder  string // absolute; relative paths start here
	context *hcl.EvalContext
	calls   *calls
	found   []finding
	more    bool // errors beyond maxFindings
	partial bool // a file could not be parsed to its end: what is missing may stand behind
}

// finding is a Diagnostic with what orders it.
type finding struct {
	place Place
	Diagnostic
}

// schema says what a block may hold.
type schema struct {
	name       string // as messages call the block
	key        string // of the block in the table of what is not available yet
	attributes map[string]attribute
	blocks     map[string]nested
	unread     bool // names are checked, values are not even evaluated
}

// attribute reads one attribute into its field.
type attribute struct {
	secret bool                      // takes what credential() gives
	read   func(v value) (any, bool) // returns what it read, or false after an error
}

// nested reads one kind of block inside another.
type nested struct {
	minLabels, maxLabels int
	labels               string // what the labels are, for messages
	once                 bool
	read                 func(b block)
}

// block is one block on its way to a field.
type block struct {
	*hclsyntax.Block
	source *source
	header Place
}

// label returns label i and its place; a missing one is empty and has the place
// of the block's header.
func (b block) label(i int) (string, Place) {
	if i >= len(b.Labels) {
		return "", b.header
	}
	return b.Labels[i], Place{b.source, b.LabelRanges[i]}
}

// into makes an attribute whose value goes through parse into a field.
func into[T any](field *T, parse parser[T]) attribute {
	return attribute{read: func(v value) (any, bool) {
		parsed, ok := parse(v)
		if ok {
			*field = parsed
		}
		return parsed, ok
	}}
}

// intoSecret is into for a field that keeps secrets.
func intoSecret[T any](field *T, parse parser[T]) attribute {
	a := into(field, parse)
	a.secret = true
	return a
}

// errorAt reports an error.
func (d *decoder) errorAt(p Place, hint, format string, args ...any) {
	if len(d.found) >= maxFindings {
		d.more = true
		return
	}
	d.found = append(d.found, finding{p, p.Error(fmt.Sprintf(format, args...), hint)})
}

// warnAt reports a warning.
func (d *decoder) warnAt(p Place, hint, format string, args ...any) {
	if len(d.found) < maxFindings {
		d.found = append(d.found, finding{p, p.Warning(fmt.Sprintf(format, args...), hint)})
	}
}

// missingAt reports that something is not there, unless it may stand in a part
// that could not be parsed.
func (d *decoder) missingAt(p Place, hint, format string, args ...any) {
	if !d.partial {
		d.errorAt(p, hint, format, args...)
	}
}

// block reads the attributes and blocks of a block.
func (d *decoder) block(b block, s schema) Places {
	return d.body(b.Body, b.source, b.header, s, map[string]Place{})
}

// body reads the attributes and blocks of a body. seen holds the first block
// of each type, which a body that is spread over several files shares.
func (d *decoder) body(body *hclsyntax.Body, src *source, header Place, s schema, seen map[string]Place) Places {
	places := Places{header: header, attributes: map[string]Place{}}
	for name, attr := range body.Attributes {
		places.attributes[name] = Place{src, attr.Expr.Range()}
		d.attribute(attr, src, s)
	}
	for _, inner := range body.Blocks {
		b := block{inner, src, Place{src, inner.DefRange()}}
		d.nested(b, s, seen)
	}
	return places
}

func (d *decoder) attribute(attr *hclsyntax.Attribute, src *source, s schema) {
	known, ok := s.attributes[attr.Name]
	name := Place{src, attr.NameRange}
	if _, isBlock := s.blocks[attr.Name]; isBlock {
		d.errorAt(name, "write "+attr.Name+" { … } without the equals sign", "%s is a block, not an attribute", attr.Name)
		return
	}
	if !ok {
		d.errorAt(name, s.suggest(attr.Name), "unknown attribute %s in %s", quote(attr.Name), s.name)
		return
	}
	if s.unread {
		return
	}
	v, ok := d.evaluate(attr, src)
	if !ok || v.IsNull() {
		return
	}
	if v.ContainsMarked() && !known.secret {
		d.errorAt(v.place, "a credential can be a user name, a password, a property in a producer's config, or stand in a plugin's config or env",
			"%s takes no credential", attr.Name)
		return
	}
	if parsed, ok := known.read(v); ok && !d.available(s.key+"."+attr.Name, parsed) {
		d.errorAt(name, "leave it out", "%s = %s is not available yet", attr.Name, firstLine(attr.Expr.Range().SliceBytes(src.text)))
	}
}

func (d *decoder) nested(b block, s schema, seen map[string]Place) {
	known, ok := s.blocks[b.Type]
	at := Place{b.source, b.TypeRange}
	if _, isAttribute := s.attributes[b.Type]; isAttribute {
		d.errorAt(at, "write "+b.Type+" = …", "%s is an attribute, not a block", b.Type)
		return
	}
	if !ok {
		d.errorAt(at, s.suggest(b.Type), "unknown block %s in %s", quote(b.Type), s.name)
		return
	}
	if first, again := seen[b.Type]; again && known.once {
		d.errorAt(at, fmt.Sprintf("the first one is at %s:%d", first.at.Filename, first.at.Start.Line), "a second %s block in %s", b.Type, s.name)
	} else {
		seen[b.Type] = at
	}
	switch {
	case len(b.Labels) < known.minLabels:
		d.errorAt(at, fmt.Sprintf("write %s %q { … }", b.Type, strings.ToUpper(known.labels)), "%s needs a label: %s", b.Type, known.labels)
	case len(b.Labels) > known.maxLabels:
		_, extra := b.label(known.maxLabels)
		d.errorAt(extra, "", "%s takes %s", b.Type, countLabels(known.maxLabels))
	}
	if !d.available(s.key+"."+b.Type, nil) {
		d.errorAt(at, "leave it out", "%s is not available yet", b.Type)
		return
	}
	known.read(b)
}

func countLabels(n int) string {
	if n == 0 {
		return "no label"
	}
	return fmt.Sprintf("at most %d label", n)
}

// suggest finds what an unknown name may have meant, or lists all names.
func (s schema) suggest(name string) string {
	known := slices.Concat(slices.Collect(maps.Keys(s.attributes)), slices.Collect(maps.Keys(s.blocks)))
	return Suggest(name, known)
}

// maxSuggestions bounds the names that are compared or listed in a hint.
const maxSuggestions = 40

// Suggest is the hint for an unknown name: the nearest of those that are known,
// or all of them when none is near.
func Suggest(name string, known []string) string {
	known = slices.Compact(slices.Sorted(slices.Values(known)))
	known = known[:min(len(known), maxSuggestions)]
	if near := closest(name, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(known) == 0 {
		return ""
	}
	return "known here: " + strings.Join(known, ", ")
}

// closest returns the known name, the first of equals, within an edit distance
// that a slip of the hand explains, or "".
func closest(name string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		distance := levenshtein.Distance(strings.ToLower(name), strings.ToLower(k), nil)
		if distance < least && distance < max(len(name), len(k)) {
			best, least = k, distance
		}
	}
	return best
}

// evaluate computes an attribute's expression.
func (d *decoder) evaluate(attr *hclsyntax.Attribute, src *source) (value, bool) {
	place := Place{src, attr.Expr.Range()}
	if loop := findLoop(attr.Expr); loop != nil {
		d.errorAt(Place{src, loop.Range()}, "write the elements out", "for expressions are not part of the configuration language")
		return value{}, false
	}
	d.calls.placeholders = nil
	got, diags := attr.Expr.Value(d.context)
	for _, name := range d.calls.placeholders {
		d.warnAt(place, "systemd sets it for a unit with LoadCredential=", "credential %s is not checked: $CREDENTIALS_DIRECTORY is not set", quote(name))
	}
	d.fromHCL(diags, src)
	if diags.HasErrors() {
		return value{}, false
	}
	if plain, _ := got.UnmarkDeep(); !plain.IsWhollyKnown() {
		d.errorAt(place, "", "the value of %s can't be computed", attr.Name)
		return value{}, false
	}
	return value{Value: got, name: attr.Name, expr: attr.Expr, place: place, source: src, decoder: d}, true
}

// findLoop returns a for expression inside expr, or nil. Loops are refused: with
// the functions there are, they only serve to make a small file take forever.
func findLoop(expr hclsyntax.Expression) *hclsyntax.ForExpr {
	var found *hclsyntax.ForExpr
	_ = hclsyntax.VisitAll(expr, func(node hclsyntax.Node) hcl.Diagnostics {
		if loop, is := node.(*hclsyntax.ForExpr); is && found == nil {
			found = loop
		}
		return nil
	})
	return found
}

// fromHCL takes over what hcl itself has to say.
func (d *decoder) fromHCL(diags hcl.Diagnostics, src *source) {
	for _, diag := range diags {
		place := Place{source: src, at: hcl.Range{Filename: src.name, Start: hcl.InitialPos, End: hcl.InitialPos}}
		if diag.Subject != nil {
			place.at = *diag.Subject
		}
		if len(d.found) >= maxFindings {
			d.more = true
			return
		}
		message, hint := lowerFirst(diag.Summary), place.unlessSecret(diag.Detail)
		if diag.Summary == "Variables not allowed" {
			hint = `write text in quotes; inside them "${" begins a template, and "$${" is the two characters`
		}
		if call, ok := hcl.DiagnosticExtra[hclsyntax.FunctionCallDiagExtra](diag); ok && call.FunctionCallError() != nil {
			message, hint = splitHint(call.FunctionCallError())
		}
		if diag.Severity == hcl.DiagWarning {
			d.warnAt(place, hint, "%s", message)
			continue
		}
		d.errorAt(place, hint, "%s", message)
	}
}

// firstLine shows a short text as it is, and of a longer one its first line.
func firstLine(text []byte) string {
	line, _, more := strings.Cut(string(text), "\n")
	if more {
		line += " …"
	}
	return line
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// quote shows a text of the configuration in a message, cut to what a line
// takes.
func quote(s string) string {
	const most = 60
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return `"` + printable(s) + `"`
}

// isText says that v is a string that is there.
func isText(v cty.Value) bool {
	return v.IsKnown() && !v.IsNull() && v.Type() == cty.String
}
