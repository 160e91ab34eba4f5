package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

func send(t testing.TB, r *Redact, records ...sdk.Fields) *sdk.Batch {
	t.Helper()
	b := sdk.NewBatch(records...)
	if err := configured(t, r).OnSend(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	return b
}

func text(s string) sdk.Fields { return sdk.Fields{Value: []byte(s)} }

func TestValues(t *testing.T) {
	key := "key of a@b.cc"
	b := send(t, &Redact{Patterns: []string{"email", "ipv4"}, Regex: []string{`session=\w+`, `\d{3}`}},
		text("a@b.cc from 10.0.0.1, session=abc123, x"), text("nothing here"), sdk.Fields{Key: []byte(key)}, text("\xff a@b.cc \xff"), text(""))
	for i, want := range []string{"*** from ***, ***, x", "nothing here", "", "\xff *** \xff", ""} {
		if got := string(b.Value(i)); got != want {
			t.Errorf("record %d: got %q, want %q", i, got, want)
		}
	}
	if b.ValueKind(2) != sdk.KindNull || string(b.Key(2)) != key {
		t.Errorf("a tombstone became %s, its key %q", b.ValueKind(2), b.Key(2))
	}
}

func TestOverlappingFindingsAreOne(t *testing.T) {
	b := send(t, &Redact{Regex: []string{`bcd`, `abc`, `def`}}, text("-abcdefg"), text("abcabc"))
	if got := string(b.Value(0)); got != "-***g" {
		t.Errorf("got %q", got)
	}
	if got := string(b.Value(1)); got != "******" {
		t.Errorf("findings side by side: got %q", got)
	}
}

func TestReplacementIsTakenAsItIs(t *testing.T) {
	b := send(t, &Redact{Regex: []string{`(a)(b)`}, Replacement: "$1${2}"}, text("xaby"))
	if got := string(b.Value(0)); got != "x$1${2}y" {
		t.Errorf("got %q", got)
	}
	r := configured(t, &Redact{Regex: []string{"ab"}})
	r.Replacement = ""
	b = sdk.NewBatch(text("xaby"), text("ab"))
	if err := r.OnSend(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	if string(b.Value(0)) != "xy" || b.ValueKind(1) != sdk.KindBytes || len(b.Value(1)) != 0 {
		t.Errorf("got %q and %q, a %s", b.Value(0), b.Value(1), b.ValueKind(1))
	}
}

func TestHashesAreKeyed(t *testing.T) {
	mac := hmac.New(sha256.New, []byte("pepper"))
	mac.Write([]byte("a@b.cc"))
	want := hex.EncodeToString(mac.Sum(nil))[:16]
	b := send(t, &Redact{Patterns: []string{"email"}, Hash: true, Salt: "pepper"}, text("a@b.cc and a@b.cc"), text("x@b.cc"))
	if got := string(b.Value(0)); got != want+" and "+want {
		t.Errorf("got %q, want %q twice", got, want)
	}
	other := send(t, &Redact{Patterns: []string{"email"}, Hash: true, Salt: "salt"}, text("a@b.cc"))
	if got := string(b.Value(1)); got == want || string(other.Value(0)) == want || len(got) != 16 {
		t.Errorf("another address gives %q, another salt %q", got, other.Value(0))
	}
}

func TestObjects(t *testing.T) {
	b := send(t, &Redact{Patterns: []string{"email"}},
		sdk.Fields{Object: map[string]any{"user": "a@b.cc", "a@b.cc": "one", "list": []any{"x", map[string]any{"deep": "to a@b.cc"}}, "n": nil}},
		sdk.Fields{Object: map[string]any{"user": "none"}},
		sdk.Fields{Object: msgpack.RawMessage("\x81\xa1")},
		text("a@b.cc"))
	want := map[string]any{"user": "***", "a@b.cc": "one", "list": []any{"x", map[string]any{"deep": "to ***"}}, "n": nil}
	if got, err := b.Object(0); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if got, err := b.Object(1); err != nil || !reflect.DeepEqual(got, map[string]any{"user": "none"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if code, message, failed := b.Failure(2); !failed || code != "object" || message == "" {
		t.Errorf("a malformed object: code %q, %q", code, message)
	}
	if string(b.Value(3)) != "***" {
		t.Errorf("the record behind it: %q", b.Value(3))
	}
}

func TestMistakesNameTheirMembers(t *testing.T) {
	for _, c := range []struct {
		redact Redact
		want   []string
	}{
		{Redact{}, []string{": nothing to redact"}},
		{Redact{Patterns: []string{"email", "emial"}, Regex: []string{"(", "a*", "ok"}},
			[]string{`/patterns/1: no pattern "emial"`, "/regex/0: error parsing", `/regex/1: "a*" matches the empty`}},
		{Redact{Patterns: []string{"email"}, Hash: true}, []string{"/hash: needs a salt"}},
		{Redact{Patterns: []string{"email"}, Salt: "secret"}, []string{"/salt: has no effect"}},
		{Redact{Patterns: []string{"email"}, Salt: "secret", Hash: true, Replacement: "x"}, []string{"/replacement: excludes"}},
	} {
		if c.redact.Replacement == "" {
			c.redact.Replacement = defaultReplacement
		}
		err := c.redact.Configure(context.Background())
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok || len(joined.Unwrap()) != len(c.want) {
			t.Errorf("%+v: %v", c.redact, err)
			continue
		}
		for i, one := range joined.Unwrap() {
			var wrong *sdk.ConfigError
			if !errors.As(one, &wrong) || !strings.HasPrefix(wrong.Pointer+": "+wrong.Message, c.want[i]) {
				t.Errorf("got %v, want %s", one, c.want[i])
			}
			if strings.Contains(one.Error(), "secret") {
				t.Errorf("the salt shows in %v", one)
			}
		}
	}
}

func BenchmarkOnSend(b *testing.B) {
	clean := "2026-01-01T00:00:00Z host app[123]: user logged in with a rather long message that goes on and on until it has about two hundred bytes in all, which is the size of a record in tests and benchmarks 01"
	dirty := strings.Replace(clean, "user", "john@example.com from 10.1.2.3", 1)
	for _, c := range []struct {
		name   string
		line   string
		redact *Redact
	}{
		{"email and card, clean", clean, &Redact{Patterns: []string{"email", "credit_card"}}},
		{"email and card, dirty", dirty, &Redact{Patterns: []string{"email", "credit_card"}}},
		{"all, clean", clean, &Redact{Patterns: patternNames()}},
		{"all, dirty", dirty, &Redact{Patterns: patternNames()}},
		{"hash, dirty", dirty, &Redact{Patterns: []string{"email"}, Hash: true, Salt: "s"}},
		{"regex, clean", clean, &Redact{Regex: []string{`session=\w+`}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			e := newEraser(configured(b, c.redact))
			line, buffer := []byte(c.line), []byte(nil)
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				buffer, _ = e.redact(buffer[:0], line)
			}
		})
	}
}
