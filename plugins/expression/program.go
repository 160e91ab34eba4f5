package expression

import (
	"context"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// FailureCode is the code of a record on which an expression failed.
const FailureCode = "expression"

// Program is a compiled expression. It is immutable and safe for concurrent use.
type Program struct {
	cel     cel.Program
	columns sdk.ColumnSet
	loops   bool
	native  predicate // nil: the expression is not of a shape that has one
	text    text      // likewise
}

// Columns are those that the expression refers to.
func (p *Program) Columns() sdk.ColumnSet { return p.columns }

// Evaluate returns the expression's result for the row. An error is that
// record's failure and carries FailureCode; when ctx has ended, it may be so for that reason.
func (p *Program) Evaluate(ctx context.Context, r *Row) (ref.Val, error) {
	var result ref.Val
	var err error
	if p.loops {
		result, _, err = p.cel.ContextEval(ctx, r)
	} else {
		result, _, err = p.cel.Eval(r)
	}
	if err != nil {
		return nil, sdk.Errorf(FailureCode, "the expression failed: %w", err)
	}
	return result, nil
}

// Decide is Evaluate for expressions whose result must be a bool.
func (p *Program) Decide(ctx context.Context, r *Row) (bool, error) {
	if p.native != nil {
		if answer := p.native(r); answer != undecided {
			return answer == yes, nil
		}
	}
	result, err := p.Evaluate(ctx, r)
	if err != nil {
		return false, err
	}
	decision, ok := result.(types.Bool)
	if !ok {
		return false, sdk.Errorf(FailureCode, "the expression gave %s, not a bool", article(result))
	}
	return bool(decision), nil
}

// Text returns the expression's result when it is a string that can be had
// without the interpreter. When ok is false, Evaluate must be asked. The text is
// lent until the batch's end and must not be changed.
func (p *Program) Text(r *Row) (text []byte, ok bool) {
	if p.text == nil {
		return nil, false
	}
	return p.text(r)
}
