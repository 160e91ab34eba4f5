package main

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/barnabas-agent/barnabas/plugins/object"
)

// reference is encoding/json without HTML escapes.
func reference(t testing.TB, v any) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// FuzzString compares strings with encoding/json: equal for UTF-8, refused for
// everything else.
func FuzzString(f *testing.F) {
	for c := range 256 {
		f.Add([]byte("1234567" + string([]byte{byte(c)}) + "12345678"))
	}
	f.Add([]byte("<a href=\"x\">&\u2028\u2029\ufffd日本語 \U0001f600</a>"))
	f.Add([]byte("cut off \xe6\x97"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, ok := appendString([]byte("before"), text)
		if ok != utf8.Valid(text) {
			t.Fatalf("%q: accepted %v, UTF-8 %v", text, ok, !ok)
		}
		if want := "before" + reference(t, string(text)); ok && string(got) != want {
			t.Fatalf("%q: got %s, want %s", text, got, want)
		}
	})
}

func TestFloatsAreEncodingJSONs(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		v := rapid.Float64().Draw(rt, "float")
		got, ok := appendFloat(nil, v)
		if !ok || string(got) != reference(t, v) {
			rt.Fatalf("got %s, %v; want %s", got, ok, reference(t, v))
		}
	})
	for _, v := range []float64{1e-6, 1e-7, 1e20, 1e21, -1e-9, 0, math.Copysign(0, -1), math.MaxFloat64} {
		if got, _ := appendFloat(nil, v); string(got) != reference(t, v) {
			t.Errorf("got %s, want %s", got, reference(t, v))
		}
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if got, ok := appendFloat(nil, v); ok {
			t.Errorf("%v became %s", v, got)
		}
	}
}

// FuzzObject compares with encoding/json what the two make of one MessagePack
// value. The order of members differs, so both are compared as values.
func FuzzObject(f *testing.F) {
	add := func(v any) {
		b, err := object.Append(nil, v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(map[string]any{"a": []any{"x", int64(-1), 1.5, nil, true, []byte("bin")}, "t": time.Unix(1, 5).UTC()})
	add([]any{uint64(math.MaxUint64), math.Inf(1)})
	f.Add([]byte{0x81, 0xa1, 0xff, 0xc0})
	f.Fuzz(func(t *testing.T, encoded []byte) {
		got, err := appendObject(nil, encoded, all)
		if err != nil {
			return
		}
		decoded, err := object.Decode(encoded)
		if err != nil {
			t.Fatalf("%x is written as %s, and yet unreadable: %v", encoded, got, err)
		}
		var ours, theirs any
		if err := json.Unmarshal(got, &ours); err != nil {
			t.Fatalf("%x is written as %s: %v", encoded, got, err)
		}
		if err := json.Unmarshal([]byte(reference(t, decoded)), &theirs); err != nil {
			t.Fatal(err)
		}
		if a, b := reference(t, ours), reference(t, theirs); a != b {
			t.Fatalf("%x: got %s, want %s", encoded, a, b)
		}
	})
}

func TestYearsThatRFC3339CannotWrite(t *testing.T) {
	for _, milliseconds := range []int64{math.MaxInt64, math.MinInt64, 253402300800000} {
		if got, ok := appendMilliseconds(nil, milliseconds); ok {
			t.Errorf("%d ms became %s", milliseconds, got)
		}
	}
	if got, ok := appendMilliseconds(nil, 253402300799999); !ok || string(got) != `"9999-12-31T23:59:59.999Z"` {
		t.Errorf("the last millisecond became %s, %v", got, ok)
	}
}
