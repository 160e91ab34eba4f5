package main

import (
	"context"
	"math"
	"slices"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/barnabas-agent/barnabas/plugins/expression"
	"github.com/barnabas-agent/barnabas/plugins/object"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// textField is the member that a value of text becomes when fields are added to it.
const textField = "message"

// evaluation works through one batch: it evaluates all that is configured for a
// record, then applies it. Its memory is used again for the next record.
type evaluation struct {
	set   *Set
	batch *sdk.Batch
	row   *expression.Row

	parts      []part
	key, value payload
	topic      string
	partition  int32
	timestamp  int64
	headers    []sdk.Header // what the expressions gave; a nil value removes
	all        []sdk.Header // the record's headers with those put in
	members    []object.Member
	scratch    []byte // the bytes of headers and members; slices of it stay good when it grows
	text       []byte
	merged     []byte
}

// part is one expression whose result becomes one part of the record.
type part struct {
	program  *expression.Program
	take     func(ref.Val) error
	takeText func([]byte) error // nil: the part is no text
}

func (p *part) evaluate(ctx context.Context, row *expression.Row) error {
	if p.takeText != nil {
		if text, ok := p.program.Text(row); ok {
			return p.takeText(text)
		}
	}
	result, err := p.program.Evaluate(ctx, row)
	if err != nil {
		return err
	}
	return p.take(result)
}

// payload is a result that becomes a key or value.
type payload struct {
	kind  sdk.Kind
	bytes []byte
}

// takeText keeps a copy of a text.
func (p *payload) takeText(text []byte) error {
	p.kind, p.bytes = sdk.KindBytes, append(p.bytes[:0], text...)
	return nil
}

func newEvaluation(s *Set, b *sdk.Batch) *evaluation {
	e := &evaluation{set: s, batch: b, row: expression.NewRow(b), scratch: []byte{}}
	for _, p := range []part{
		{s.key, e.takeKey, e.key.takeText}, {s.value, e.takeValue, e.value.takeText}, {s.topic, e.takeTopic, e.takeTopicText},
		{s.partition, e.takePartition, nil}, {s.timestamp, e.takeTimestamp, nil},
	} {
		if p.program != nil {
			e.parts = append(e.parts, p)
		}
	}
	return e
}

// evaluate computes everything for record i. Its errors are that record's.
func (e *evaluation) evaluate(ctx context.Context, i int) error {
	e.row.Move(i)
	e.scratch = e.scratch[:0]
	for _, part := range e.parts {
		if err := part.evaluate(ctx, e.row); err != nil {
			return err
		}
	}
	if err := e.evaluateHeaders(ctx); err != nil {
		return err
	}
	return e.evaluateFields(ctx, i)
}

func (e *evaluation) takeKey(result ref.Val) error {
	if expression.IsContainer(result) {
		return sdk.Errorf(expression.FailureCode, "the key can't be a map or a list; make a string of it")
	}
	return take(&e.key, result)
}

func (e *evaluation) takeValue(result ref.Val) error { return take(&e.value, result) }

// take keeps a copy of a result, over the one before it.
func take(p *payload, result ref.Val) error {
	var err error
	switch {
	case result.Type() == types.NullType:
		p.kind, p.bytes = sdk.KindNull, p.bytes[:0]
	case expression.IsContainer(result):
		p.kind = sdk.KindObject
		p.bytes, err = expression.AppendObject(p.bytes[:0], result)
	default:
		p.kind = sdk.KindBytes
		p.bytes, err = expression.AppendText(p.bytes[:0], result)
	}
	return err
}

func (e *evaluation) takeTopic(result ref.Val) error {
	topic, ok := result.(types.String)
	if !ok {
		return sdk.Errorf(expression.FailureCode, "the topic must be a string, not %s", describe(result))
	}
	return e.takeTopicText([]byte(topic))
}

// takeTopicText keeps a copy of its own, for a batch keeps the topics it is given.
func (e *evaluation) takeTopicText(topic []byte) error {
	if len(topic) == 0 {
		return sdk.Errorf(expression.FailureCode, "the topic is empty")
	}
	if e.topic != string(topic) {
		e.topic = string(topic)
	}
	return nil
}

func (e *evaluation) takePartition(result ref.Val) error {
	n, ok := integer(result)
	if !ok || n < int64(sdk.PartitionAny) || n > math.MaxInt32 {
		return sdk.Errorf(expression.FailureCode, "the partition must be an int of 0 or more, or -1 for none, not %s", describe(result))
	}
	e.partition = int32(n)
	return nil
}

func (e *evaluation) takeTimestamp(result ref.Val) error {
	milliseconds, ok := integer(result)
	if t, isTime := result.(types.Timestamp); isTime {
		milliseconds, ok = t.UnixMilli(), true
	}
	if !ok || milliseconds < 0 {
		return sdk.Errorf(expression.FailureCode, "the timestamp must be a timestamp or an int of milliseconds, from 1970 on, not %s", describe(result))
	}
	e.timestamp = milliseconds
	return nil
}

func integer(v ref.Val) (int64, bool) {
	switch n := v.(type) {
	case types.Int:
		return int64(n), true
	case types.Uint:
		return int64(n), n <= math.MaxInt64
	default:
		return 0, false
	}
}

// describe shows a result in an error: numbers as they are, of others the type alone,
// since errors may go where the record's text must not.
func describe(v ref.Val) string {
	if n, ok := integer(v); ok {
		return string(types.Int(n).ConvertToType(types.StringType).(types.String))
	}
	return "a value of type " + v.Type().TypeName()
}

func (e *evaluation) evaluateHeaders(ctx context.Context) error {
	e.headers = e.headers[:0]
	for _, h := range e.set.headers {
		if text, ok := h.program.Text(e.row); ok {
			e.headers = append(e.headers, sdk.Header{Name: h.name, Value: text})
			continue
		}
		result, err := h.program.Evaluate(ctx, e.row)
		if err != nil {
			return err
		}
		header := sdk.Header{Name: h.name}
		if result.Type() != types.NullType {
			begin := len(e.scratch)
			if e.scratch, err = expression.AppendText(e.scratch, result); err != nil {
				return err
			}
			header.Value = e.scratch[begin:len(e.scratch):len(e.scratch)]
		}
		e.headers = append(e.headers, header)
	}
	return nil
}

// evaluateFields makes the value an object with the fields.
func (e *evaluation) evaluateFields(ctx context.Context, i int) error {
	if len(e.set.fields) == 0 {
		return nil
	}
	e.members = e.members[:0]
	for _, f := range e.set.fields {
		begin := len(e.scratch)
		if err := e.appendField(ctx, f.program); err != nil {
			return err
		}
		e.members = append(e.members, object.Member{Name: f.name, Value: e.scratch[begin:]})
	}
	if e.set.value == nil {
		e.value.kind = e.batch.ValueKind(i)
		e.value.bytes = append(e.value.bytes[:0], e.batch.Value(i)...)
	}
	base, err := e.base()
	if err != nil {
		return err
	}
	e.merged, err = object.Merge(e.merged[:0], base, e.members)
	if err != nil {
		return sdk.Errorf(expression.FailureCode, "add fields to the value: %w", err)
	}
	e.value.kind, e.value.bytes, e.merged = sdk.KindObject, e.merged, e.value.bytes
	return nil
}

// appendField writes one field's value to scratch.
func (e *evaluation) appendField(ctx context.Context, program *expression.Program) error {
	if text, ok := program.Text(e.row); ok {
		e.scratch = object.AppendText(e.scratch, text)
		return nil
	}
	result, err := program.Evaluate(ctx, e.row)
	if err == nil {
		e.scratch, err = expression.AppendObject(e.scratch, result)
	}
	return err
}

// base returns the object that the fields are added to.
func (e *evaluation) base() ([]byte, error) {
	begin := len(e.scratch)
	switch {
	case e.value.kind == sdk.KindNull:
		e.scratch = object.AppendMembers(e.scratch, nil)
	case e.value.kind == sdk.KindBytes && utf8.Valid(e.value.bytes):
		e.text = object.AppendText(e.text[:0], e.value.bytes)
		e.scratch = object.AppendMembers(e.scratch, []object.Member{{Name: textField, Value: e.text}})
	case e.value.kind == sdk.KindBytes:
		return nil, sdk.Errorf("not_utf8", "the value is not UTF-8, so no object can be made of it")
	case !object.IsMap(e.value.bytes):
		return nil, sdk.Errorf(expression.FailureCode, "the value is an object, but no map, so fields can't be added")
	default:
		return e.value.bytes, nil
	}
	return e.scratch[begin:], nil
}

// apply sets what was evaluated for record i.
func (e *evaluation) apply(i int) error {
	b := e.batch
	if e.set.key != nil {
		if e.key.kind == sdk.KindNull {
			b.SetKeyNull(i)
		} else {
			b.SetKey(i, e.key.bytes)
		}
	}
	if e.set.topic != nil {
		b.SetTopic(i, e.topic)
	}
	if e.set.partition != nil {
		b.SetPartition(i, e.partition)
	}
	if e.set.timestamp != nil {
		b.SetTimestamp(i, e.timestamp)
	}
	if len(e.headers) > 0 {
		b.SetHeaders(i, e.mergedHeaders(i))
	}
	if e.set.value == nil && len(e.set.fields) == 0 {
		return nil
	}
	switch e.value.kind {
	case sdk.KindNull:
		b.SetValueNull(i)
	case sdk.KindObject:
		return b.SetObject(i, msgpack.RawMessage(e.value.bytes))
	default:
		b.SetValue(i, e.value.bytes)
	}
	return nil
}

// mergedHeaders are the record's own, without those of the names that were
// evaluated, and the evaluated ones behind them.
func (e *evaluation) mergedHeaders(i int) []sdk.Header {
	e.all = e.all[:0]
	for _, h := range e.batch.Headers(i) {
		if !slices.ContainsFunc(e.headers, func(set sdk.Header) bool { return set.Name == h.Name }) {
			e.all = append(e.all, h)
		}
	}
	for _, h := range e.headers {
		if h.Value != nil {
			e.all = append(e.all, h)
		}
	}
	return e.all
}
