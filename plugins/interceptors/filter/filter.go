// Command filter is the interceptor "filter": it drops records.
//
//	interceptor "filter" {
//	  config = { drop = "value.contains('healthcheck')" }
//	}
//
// Its configuration is one CEL expression, either keep or drop: records for which
// keep is false, or drop is true, go no further and count as done. What
// expressions see is documented in package expression. The result must be a bool.
// A record on which the expression fails, for example one whose value is not
// text, fails with the code "expression", and goes by the stage's on_error.
//
// Only the columns that the expression names are sent to the process. contains,
// startsWith, endsWith, matches and == of value or key with a literal, and their
// combinations with !, && and ||, are decided without the interpreter, so they
// cost tens of nanoseconds per record instead of hundreds.
package main

import (
	"context"

	"cel.dev/cel-go/cel"

	"github.com/barnabas-agent/barnabas/plugins/expression"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// Filter is the interceptor and its configuration.
type Filter struct {
	Keep string `json:"keep,omitempty" jsonschema:"minLength=1,description=CEL expression: records for which it is false are dropped. Either keep or drop is given."`
	Drop string `json:"drop,omitempty" jsonschema:"minLength=1,description=CEL expression: records for which it is true are dropped"`

	program *expression.Program // nil before Configure
	drops   bool                // the program's true means drop
}

// newFilter returns a plugin with the defaults.
func newFilter() sdk.Interceptor { return &Filter{} }

// Configure compiles the expression.
func (f *Filter) Configure(context.Context) error {
	source, pointer := f.Keep, "/keep"
	if f.drops = f.Drop != ""; f.drops {
		source, pointer = f.Drop, "/drop"
	}
	switch {
	case f.Keep != "" && f.Drop != "":
		return &sdk.ConfigError{Pointer: "/drop", Message: "keep and drop exclude each other; negate one with ! and join the two with &&"}
	case source == "":
		return &sdk.ConfigError{Message: `nothing to filter by; give keep = "EXPRESSION" or drop = "EXPRESSION"`}
	}
	environment, err := expression.NewEnvironment()
	if err != nil {
		return err
	}
	if f.program, err = environment.Compile(source, cel.BoolType); err != nil {
		return &sdk.ConfigError{Pointer: pointer, Message: err.Error()}
	}
	return nil
}

// Columns are those that the expression reads.
func (f *Filter) Columns() sdk.Columns {
	if f.program == nil {
		return sdk.Columns{Reads: sdk.AllColumns}
	}
	return sdk.Columns{Reads: f.program.Columns()}
}

// Deterministic says that a record's fate depends on the record alone.
func (*Filter) Deterministic() bool { return true }

// Concurrent says that batches share nothing.
func (*Filter) Concurrent() bool { return true }

// OnSend drops records, and fails those on which the expression fails.
func (f *Filter) OnSend(ctx context.Context, b *sdk.Batch) error {
	row := expression.NewRow(b)
	for i := range b.Len() {
		row.Move(i)
		decision, err := f.program.Decide(ctx, row)
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			b.Fail(i, err)
		case decision == f.drops:
			b.Drop(i)
		}
	}
	return nil
}
