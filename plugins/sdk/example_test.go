package sdk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// Mask is an interceptor that masks a word, drops empty values and refuses tombstones.
type Mask struct {
	Word string `json:"word" jsonschema:"required,minLength=1,description=The word to mask"`
	With string `json:"with,omitempty" jsonschema:"description=What stands in its place"`
}

// OnSend handles one batch.
func (m *Mask) OnSend(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		switch value := b.Value(i); {
		case value == nil:
			b.Fail(i, sdk.Errorf("mask.tombstone", "there is no value to mask"))
		case len(value) == 0:
			b.Drop(i)
		case bytes.Contains(value, []byte(m.Word)):
			b.SetValue(i, bytes.ReplaceAll(value, []byte(m.Word), []byte(m.With)))
		}
	}
	return nil
}

// Columns says that only values matter, so that no other column crosses to the process.
func (m *Mask) Columns() sdk.Columns {
	return sdk.Columns{Reads: sdk.ColumnValue, Writes: sdk.ColumnValue}
}

// The main of a plugin is one line; the defaults stand in the struct that the function makes.
func ExampleServeInterceptor() {
	main := func() {
		sdk.ServeInterceptor("mask", "1.0.0", func() sdk.Interceptor { return &Mask{With: "***"} })
	}
	_ = main
}

// A plugin's method is tested on a batch made by hand.
func ExampleNewBatch() {
	b := sdk.NewBatch(
		sdk.Fields{Value: []byte("my secret")},
		sdk.Fields{Value: []byte("")},
		sdk.Fields{},
	)
	mask := &Mask{Word: "secret", With: "***"}
	if err := mask.OnSend(context.Background(), b); err != nil {
		fmt.Println(err)
	}
	code, message, _ := b.Failure(2)
	fmt.Printf("%s; dropped: %v; %s: %s\n", b.Value(0), b.Dropped(1), code, message)
	// Output: my ***; dropped: true; mask.tombstone: there is no value to mask
}

// EachRecord adapts a function of one record; its error refuses that record alone.
func ExampleEachRecord() {
	b := sdk.NewBatch(sdk.Fields{Value: []byte("7")}, sdk.Fields{Value: []byte("seven")})
	err := sdk.EachRecord(context.Background(), b, func(_ context.Context, r *sdk.Record) error {
		var n int
		if _, err := fmt.Sscan(string(r.Value()), &n); err != nil {
			return sdk.Errorf("number", "%q is no number", r.Value())
		}
		return r.SetObject(map[string]any{"n": n})
	})
	object, _ := b.Object(0)
	_, message, _ := b.Failure(1)
	fmt.Println(err, object, message)
	// Output: <nil> map[n:7] "seven" is no number
}

// Limits checks what a schema can't.
type Limits struct {
	Low  int `json:"low,omitempty"`
	High int `json:"high,omitempty"`
}

// Configure is called when the fields hold the configuration.
func (l *Limits) Configure(context.Context) error {
	if l.Low > l.High {
		return &sdk.ConfigError{Pointer: "/low", Message: fmt.Sprintf("%d is more than high, %d", l.Low, l.High)}
	}
	return nil
}

func ExampleConfigError() {
	err := (&Limits{Low: 3, High: 1}).Configure(context.Background())
	wrong, _ := errors.AsType[*sdk.ConfigError](err)
	fmt.Println(wrong.Pointer, "-", wrong.Message)
	// Output: /low - 3 is more than high, 1
}
