package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

func configured(t testing.TB, f *Filter) *Filter {
	t.Helper()
	if err := f.Configure(context.Background()); err != nil {
		t.Fatal(err)
	}
	return f
}

func values(texts ...string) []sdk.Fields {
	var records []sdk.Fields
	for _, text := range texts {
		records = append(records, sdk.Fields{Value: []byte(text)})
	}
	return records
}

// verdicts writes the fate of each record as a letter: kept, dropped, failed.
func verdicts(b *sdk.Batch) string {
	var letters strings.Builder
	for i := range b.Len() {
		code, _, failed := b.Failure(i)
		switch {
		case failed && code == "expression":
			letters.WriteByte('f')
		case failed:
			letters.WriteByte('?')
		case b.Dropped(i):
			letters.WriteByte('d')
		default:
			letters.WriteByte('k')
		}
	}
	return letters.String()
}

func TestVerdicts(t *testing.T) {
	records := append(values("debug a", "info b", "\xff", ""), sdk.Fields{}, sdk.Fields{Object: map[string]any{"level": "debug"}})
	for _, c := range []struct {
		filter Filter
		want   string
	}{
		{Filter{Drop: `value.contains('debug')`}, "dkfkff"},
		{Filter{Keep: `value.contains('debug')`}, "kdfdff"},
		{Filter{Drop: `type(value) == string && value.startsWith('debug')`}, "dkkkkk"},
		{Filter{Keep: `value != null`}, "kkkkdk"},
		{Filter{Drop: `has(value.level) && value.level == 'debug'`}, "kkkkkd"},
		{Filter{Keep: `size(value) > 0`}, "kkkdfk"},
		{Filter{Keep: `value`}, "ffffff"},
		{Filter{Keep: `true`}, "kkkkkk"},
	} {
		b := sdk.NewBatch(records...)
		if err := configured(t, &c.filter).OnSend(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		if got := verdicts(b); got != c.want {
			t.Errorf("keep %q, drop %q: got %s, want %s", c.filter.Keep, c.filter.Drop, got, c.want)
		}
	}
}

func TestOnlyNamedColumnsAreRead(t *testing.T) {
	f := &Filter{Drop: `value.contains('x') || topic == 'y'`}
	if got := f.Columns(); got.Reads != sdk.AllColumns || got.Writes != 0 {
		t.Errorf("before configuration: %+v", got)
	}
	if got := configured(t, f).Columns(); got.Reads != sdk.ColumnValue|sdk.ColumnTopic || got.Writes != 0 {
		t.Errorf("after configuration: %+v", got)
	}
}

func TestMistakesNameTheMember(t *testing.T) {
	for _, c := range []struct {
		filter  Filter
		pointer string
		message string
	}{
		{Filter{}, "", "give keep"},
		{Filter{Keep: "true", Drop: "true"}, "/drop", "exclude each other"},
		{Filter{Keep: "valeu == 'x'"}, "/keep", "line 1, column 1 of the expression: undeclared reference to 'valeu'"},
		{Filter{Drop: "size(value)"}, "/drop", "must be bool"},
	} {
		var wrong *sdk.ConfigError
		if err := c.filter.Configure(context.Background()); !errors.As(err, &wrong) {
			t.Errorf("%+v: %v", c.filter, err)
			continue
		}
		if wrong.Pointer != c.pointer || !strings.Contains(wrong.Message, c.message) {
			t.Errorf("got %q: %q; want %q: %q", wrong.Pointer, wrong.Message, c.pointer, c.message)
		}
	}
}

func TestAnEndedContextFailsNoRecord(t *testing.T) {
	f := configured(t, &Filter{Keep: `value.split('').all(c, value.split('').all(d, c + d != 'x'))`})
	b := sdk.NewBatch(sdk.Fields{Value: bytes.Repeat([]byte("a"), 3000)})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.OnSend(ctx, b); !errors.Is(err, context.Canceled) || verdicts(b) != "k" {
		t.Errorf("error %v, verdict %s", err, verdicts(b))
	}
}

func BenchmarkOnSend(b *testing.B) {
	line := strings.Repeat("0123456789 abcdefgh ", 10)
	for _, source := range []string{`value.contains('zzzz')`, `size(value) > 1000`} {
		b.Run(source, func(b *testing.B) {
			f := configured(b, &Filter{Drop: source})
			batch := sdk.NewBatch(values(strings.Split(strings.Repeat(line+"\n", 1000), "\n")...)...)
			for b.Loop() {
				if err := f.OnSend(context.Background(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch.Len()), "ns/record")
		})
	}
}
