package main

import (
	"context"
	"errors"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

func configured(t testing.TB, encoding string) *String {
	t.Helper()
	s := &String{Encoding: encoding}
	if err := s.Configure(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEncodings(t *testing.T) {
	for _, c := range []struct{ encoding, in, want, code string }{
		{"utf-8", "é", "é", ""},
		{"utf-8", "\xff\x00", "\xff\x00", ""},
		{"utf-16le", "aé\U0001f600", "a\x00\xe9\x00\x3d\xd8\x00\xde", ""},
		{"utf-16be", "aé", "\x00a\x00\xe9", ""},
		{"utf-16be", "\xff", "\xff", "not_utf8"},
		{"iso-8859-1", "aé", "a\xe9", ""},
		{"iso-8859-1", "", "", ""},
		{"iso-8859-1", "€", "€", "not_encodable"},
		{"iso-8859-1", "\ufffd", "\ufffd", "not_encodable"},
	} {
		b := sdk.NewBatch(sdk.Fields{Value: []byte(c.in)}, sdk.Fields{}, sdk.Fields{Value: []byte("b")})
		if err := configured(t, c.encoding).Serialize(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		code, _, _ := b.Failure(0)
		if got := string(b.Value(0)); got != c.want || code != c.code {
			t.Errorf("%s of %q: got %q, code %q; want %q, code %q", c.encoding, c.in, got, code, c.want, c.code)
		}
		if b.ValueKind(1) != sdk.KindNull {
			t.Errorf("%s: a tombstone became %s", c.encoding, b.ValueKind(1))
		}
		if _, _, failed := b.Failure(2); failed {
			t.Errorf("%s: the record behind failed", c.encoding)
		}
	}
}

func TestKeysAreEncodedByAKeySerializer(t *testing.T) {
	b := sdk.NewBatchFor(sdk.RoleKey, sdk.Fields{Key: []byte("k"), Value: []byte("v")})
	if err := configured(t, "utf-16be").Serialize(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	if string(b.Key(0)) != "\x00k" || string(b.Value(0)) != "v" {
		t.Errorf("key %q, value %q", b.Key(0), b.Value(0))
	}
}

func TestUnknownEncodingsAreRefused(t *testing.T) {
	for _, encoding := range []string{"", "UTF-8", "latin1"} {
		var wrong *sdk.ConfigError
		err := (&String{Encoding: encoding}).Configure(context.Background())
		if !errors.As(err, &wrong) || wrong.Pointer != "/encoding" {
			t.Errorf("encoding %q: %v", encoding, err)
		}
	}
}

// FuzzUTF16 compares with the standard library.
func FuzzUTF16(f *testing.F) {
	f.Add([]byte("a\U0001f600\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		b := sdk.NewBatch(sdk.Fields{Value: append([]byte{}, text...)})
		if err := configured(t, "utf-16be").Serialize(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		if _, _, failed := b.Failure(0); failed == utf8.Valid(text) {
			t.Fatalf("%q: failed %v", text, failed)
		} else if failed {
			return
		}
		var want []byte
		for _, unit := range utf16.Encode([]rune(string(text))) {
			want = append(want, byte(unit>>8), byte(unit))
		}
		if string(b.Value(0)) != string(want) {
			t.Fatalf("%q: got %x, want %x", text, b.Value(0), want)
		}
	})
}
