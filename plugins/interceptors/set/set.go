// Command set is the interceptor "set": it computes parts of a record with CEL
// expressions.
//
//	interceptor "set" {
//	  config = {
//	    key     = "value.split(' ')[0]"
//	    topic   = "value.contains('ERROR') ? 'errors' : topic"
//	    headers = { agent = "source.host" }
//	    fields  = { level = "value.contains('ERROR') ? 'error' : 'info'" }
//	  }
//	}
//
// Every expression sees the record as it came in, not what the others make of
// it. What expressions see is documented in package expression. If one of them fails,
// or its result does not fit, the record fails with the code "expression" and
// nothing of it is changed.
//
//   - key, value: text and bytes are taken as they are; numbers, bools, timestamps
//     and durations in the form that CEL's string() gives them; null makes the key or
//     the value null (a tombstone); of a map or a list value becomes an object,
//     while key refuses it.
//   - topic: a text that is not empty. The agent refuses topics that the pipeline
//     does not allow.
//   - partition: an int of 0 or more, which bypasses the partitioner; -1 leaves the
//     choice to it.
//   - timestamp: a timestamp, or an int of milliseconds since the Unix epoch.
//   - headers: each as key does it. All headers of that name are removed, and
//     the new one stands at the end; of several, in the order of their names. Null only removes.
//   - fields: members of the value, which becomes an object: to a value that is an
//     object they are added, or replace its members; of text becomes
//     {"message": text} with the fields behind it; of null an object of the fields alone. Null is
//     a field's value like any other. With value given too, the fields go into its result.
//
// In HCL, a quote inside an expression is a single one: 'text'.
package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"

	"github.com/barnabas-agent/barnabas/plugins/expression"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// Set is the interceptor and its configuration.
type Set struct {
	Key       string            `json:"key,omitempty" jsonschema:"minLength=1,description=CEL expression of the key; null makes it null"`
	Value     string            `json:"value,omitempty" jsonschema:"minLength=1,description=CEL expression of the value; null makes it a tombstone"`
	Topic     string            `json:"topic,omitempty" jsonschema:"minLength=1,description=CEL expression of the topic: a string"`
	Partition string            `json:"partition,omitempty" jsonschema:"minLength=1,description=CEL expression of the partition: an int of 0 or more"`
	Timestamp string            `json:"timestamp,omitempty" jsonschema:"minLength=1,description=CEL expression of the timestamp: a timestamp or an int of milliseconds since the Unix epoch"`
	Headers   map[string]string `json:"headers,omitempty" jsonschema:"description=CEL expressions of headers by name; each replaces all headers of its name and null removes them"`
	Fields    map[string]string `json:"fields,omitempty" jsonschema:"description=CEL expressions of members of the value by name; the value becomes an object"`

	key, value, topic, partition, timestamp *expression.Program // nil: not set

	headers []named // in the order of their names
	fields  []named // likewise
}

// newSet returns a plugin with the defaults.
func newSet() sdk.Interceptor { return &Set{} }

// named is the expression of one header or field.
type named struct {
	name    string
	program *expression.Program
}

// Configure compiles the expressions. It names every one that is wrong.
func (s *Set) Configure(context.Context) error {
	environment, err := expression.NewEnvironment()
	if err != nil {
		return err
	}
	c := compiler{environment: environment}
	s.key = c.compile("/key", s.Key)
	s.value = c.compile("/value", s.Value)
	s.topic = c.compile("/topic", s.Topic, cel.StringType)
	s.partition = c.compile("/partition", s.Partition, cel.IntType, cel.UintType)
	s.timestamp = c.compile("/timestamp", s.Timestamp, cel.TimestampType, cel.IntType)
	s.headers = c.compileAll("/headers", s.Headers)
	s.fields = c.compileAll("/fields", s.Fields)
	if c.compiled == 0 && len(c.wrong) == 0 {
		return &sdk.ConfigError{Message: "nothing to set; give key, value, topic, partition, timestamp, headers or fields"}
	}
	return errors.Join(c.wrong...)
}

// Columns are those that the expressions read, and those that they make.
func (s *Set) Columns() sdk.Columns {
	var c sdk.Columns
	for _, target := range []struct {
		program *expression.Program
		column  sdk.ColumnSet
	}{
		{s.key, sdk.ColumnKey}, {s.value, sdk.ColumnValue}, {s.topic, sdk.ColumnTopic},
		{s.partition, sdk.ColumnPartition}, {s.timestamp, sdk.ColumnTimestamp},
	} {
		if target.program != nil {
			c.Reads |= target.program.Columns()
			c.Writes |= target.column
		}
	}
	for _, h := range s.headers {
		c.Reads |= h.program.Columns() | sdk.ColumnHeaders
		c.Writes |= sdk.ColumnHeaders
	}
	for _, f := range s.fields {
		c.Reads |= f.program.Columns()
		c.Writes |= sdk.ColumnValue
	}
	if len(s.fields) > 0 && s.value == nil {
		c.Reads |= sdk.ColumnValue
	}
	if c.Writes == 0 { // not configured yet
		return sdk.Columns{Reads: sdk.AllColumns, Writes: sdk.AllColumns &^ sdk.ColumnSource}
	}
	return c
}

// MayDrop says that every record goes on.
func (*Set) MayDrop() bool { return false }

// Deterministic says that equal records become equal ones.
func (*Set) Deterministic() bool { return true }

// Concurrent says that batches share nothing.
func (*Set) Concurrent() bool { return true }

// OnSend sets what is configured, on each record wholly or, when that record
// fails, not at all.
func (s *Set) OnSend(ctx context.Context, b *sdk.Batch) error {
	e := newEvaluation(s, b)
	for i := range b.Len() {
		if err := e.evaluate(ctx, i); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			b.Fail(i, err)
			continue
		}
		if err := e.apply(i); err != nil {
			return err
		}
	}
	return nil
}

// compiler compiles the expressions of one configuration.
type compiler struct {
	environment *expression.Environment
	compiled    int
	wrong       []error
}

// compile returns nil for an expression that is left out or wrong.
func (c *compiler) compile(pointer, source string, results ...*cel.Type) *expression.Program {
	if source == "" {
		return nil
	}
	return c.mustCompile(pointer, source, results...)
}

// compileAll compiles the expressions under one member, in the order of their names.
func (c *compiler) compileAll(pointer string, sources map[string]string) []named {
	var all []named
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		all = append(all, named{name, c.mustCompile(pointer+"/"+escape(name), sources[name])})
	}
	return all
}

func (c *compiler) mustCompile(pointer, source string, results ...*cel.Type) *expression.Program {
	program, err := c.environment.Compile(source, results...)
	if err != nil {
		c.wrong = append(c.wrong, &sdk.ConfigError{Pointer: pointer, Message: err.Error()})
		return nil
	}
	c.compiled++
	return program
}

// escape writes a name as a part of a JSON pointer, as RFC 6901 says.
func escape(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }
