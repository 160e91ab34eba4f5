package main

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/barnabas-agent/barnabas/plugins/object"
)

func TestJSONKeepsItsValues(t *testing.T) {
	p := configured(t, settings{Format: "json"})
	for text, want := range map[string]string{
		`{}`: `{}`,
		" {\"a\" : [ 1 , {\"b\":null} , true,false, [] ] }\r\n":                           `{"a":[1,{"b":null},true,false,[]]}`,
		`{"max":9223372036854775807,"min":-9223372036854775808,"u":18446744073709551615}`: `{"max":9223372036854775807,"min":-9223372036854775808,"u":18446744073709551615}`,
		`{"n":9007199254740993}`:                       `{"n":9007199254740993}`,
		`{"n":18446744073709551616}`:                   `{"n":"18446744073709551616"}`,
		`{"n":0.1,"m":1.50,"e":1e3,"z":-0.0}`:          `{"n":0.1,"m":1.5,"e":1000,"z":-0}`,
		`{"n":1732723200.123456789}`:                   `{"n":"1732723200.123456789"}`,
		`{"n":0.30000000000000004}`:                    `{"n":0.30000000000000004}`,
		`{"n":0.3000000000000000444}`:                  `{"n":"0.3000000000000000444"}`,
		`{"n":1e400,"m":-1e400,"o":1e-400,"z":0e999}`:  `{"n":"1e400","m":"-1e400","o":"1e-400","z":0}`,
		`{"s":"a\u00e9\n\"\\\/\b\f\r\t\ud83d\ude00é"}`: `{"s":"aé\n\"\\/\b\f\r\t😀é"}`,
		`{"a\u0062":1,"":2}`:                           `{"":2,"ab":1}`,
		`{"s":"\u0000"}`:                               `{"s":"\u0000"}`,
	} {
		got, err := parseOne(t, p, text, 0)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if !sameJSON(t, got, want) {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func TestWhatIsNoJSONObject(t *testing.T) {
	p := configured(t, settings{Format: "json"})
	many := make([]string, 40)
	for i := range many {
		many[i] = `"` + strings.Repeat("k", i+1) + `":1`
	}
	for text, want := range map[string]string{
		``:                         "not JSON, at byte 0 of 0",
		`{"a":}`:                   "not JSON, at byte 5 of 6",
		`{"a":1} x`:                "not JSON, at byte 8 of 9",
		`[{"a":1}]`:                "JSON, but no object",
		`"text"`:                   "JSON, but no object",
		`12`:                       "JSON, but no object",
		`null`:                     "JSON, but no object",
		"\ufeff{}":                 "not JSON, at byte 0",
		`{"a":1,"b":2,"\u0061":3}`: "the member at byte 13 has the name of another",
		`{"x":{"a":1,"a":1}}`:      "the member at byte 12 has the name of another",
		"{" + strings.Join(many, ",") + `,"kk":2}`: "has the name of another",
		`{"s":"\ud83d"}`:       "half a surrogate pair at byte 6",
		`{"s":"\ud83d\n1234"}`: "half a surrogate pair",
		`{"s":"\ude00\ud83d"}`: "half a surrogate pair",
		"{\"s\":\"\xff\"}":     "byte 6 is not UTF-8",
		`{"a":` + strings.Repeat("[", 128) + strings.Repeat("]", 128) + `}`: "nested more than 128 deep, at byte 132",
	} {
		if got, err := parseOne(t, p, text, 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v; want %q", text, got, err, want)
		}
	}
	if _, err := parseOne(t, p, "{"+strings.Join(many, ",")+"}", 0); err != nil {
		t.Error(err)
	}
	deepest := `{"a":` + strings.Repeat("[", 127) + strings.Repeat("]", 127) + `}`
	if _, err := parseOne(t, p, deepest, 0); err != nil {
		t.Error(err)
	}
}

// FuzzJSON compares with encoding/json: what becomes an object holds the same
// members, texts and numbers.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,2.5,-0,1e-7,"\u00e9\ud83d\ude00",null,true,{"b":{}}],"n":123456789012345678901234567890}`,
		`{"a":1,"a":2}`, `{"x":1e999,"y":0.1000000000000000055511151231257827}`, `[1]`, `{"s":"\ud800"}`, "{\"s\":\"\xff\"}", ` {"":""} `,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := string(text)
		var d jsonDocument
		encoded, err := d.parse(nil, text)
		if string(text) != before {
			t.Fatal("the text was changed")
		}
		if err != nil {
			return
		}
		if len(encoded) > 5+3*len(text) {
			t.Fatalf("%d bytes of %d", len(encoded), len(text))
		}
		ours, err := object.Decode(encoded)
		if err != nil {
			t.Fatalf("%q becomes what is no object: %v", text, err)
		}
		var theirs any
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&theirs); err != nil {
			t.Fatalf("%q is taken, and yet no JSON: %v", text, err)
		}
		compare(t, ours, theirs)
	})
}

// compare holds what parse made against what encoding/json did.
func compare(t *testing.T, ours, theirs any) {
	t.Helper()
	switch want := theirs.(type) {
	case map[string]any:
		got, _ := ours.(map[string]any)
		if len(got) != len(want) {
			t.Fatalf("%d members, want %d", len(got), len(want))
		}
		for name := range want {
			compare(t, got[name], want[name])
		}
	case []any:
		got, _ := ours.([]any)
		if len(got) != len(want) {
			t.Fatalf("%d elements, want %d", len(got), len(want))
		}
		for i := range want {
			compare(t, got[i], want[i])
		}
	case json.Number:
		if got, ok := ours.(string); ok && got != string(want) || !ok && !sameValue(t, ours, string(want)) {
			t.Fatalf("%s became %v", want, ours)
		}
	default:
		if ours != theirs {
			t.Fatalf("%v became %v", theirs, ours)
		}
	}
}

// sameValue compares decimal numbers; a double stands for the shortest decimal that is read back as it.
func sameValue(t *testing.T, ours any, theirs string) bool {
	t.Helper()
	text := asJSON(t, ours)
	if len(theirs) > 400 || strings.ContainsAny(theirs, "eE") && len(theirs) > 40 {
		return true // too costly for big.Rat
	}
	a, okA := new(big.Rat).SetString(text)
	b, okB := new(big.Rat).SetString(theirs)
	return okA && okB && a.Cmp(b) == 0
}
