package expression

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"pgregory.net/rapid"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

func newEnvironment(t testing.TB) *Environment {
	t.Helper()
	e, err := NewEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func compile(t testing.TB, e *Environment, source string, results ...*cel.Type) *Program {
	t.Helper()
	p, err := e.Compile(source, results...)
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	return p
}

// sameDecision compares the shortcut with CEL's own evaluation of one record.
func sameDecision(t interface{ Fatalf(string, ...any) }, p *Program, record sdk.Fields, source string) {
	row := NewRow(sdk.NewBatch(record))
	slow := *p
	slow.native = nil
	fast, fastErr := p.Decide(context.Background(), row)
	row.Move(0)
	want, wantErr := slow.Decide(context.Background(), row)
	if fast != want || fmt.Sprint(fastErr) != fmt.Sprint(wantErr) {
		t.Fatalf("%s on value %q, key %q, topic %q: shortcut %v, %v; CEL %v, %v",
			source, record.Value, record.Key, record.Topic, fast, fastErr, want, wantErr)
	}
}

// drawExpression draws an expression of a shape that has a shortcut.
func drawExpression(t *rapid.T, depth int) string {
	kind := rapid.IntRange(0, 7).Draw(t, "kind")
	if depth == 0 {
		kind %= 5
	}
	switch kind {
	case 5:
		return "!(" + drawExpression(t, depth-1) + ")"
	case 6:
		return "(" + drawExpression(t, depth-1) + " && " + drawExpression(t, depth-1) + ")"
	case 7:
		return "(" + drawExpression(t, depth-1) + " || " + drawExpression(t, depth-1) + ")"
	}
	variable := drawTextExpression(t, 1)
	if kind == 4 && rapid.Bool().Draw(t, "topic") {
		variable = "topic"
	}
	literal := strconv.QuoteToASCII(rapid.SampledFrom([]string{"", "a", "b", "ab", "é", "\ufffd"}).Draw(t, "literal"))
	switch kind {
	case 0, 1, 2:
		function := []string{"contains", "startsWith", "endsWith"}[kind]
		return fmt.Sprintf("%s.%s(%s)", variable, function, literal)
	case 3:
		return fmt.Sprintf("%s.matches('^a|%s.b$|é')", variable, rapid.SampledFrom([]string{"", "(?i)", "[^x]"}).Draw(t, "pattern"))
	default:
		operator := rapid.SampledFrom([]string{"==", "!="}).Draw(t, "operator")
		if rapid.Bool().Draw(t, "reversed") {
			return fmt.Sprintf("%s %s %s", literal, operator, variable)
		}
		return fmt.Sprintf("%s %s %s", variable, operator, literal)
	}
}

// drawTextExpression draws an expression of a shape that has a native text.
func drawTextExpression(t *rapid.T, depth int) string {
	kind := rapid.IntRange(0, 7).Draw(t, "text kind")
	if depth == 0 {
		kind %= 4
	}
	number := func(label string) int { return rapid.IntRange(0, 3).Draw(t, label) }
	switch kind {
	case 0:
		return "value"
	case 1:
		return rapid.SampledFrom([]string{"key", "topic"}).Draw(t, "variable")
	case 2:
		return rapid.SampledFrom([]string{"headers['a']", "headers.b", "headers['c']"}).Draw(t, "header")
	case 3:
		return "source." + rapid.SampledFrom([]string{"file", "peer", "kind", "host"}).Draw(t, "member")
	case 4:
		return fmt.Sprintf("(%s.contains('a') ? %s : 'x')", drawTextExpression(t, depth-1), drawTextExpression(t, depth-1))
	case 5:
		separator := rapid.SampledFrom([]string{"a", "b", "ab", "é"}).Draw(t, "separator")
		return fmt.Sprintf("%s.split('%s')[%d]", drawTextExpression(t, depth-1), separator, number("index"))
	case 6:
		return fmt.Sprintf("%s.substring(%d)", drawTextExpression(t, depth-1), number("begin"))
	default:
		begin := number("begin")
		return fmt.Sprintf("%s.substring(%d, %d)", drawTextExpression(t, depth-1), begin, begin+number("length"))
	}
}

// TestNativeTextsAreCELs compares texts, where there is one, with CEL's result.
func TestNativeTextsAreCELs(t *testing.T) {
	e := newEnvironment(t)
	rapid.Check(t, func(rt *rapid.T) {
		source := drawTextExpression(rt, 2)
		p := compile(t, e, source)
		if p.text == nil {
			rt.Fatalf("%s has no native text", source)
		}
		for range 8 {
			row := NewRow(sdk.NewBatch(drawRecord(rt)))
			got, ok := p.Text(row)
			if !ok {
				continue
			}
			want, err := p.Evaluate(context.Background(), row)
			if err != nil || want != types.String(got) {
				rt.Fatalf("%s: got %q, want %v, %v", source, got, want, err)
			}
		}
	})
}

func TestNativeTextsHaveTheirAnswer(t *testing.T) {
	e := newEnvironment(t)
	row := NewRow(sdk.NewBatch(sdk.Fields{Value: []byte("é b  c"), Key: []byte("\xff")}))
	for source, want := range map[string]string{
		`value`: "é b  c", `'x'`: "x", `value.split(' ')[0]`: "é", `value.split(' ')[2]`: "", `value.split(' ')[3]`: "c",
		`value.substring(1)`: " b  c", `value.substring(0, 1)`: "é", `value.substring(6)`: "", `value.split(' ')[0].substring(1, 1)`: "",
	} {
		if got, ok := compile(t, e, source).Text(row); !ok || string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", source, got, ok, want)
		}
	}
	for _, source := range []string{`key`, `value.split(' ')[4]`, `value.substring(7)`, `value.substring(0, 7)`, `value.split('')[0]`,
		`value.split(' ', 2)[0]`, `value.split(' ')[-1]`, `value.substring(2, 1)`, `headers['a']`, `source.peer`, `source.offset`, `has(source.host)`, `value.lowerAscii()`} {
		if got, ok := compile(t, e, source).Text(row); ok {
			t.Errorf("%s: got %q without CEL", source, got)
		}
	}
}

// drawText draws null, text, or bytes that are not UTF-8, of few letters so that
// expressions match now and then.
func drawText(t *rapid.T, label string) []byte {
	if rapid.IntRange(0, 5).Draw(t, label+" is null") == 0 {
		return nil
	}
	text := []byte{}
	for _, part := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "é", "\xff", "\ufffd", "ab", "A"}), 0, 5).Draw(t, label) {
		text = append(text, part...)
	}
	return text
}

func drawRecord(t *rapid.T) sdk.Fields {
	record := sdk.Fields{Value: drawText(t, "value"), Key: drawText(t, "key"),
		Topic:  rapid.SampledFrom([]string{"a", "ab", "b"}).Draw(t, "topic"),
		Source: sdk.Source{Kind: "file", File: string(drawText(t, "file")), Host: "b"},
	}
	for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b"}), 0, 3).Draw(t, "headers") {
		record.Headers = append(record.Headers, sdk.Header{Name: name, Value: drawText(t, "header "+name)})
	}
	if rapid.IntRange(0, 8).Draw(t, "object") == 0 {
		record.Value, record.Object = nil, map[string]any{"a": "b"}
	}
	return record
}

func TestShortcutsAnswerAsCELDoes(t *testing.T) {
	e := newEnvironment(t)
	rapid.Check(t, func(rt *rapid.T) {
		source := drawExpression(rt, 3)
		p := compile(t, e, source, cel.BoolType)
		if p.native == nil {
			rt.Fatalf("%s has no shortcut", source)
		}
		for range 8 {
			sameDecision(rt, p, drawRecord(rt), source)
		}
	})
}

// FuzzShortcut does the same for any bytes.
func FuzzShortcut(f *testing.F) {
	e := newEnvironment(f)
	var programs []*Program
	sources := []string{
		`value.contains('ab')`, `!value.startsWith('a')`, `value.endsWith('\u00e9')`, `value.matches('a+b|\ufffd')`,
		`value == 'ab' || value.contains('\ufffd')`, `value != '' && !value.contains('b')`,
	}
	for _, source := range sources {
		programs = append(programs, compile(f, e, source, cel.BoolType))
	}
	f.Add([]byte("xaby"))
	f.Add([]byte("\xffab"))
	f.Add([]byte("\ufffd"))
	f.Fuzz(func(t *testing.T, value []byte) {
		for i, p := range programs {
			sameDecision(t, p, sdk.Fields{Value: append([]byte{}, value...)}, sources[i])
		}
	})
}

func TestShapesWithoutShortcut(t *testing.T) {
	e := newEnvironment(t)
	for _, source := range []string{
		`value.contains(key)`, `size(value) > 3`, `value.contains('a') && size(value) > 3`, `headers['a'] == b'b'`,
		`value.exists(value, value.contains('a'))`, `true`, `value.contains('a') ? true : false`, `value == b'a'`,
	} {
		if compile(t, e, source).native != nil {
			t.Errorf("%s has a shortcut", source)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	e := newEnvironment(b)
	line := []byte("2026-01-01T00:00:00Z host app[123]: user 4711 logged in from 10.1.2.3 with a rather long message that goes on and on until it has about two hundred bytes in all, which is the size of a record in tests 01")
	for _, source := range []string{
		`value.contains('zzzz')`, `!value.startsWith('x') && value.contains('10.1')`, `value.matches('user [0-9]+ ')`,
		`size(value) > 100`, `headers['a'] == 'b'`, `source.file.endsWith('.log')`, `value.split(' ').exists(w, w == '4711')`,
	} {
		for _, shortcut := range []bool{true, false} {
			p := *compile(b, e, source, cel.BoolType)
			if p.native == nil && shortcut {
				continue
			}
			if !shortcut {
				p.native = nil
			}
			b.Run(fmt.Sprintf("%s/shortcut=%v", source, shortcut), func(b *testing.B) {
				row := NewRow(sdk.NewBatch(sdk.Fields{Value: line, Headers: []sdk.Header{{Name: "a", Value: []byte("b")}},
					Source: sdk.Source{Kind: "file", File: "/var/log/a.log"}}))
				b.ReportAllocs()
				for b.Loop() {
					row.Move(0)
					if _, err := p.Decide(context.Background(), row); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
