package expression

import (
	"bytes"
	"regexp"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// predicate decides an expression without the interpreter. It answers only
// where it is certain of CEL's own answer; for a record on which it is not, such
// as a value that is not text, it is undecided and CEL is asked.
type predicate func(r *Row) answer

type answer uint8

const (
	undecided answer = iota
	yes
	no
)

func answerOf(b bool) answer {
	if b {
		return yes
	}
	return no
}

// nativePredicate returns a predicate for expressions of a simple shape, else
// nil: contains, startsWith, endsWith and matches of a native text with a literal,
// comparison of one or of the topic with a literal, and !, && and || of such.
func nativePredicate(e ast.Expr) predicate {
	if e.Kind() != ast.CallKind {
		return nil
	}
	call := e.AsCall()
	switch call.FunctionName() {
	case operators.LogicalNot:
		return negation(nativePredicate(call.Args()[0]))
	case operators.LogicalAnd:
		return junction(call.Args(), no)
	case operators.LogicalOr:
		return junction(call.Args(), yes)
	case operators.Equals:
		return comparison(call.Args())
	case operators.NotEquals:
		return negation(comparison(call.Args()))
	default:
		return textPredicate(call)
	}
}

func negation(p predicate) predicate {
	if p == nil {
		return nil
	}
	return func(r *Row) answer {
		switch p(r) {
		case yes:
			return no
		case no:
			return yes
		default:
			return undecided
		}
	}
}

// junction is && when absorbing is no, || when it is yes: one operand with that
// answer decides, whatever the others are, even errors.
func junction(operands []ast.Expr, absorbing answer) predicate {
	parts := make([]predicate, len(operands))
	for i, operand := range operands {
		if parts[i] = nativePredicate(operand); parts[i] == nil {
			return nil
		}
	}
	otherwise := yes
	if absorbing == yes {
		otherwise = no
	}
	return func(r *Row) answer {
		result := otherwise
		for _, p := range parts {
			switch p(r) {
			case absorbing:
				return absorbing
			case undecided:
				result = undecided
			}
		}
		return result
	}
}

// reader returns what a predicate looks at.
type reader func(r *Row) *field

func fieldReader(e ast.Expr) reader {
	if e.Kind() != ast.IdentKind {
		return nil
	}
	switch e.AsIdent() {
	case "value":
		return (*Row).readValue
	case "key":
		return (*Row).readKey
	default:
		return nil
	}
}

// textPredicate is a function of a text and a literal. On what is not text CEL
// has no such function, and its error is CEL's to give.
func textPredicate(call ast.CallExpr) predicate {
	if !call.IsMemberFunction() || len(call.Args()) != 1 {
		return nil
	}
	subject := nativeText(call.Target())
	literal, ok := stringLiteral(call.Args()[0])
	if subject == nil || !ok {
		return nil
	}
	test := textTest(call.FunctionName(), literal)
	if test == nil {
		return nil
	}
	return func(r *Row) answer {
		b, ok := subject(r)
		if !ok {
			return undecided
		}
		return answerOf(test(b))
	}
}

func textTest(function, literal string) func([]byte) bool {
	want := []byte(literal)
	switch function {
	case "contains":
		return func(text []byte) bool { return bytes.Contains(text, want) }
	case "startsWith":
		return func(text []byte) bool { return bytes.HasPrefix(text, want) }
	case "endsWith":
		return func(text []byte) bool { return bytes.HasSuffix(text, want) }
	case "matches":
		expression, err := regexp.Compile(literal)
		if err != nil {
			return nil
		}
		return expression.Match
	default:
		return nil
	}
}

// comparison is == of a text or topic and a literal, in either order.
func comparison(operands []ast.Expr) predicate {
	subject, constant := operands[0], operands[1]
	if subject.Kind() == ast.LiteralKind {
		subject, constant = constant, subject
	}
	literal, ok := stringLiteral(constant)
	if !ok {
		return nil
	}
	if subject.Kind() == ast.IdentKind {
		return variableComparison(subject, literal)
	}
	part := nativeText(subject)
	if part == nil {
		return nil
	}
	return func(r *Row) answer {
		b, ok := part(r)
		if !ok {
			return undecided
		}
		return answerOf(borrow(b) == literal)
	}
}

// variableComparison decides what is not text too: values of different types are
// unequal in CEL, so null and bytes that are not UTF-8 differ from the literal.
// An object is left to CEL, for it may be malformed.
func variableComparison(variable ast.Expr, literal string) predicate {
	if variable.AsIdent() == "topic" {
		return func(r *Row) answer { return answerOf(r.batch.Topic(r.index) == literal) }
	}
	read := fieldReader(variable)
	if read == nil {
		return nil
	}
	return func(r *Row) answer {
		f := read(r)
		if f.kind == sdk.KindObject {
			return undecided
		}
		return answerOf(f.text && borrow(f.bytes) == literal)
	}
}
