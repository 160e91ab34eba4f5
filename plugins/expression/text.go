package expression

import (
	"bytes"
	"unicode/utf8"
	"unsafe"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// text computes an expression whose result is a string without the interpreter.
// It answers true only where it is certain of CEL's own answer; where it is not,
// as on a value that is not text or a part that is not there, CEL is asked. The
// result lies in the memory of the batch or of the expression.
type text func(r *Row) ([]byte, bool)

// nativeText returns a text for expressions of a simple shape, else nil: value,
// key, topic, a literal, a header, a member of source that is text, of such
// split('literal')[number] and substring(numbers), and the choice between two
// such by a native predicate.
func nativeText(e ast.Expr) text {
	switch e.Kind() {
	case ast.IdentKind:
		if e.AsIdent() == "topic" {
			return topicText
		}
		return fieldText(fieldReader(e))
	case ast.LiteralKind:
		literal, ok := e.AsLiteral().(types.String)
		if !ok {
			return nil
		}
		constant := []byte(literal)
		return func(*Row) ([]byte, bool) { return constant, true }
	case ast.CallKind:
		call := e.AsCall()
		switch call.FunctionName() {
		case operators.Index:
			return indexText(call.Args()[0], call.Args()[1])
		case operators.Conditional:
			return conditionalText(call.Args())
		case "substring":
			return substringText(call)
		}
	case ast.SelectKind:
		selection := e.AsSelect()
		if !selection.IsTestOnly() {
			return memberText(selection.Operand(), selection.FieldName())
		}
	}
	return nil
}

func topicText(r *Row) ([]byte, bool) {
	topic := r.batch.Topic(r.index)
	return unsafe.Slice(unsafe.StringData(topic), len(topic)), utf8.ValidString(topic)
}

func fieldText(read reader) text {
	if read == nil {
		return nil
	}
	return func(r *Row) ([]byte, bool) {
		f := read(r)
		return f.bytes, f.text
	}
}

// indexText is container[index]: a part of a split text, or a member by its name.
func indexText(container, index ast.Expr) text {
	if name, ok := stringLiteral(index); ok {
		return memberText(container, name)
	}
	return splitText(container, index)
}

// memberText is a header or a member of source. One that is not there, or not
// text, is left to CEL.
func memberText(container ast.Expr, name string) text {
	if container.Kind() != ast.IdentKind {
		return nil
	}
	switch container.AsIdent() {
	case "headers":
		return func(r *Row) ([]byte, bool) {
			value, ok := r.batch.Header(r.index, name)
			return value, ok && value != nil && utf8.Valid(value)
		}
	case "source":
		return sourceText(name)
	default:
		return nil
	}
}

func sourceText(member string) text {
	var of func(s *sdk.Source) string
	switch member {
	case "kind":
		of = func(s *sdk.Source) string { return s.Kind }
	case "host":
		of = func(s *sdk.Source) string { return s.Host }
	case "file":
		of = func(s *sdk.Source) string { return s.File }
	case "peer":
		of = func(s *sdk.Source) string { return s.Peer }
	default:
		return nil
	}
	return func(r *Row) ([]byte, bool) {
		source := r.batch.Source(r.index)
		s := of(&source)
		return unsafe.Slice(unsafe.StringData(s), len(s)), s != "" && utf8.ValidString(s)
	}
}

// conditionalText is condition ? one : other.
func conditionalText(operands []ast.Expr) text {
	condition, one, other := nativePredicate(operands[0]), nativeText(operands[1]), nativeText(operands[2])
	if condition == nil || one == nil || other == nil {
		return nil
	}
	return func(r *Row) ([]byte, bool) {
		switch condition(r) {
		case yes:
			return one(r)
		case no:
			return other(r)
		default:
			return nil, false
		}
	}
}

// splitText is list[index] when list is a text split at a literal.
func splitText(list, index ast.Expr) text {
	if list.Kind() != ast.CallKind {
		return nil
	}
	call := list.AsCall()
	if call.FunctionName() != "split" || !call.IsMemberFunction() || len(call.Args()) != 1 {
		return nil
	}
	whole := nativeText(call.Target())
	separator, isText := stringLiteral(call.Args()[0])
	n, isNumber := numberLiteral(index)
	if whole == nil || !isText || separator == "" || !isNumber {
		return nil
	}
	at := []byte(separator)
	return func(r *Row) ([]byte, bool) {
		rest, ok := whole(r)
		if !ok {
			return nil, false
		}
		for range n {
			if _, rest, ok = bytes.Cut(rest, at); !ok {
				return nil, false
			}
		}
		part, _, _ := bytes.Cut(rest, at)
		return part, true
	}
}

// substringText is substring(begin) or substring(begin, end), in characters.
func substringText(call ast.CallExpr) text {
	if !call.IsMemberFunction() {
		return nil
	}
	whole := nativeText(call.Target())
	begin, ok := numberLiteral(call.Args()[0])
	if whole == nil || !ok {
		return nil
	}
	if len(call.Args()) == 1 {
		return func(r *Row) ([]byte, bool) {
			b, ok := whole(r)
			if !ok {
				return nil, false
			}
			_, rest, ok := cutCharacters(b, begin)
			return rest, ok
		}
	}
	end, ok := numberLiteral(call.Args()[1])
	if !ok || end < begin {
		return nil
	}
	return func(r *Row) ([]byte, bool) {
		b, ok := whole(r)
		if !ok {
			return nil, false
		}
		_, rest, ok := cutCharacters(b, begin)
		if !ok {
			return nil, false
		}
		part, _, ok := cutCharacters(rest, end-begin)
		return part, ok
	}
}

// cutCharacters cuts UTF-8 behind its first n characters, if it has as many.
func cutCharacters(b []byte, n int64) (head, rest []byte, ok bool) {
	at := 0
	for ; n > 0; n-- {
		if at == len(b) {
			return nil, nil, false
		}
		_, size := utf8.DecodeRune(b[at:])
		at += size
	}
	return b[:at], b[at:], true
}

func stringLiteral(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	literal, ok := e.AsLiteral().(types.String)
	return string(literal), ok
}

// numberLiteral returns an int literal that is not negative.
func numberLiteral(e ast.Expr) (int64, bool) {
	if e.Kind() != ast.LiteralKind {
		return 0, false
	}
	literal, ok := e.AsLiteral().(types.Int)
	return int64(literal), ok && literal >= 0
}
