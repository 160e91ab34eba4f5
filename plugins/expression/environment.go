// Package expression compiles and evaluates CEL expressions over the records of a
// batch. An expression sees
//
//	value      string; bytes when it is not UTF-8; a map when it is an object; null
//	key        like value
//	headers    map of name to string, bytes when not UTF-8, or null; of headers
//	           that share a name the last counts
//	topic      string
//	partition  int, -1 while none is chosen
//	timestamp  timestamp
//	source     map: kind ("file", "socket", "stdin"), file or peer, host, offset
//
// and has CEL's standard functions and macros and the strings extension. Only
// the columns that it names are read.
//
// Expressions are written by the operator, records by anyone, so what a record
// can make an expression cost is bounded: without comprehensions every function
// is called a fixed number of times; with them the cost and the context are
// checked while it runs. A regular expression is bounded by its compiled size
// and matched in linear time. What is left is text that an expression multiplies by
// text of the record (value.replace('a', key)): that is bounded by the memory
// that the agent gives the process.
package expression

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/ext"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

const (
	// maxSourceLength bounds an expression, in characters.
	maxSourceLength = 64 << 10
	// maxRegexSize bounds a compiled regular expression, in instructions.
	maxRegexSize = 10_000
	// costLimit bounds one evaluation of an expression with comprehensions, in
	// CEL's units: about one per step and one per ten bytes of text looked at. It
	// is reached within a second, well inside the time that a batch may take.
	costLimit = 1_000_000
	// interruptSteps is how many steps of a comprehension pass between looks at the context.
	interruptSteps = 1_000
)

// Environment compiles expressions. It is immutable and safe for concurrent use.
type Environment struct {
	cel *cel.Env
}

// NewEnvironment returns the environment that all expressions share.
func NewEnvironment() (*Environment, error) {
	env, err := cel.NewEnv(
		ext.Strings(),
		cel.Variable("value", cel.DynType),
		cel.Variable("key", cel.DynType),
		cel.Variable("headers", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("topic", cel.StringType),
		cel.Variable("partition", cel.IntType),
		cel.Variable("timestamp", cel.TimestampType),
		cel.Variable("source", cel.MapType(cel.StringType, cel.DynType)),
		cel.ParserExpressionSizeLimit(maxSourceLength),
		cel.RegexProgramSizeLimit(maxRegexSize),
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals()),
	)
	if err != nil {
		return nil, fmt.Errorf("make the CEL environment: %w", err)
	}
	return &Environment{cel: env}, nil
}

// Compile checks an expression, whose result must be of one of the given types
// where it is known before evaluation; with none given, of any. The error says what
// is wrong and at which line and column of the source.
func (e *Environment) Compile(source string, results ...*cel.Type) (*Program, error) {
	if strings.TrimSpace(source) == "" {
		return nil, errors.New("the expression is empty")
	}
	checked, issues := e.cel.Compile(source)
	if issues.Err() != nil {
		return nil, describe(issues)
	}
	if err := checkResult(checked.OutputType(), results); err != nil {
		return nil, err
	}
	use := survey(checked.NativeRep())
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if use.loops {
		options = append(options, cel.CostLimit(costLimit), cel.InterruptCheckFrequency(interruptSteps))
	}
	program, err := e.cel.Program(checked, options...)
	if err != nil {
		return nil, fmt.Errorf("plan the expression: %w", err)
	}
	root := checked.NativeRep().Expr()
	return &Program{cel: program, columns: use.columns, loops: use.loops, native: nativePredicate(root), text: nativeText(root)}, nil
}

// describe says every mistake of a source and its place, on one line.
func describe(issues *cel.Issues) error {
	var messages []string
	for _, e := range issues.Errors() {
		message := e.Message
		if strings.HasPrefix(message, "undeclared reference") && !strings.Contains(message, "did you mean") {
			message += "; the variables are value, key, headers, topic, partition, timestamp and source"
		}
		messages = append(messages, fmt.Sprintf("line %d, column %d of the expression: %s", e.Location.Line(), e.Location.Column()+1, message))
	}
	return errors.New(strings.Join(messages, "; "))
}

// checkResult compares the type of a result with those that are wanted; a dynamic
// type is known only per record.
func checkResult(got *cel.Type, wanted []*cel.Type) error {
	if len(wanted) == 0 || got.IsExactType(cel.DynType) {
		return nil
	}
	names := make([]string, len(wanted))
	for i, want := range wanted {
		if want.IsAssignableType(got) {
			return nil
		}
		names[i] = want.String()
	}
	return fmt.Errorf("the result is of type %s; it must be %s", got, strings.Join(names, " or "))
}

// usage is what an expression needs.
type usage struct {
	columns sdk.ColumnSet
	loops   bool // it has comprehensions
}

// survey walks a checked expression. A loop's own variable may carry the name of
// a column, which then counts as read.
func survey(checked *ast.AST) usage {
	var use usage
	ast.PreOrderVisit(checked.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.ComprehensionKind:
			use.loops = true
		case ast.IdentKind:
			use.columns |= columnOf(e.AsIdent())
		}
	}))
	return use
}

// columnOf returns the column behind a variable, none for other identifiers.
func columnOf(variable string) sdk.ColumnSet {
	switch strings.TrimPrefix(variable, ".") {
	case "value":
		return sdk.ColumnValue
	case "key":
		return sdk.ColumnKey
	case "headers":
		return sdk.ColumnHeaders
	case "topic":
		return sdk.ColumnTopic
	case "partition":
		return sdk.ColumnPartition
	case "timestamp":
		return sdk.ColumnTimestamp
	case "source":
		return sdk.ColumnSource
	default:
		return 0
	}
}
