package object_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/barnabas-agent/barnabas/plugins/sdk/internal/object"
)

// drawObject returns what Decode returns for what Encode is given.
func drawObject(t *rapid.T, depth int) any {
	kinds := 8
	if depth == 0 {
		kinds = 6
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		if rapid.Bool().Draw(t, "large") {
			return rapid.Uint64Range(1<<63, 1<<64-1).Draw(t, "uint")
		}
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return rapid.Int64().Draw(t, "int")
	case 3:
		return rapid.Float64().Draw(t, "float")
	case 4:
		return rapid.StringN(0, 300, 400).Draw(t, "string")
	case 5:
		return rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "bytes")
	case 6:
		list := make([]any, rapid.IntRange(0, 20).Draw(t, "length"))
		for i := range list {
			list[i] = drawObject(t, depth-1)
		}
		return list
	default:
		members := make(map[string]any)
		for range rapid.IntRange(0, 20).Draw(t, "members") {
			members[rapid.StringN(0, 4, 8).Draw(t, "name")] = drawObject(t, depth-1)
		}
		return members
	}
}

func TestObjectComesBackAsItWas(t *testing.T) {
	var coder object.Coder
	rapid.Check(t, func(t *rapid.T) {
		want := drawObject(t, 3)
		encoded, err := coder.Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		first := bytes.Clone(encoded)
		got, err := coder.Decode(first)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %#v, want %#v", got, want)
		}
		if again, err := coder.Encode(want); err != nil || !bytes.Equal(again, first) {
			t.Fatalf("encoded again it has other bytes: %v", err)
		}
	})
}

func TestWhatIsNoSingleObjectIsAnError(t *testing.T) {
	var coder object.Coder
	for name, encoded := range map[string]string{
		"nothing":          "",
		"never used":       "\xc1",
		"ends early":       "\xa5abc",
		"length ends":      "\xdb\x00",
		"huge array":       "\xdd\xff\xff\xff\xff",
		"huge string":      "\xdb\xff\xff\xff\xffabc",
		"list ends early":  "\x93\x01\x02",
		"map without last": "\x81\xa1a",
		"two objects":      "\x01\x02",
		"nested too deep":  strings.Repeat("\x91", 1<<20) + "\x01",
		"maps too deep":    strings.Repeat("\x81\xa0", object.MaxDepth+1) + "\x01",
		"extension":        "\xc7\xff\x05",
	} {
		if decoded, err := coder.Decode([]byte(encoded)); err == nil {
			t.Errorf("%s: decoded as %v", name, decoded)
		}
	}
	deepest := strings.Repeat("\x91", object.MaxDepth) + "\x01"
	if _, err := coder.Decode([]byte(deepest)); err != nil {
		t.Errorf("nested as deep as allowed: %v", err)
	}
}

// FuzzDecode gives the decoder what any earlier plugin may have made.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"\x01", "\xc0", "\x93\x01\xa1a\xc3", "\x82\xa1a\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\xa1b\xc4\x01x",
		"\xd6\xff\x00\x00\x00\x01", "\xde\x00\x01\xd9\x01a\xdc\x00\x00", "\xdf\x00\x00\x00\x00", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		f.Add([]byte(seed))
	}
	var coder object.Coder
	f.Fuzz(func(t *testing.T, encoded []byte) {
		decoded, err := coder.Decode(encoded)
		if err != nil {
			return
		}
		if _, err := coder.Encode(decoded); err != nil {
			t.Fatalf("%#v was decoded but can't be encoded: %v", decoded, err)
		}
	})
}
