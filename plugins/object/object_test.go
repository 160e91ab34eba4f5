package object

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"
	"pgregory.net/rapid"
)

func mustAppend(t testing.TB, v any) []byte {
	t.Helper()
	b, err := Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeGivesOneTypePerKind(t *testing.T) {
	moment := time.Date(2026, 3, 1, 12, 0, 0, 5_000_000, time.UTC)
	for name, c := range map[string]struct {
		in   []byte
		want any
	}{
		"small unsigned is int64": {[]byte{0xcc, 200}, int64(200)},
		"large unsigned":          {msgp.AppendUint64(nil, math.MaxUint64), uint64(math.MaxUint64)},
		"negative":                {msgp.AppendInt64(nil, -5), int64(-5)},
		"float32 is float64":      {msgp.AppendFloat32(nil, 0.5), 0.5},
		"bin is bytes":            {msgp.AppendBytes(nil, []byte{1}), []byte{1}},
		"empty bin is not nil":    {[]byte{0xc4, 0}, []byte{}},
		"nil":                     {[]byte{0xc0}, nil},
		"integer key":             {[]byte{0x81, 0x07, 0xc3}, map[string]any{"7": true}},
		"timestamp 64":            {msgp.AppendTimeExt(nil, moment), moment},
		"timestamp 32":            {[]byte{0xd6, 0xff, 0, 0, 0, 1}, time.Unix(1, 0).UTC()},
		"nested":                  {mustAppend(t, map[string]any{"a": []any{"x", nil}}), map[string]any{"a": []any{"x", nil}}},
	} {
		got, err := Decode(c.in)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %#v, %v; want %#v", name, got, err, c.want)
		}
	}
}

func TestDecodeRefusesWhatIsNotOneValue(t *testing.T) {
	for name, in := range map[string][]byte{
		"empty":                        {},
		"cut off":                      {0xa5, 'a'},
		"behind its end":               {0xc0, 0xc0},
		"more elements than bytes":     {0xdd, 0xff, 0xff, 0xff, 0xff},
		"more members than bytes":      {0xdf, 0xff, 0xff, 0xff, 0xff, 0xa1},
		"nested too deeply":            append(bytes.Repeat([]byte{0x91}, MaxDepth+1), 0xc0),
		"key of a type that is no key": {0x81, 0xc0, 0xc0},
		"unknown extension":            {0xd4, 0x07, 0x00},
		"extension cut off":            {0xc9, 0x00},
		"invalid code":                 {0xc1},
		"complex numbers":              msgp.AppendComplex64(nil, 1),
		"nanoseconds out of range":     {0xd7, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
	} {
		if _, err := Decode(in); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	if _, err := Decode(append(bytes.Repeat([]byte{0x91}, MaxDepth), 0xc0)); err != nil {
		t.Errorf("nested as deeply as allowed: %v", err)
	}
}

// Each container announces as much as the bytes behind it could hold, and holds the next.
func TestDecodeAllocatesForWhatIsThere(t *testing.T) {
	const size, depth = 1 << 20, 100
	for name, header := range map[string][]byte{
		"arrays": {0xdd, 0, 0x0d, 0, 0},
		"maps":   {0xdf, 0, 0x06, 0, 0, 0xa1, 'a'},
	} {
		in := append(bytes.Repeat(header, depth), bytes.Repeat([]byte{0xc0}, size)...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode(in)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 128*size {
			t.Errorf("%s: %d MiB for %d MiB", name, used>>20, len(in)>>20)
		}
	}
}

func TestMergeKeepsTheOrderOfMembers(t *testing.T) {
	text := func(s string) []byte { return msgp.AppendString(nil, s) }
	original := AppendMembers(nil, []Member{{"b", text("1")}, {"a", text("2")}, {"c", text("3")}})
	got, err := Merge([]byte("prefix"), original, []Member{{"new", text("n")}, {"a", text("A")}})
	if err != nil {
		t.Fatal(err)
	}
	want := append([]byte("prefix"), AppendMembers(nil, []Member{
		{"b", text("1")}, {"a", text("A")}, {"c", text("3")}, {"new", text("n")}})...)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if _, err := Merge(nil, text("no map"), nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("merging into a string: %v", err)
	}
}

func TestMergeLeavesOneOfRepeatedMembers(t *testing.T) {
	one := msgp.AppendInt64(nil, 1)
	got, err := Merge(nil, AppendMembers(nil, []Member{{"a", one}, {"a", one}}), []Member{{"a", one}})
	if want := AppendMembers(nil, []Member{{"a", one}}); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func upper(dst, text []byte) ([]byte, bool) {
	out := append(dst, bytes.ToUpper(text)...)
	return out, !bytes.Equal(out[len(dst):], text)
}

func TestMapStringsChangesValuesOnly(t *testing.T) {
	in := mustAppend(t, map[string]any{"name": "x", "list": []any{"y", int64(1), map[string]any{"z": "Z"}}})
	out, changed, err := MapStrings(nil, in, upper)
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	got, err := Decode(out)
	want := map[string]any{"name": "X", "list": []any{"Y", int64(1), map[string]any{"z": "Z"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if out, changed, err := MapStrings([]byte("p"), out, upper); err != nil || changed || string(out) != "p" {
		t.Errorf("an object without anything to change: %q, %v, %v", out, changed, err)
	}
}

// TestRoundTrip holds that what Append writes, Decode reads.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawValue(t, 3)
		b, err := Append(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(b)
		if err != nil || !reflect.DeepEqual(got, v) {
			t.Fatalf("got %#v, %v; want %#v", got, err, v)
		}
	})
}

func drawValue(t *rapid.T, depth int) any {
	limit := 6
	if depth == 0 {
		limit = 4
	}
	switch rapid.IntRange(0, limit).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return rapid.Int64().Draw(t, "int")
	case 2:
		return rapid.String().Draw(t, "string")
	case 3:
		return rapid.Float64().Draw(t, "float")
	case 4:
		return rapid.Bool().Draw(t, "bool")
	case 5:
		list := make([]any, rapid.IntRange(0, 20).Draw(t, "length"))
		for i := range list {
			list[i] = drawValue(t, depth-1)
		}
		return list
	default:
		members := map[string]any{}
		for range rapid.IntRange(0, 20).Draw(t, "members") {
			members[rapid.String().Draw(t, "name")] = drawValue(t, depth-1)
		}
		return members
	}
}

// FuzzObject holds that no bytes make the package panic, and that what was
// rewritten can be read again.
func FuzzObject(f *testing.F) {
	f.Add(mustAppend(f, map[string]any{"a": []any{"x", int64(1), 1.5, nil, true, []byte("b")}}))
	f.Add([]byte{0xdf, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0xc9, 0, 0, 0, 1, 0xff, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		_, err := Decode(in)
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("error without ErrMalformed: %v", err)
		}
		mapped, changed, mapErr := MapStrings(nil, in, upper)
		if err == nil && mapErr != nil {
			t.Fatalf("readable, yet MapStrings says %v", mapErr)
		}
		if err == nil && changed {
			if _, err := Decode(mapped); err != nil {
				t.Fatalf("MapStrings wrote %x: %v", mapped, err)
			}
		}
		merged, mergeErr := Merge(nil, in, []Member{{"a", []byte{0xc0}}})
		if err == nil && IsMap(in) && mergeErr != nil {
			t.Fatalf("a readable map, yet Merge says %v", mergeErr)
		}
		if err == nil && mergeErr == nil {
			if _, err := Decode(merged); err != nil {
				t.Fatalf("Merge wrote %x: %v", merged, err)
			}
		}
	})
}
