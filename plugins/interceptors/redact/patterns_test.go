package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func configured(t testing.TB, r *Redact) *Redact {
	t.Helper()
	if r.Replacement == "" {
		r.Replacement = defaultReplacement
	}
	if err := r.Configure(context.Background()); err != nil {
		t.Fatal(err)
	}
	return r
}

func redacted(t testing.TB, pattern, text string) string {
	t.Helper()
	out, found := newEraser(configured(t, &Redact{Patterns: []string{pattern}})).redact(nil, []byte(text))
	if !found {
		return text
	}
	return string(out)
}

// TestPatterns has one text per row; what is to be found stands in ⟦ ⟧.
func TestPatterns(t *testing.T) {
	for pattern, texts := range map[string][]string{
		"email": {
			"from ⟦john.doe+tag@mail.example.com⟧, to <⟦a@b.co⟧>;", "⟦o'brien@example.org⟧ and '⟦x@example.org⟧'",
			"user=⟦josé@exämple.de⟧.", "⟦a@b.com⟧@c.de", "mailto:⟦x_y%z@sub-domain.example.travel⟧/", "...⟦a@b.cc⟧...",
			"no: user@localhost, @example.com, a@.com, a@b.c, a@1.2.3.4, a @ b.com", "\xff⟦a@b.cc⟧\xff", "bad tail ⟦a@b.cc⟧-",
		},
		"credit_card": {
			"pay ⟦4111111111111111⟧ now", "⟦4111 1111 1111 1111⟧", "⟦4111-1111-1111-1111⟧,", "amex ⟦378282246310005⟧ ⟦3782 822463 10005⟧",
			"20260301 ⟦5555 5555 5555 4444⟧", "1234 ⟦4111 1111 1111 1111⟧", "⟦4222222222222⟧", "⟦6011111111111117⟧ ⟦3530111333300000⟧ ⟦30569309025904⟧",
			"⟦2223003122003222⟧", "pan:⟦4111111111111111⟧:",
			"no: 4111111111111112, 4111 1111-1111 1111, 1772366400005, 0.4111111111111111, x4111111111111111, 41111111111111111111, 4111  1111 1111 1111, 411 1111 1111 1111 1",
			"no: 1111111111111117 41 11 11 11 11 11 11 11", "id 123 ⟦4111 1111 1111 1111⟧ 5",
		},
		"ipv4": {
			"⟦10.0.0.1⟧ - - [⟦255.255.255.255⟧:80]", "from=⟦192.168.001.001⟧/24.", "::ffff:⟦1.2.3.4⟧", "end ⟦1.2.3.4⟧.",
			"no: 1.2.3, 1.2.3.4.5, v1.2.3.4, 256.1.1.1, 1.2.3.4x, 1..2.3.4, 1234.1.1.1, 1.2.3.1234",
		},
		"ipv6": {
			"⟦2001:db8::1⟧ [⟦fe80::1⟧]:443", "⟦fe80::a:b⟧%eth0 ⟦::1⟧/128", "peer:⟦2001:db8:0:0:0:0:0:1⟧", "⟦::ffff:10.0.0.1⟧", "at ⟦2001:DB8::1⟧: refused, ⟦2001:db8::2⟧.",
			"client:⟦::1⟧", "⟦fe80::⟧",
			"no: 12:34:56, std::string, a::b, ::, aa:bb:cc:dd:ee:ff, x:1, http://h:80/, 1:2:3:4:5:6:7:8:9, 2001:db8::1xyz, 12345::1",
		},
		"mac_address": {
			"⟦00:1B:44:11:3a:b7⟧ ⟦00-1b-44-11-3a-b7⟧.", "no: 00:1b:44:11:3a, 00:1b:44:11:3a:b7:00, 00:1b-44:11:3a:b7, g0:1b:44:11:3a:b7, 00:1b:44:11:3a:b7a",
		},
		"iban": {
			"to ⟦DE89370400440532013000⟧.", "⟦GB29 NWBK 6016 1331 9268 19⟧ x", "⟦NO9386011117947⟧",
			"no: DE88370400440532013000, DE8937040044053201300, ZZ89370400440532013000, xDE89370400440532013000, DE893704004405320130001, DE89  3704 0044 0532 0130 00",
		},
		"us_ssn": {
			"ssn ⟦123-45-6789⟧, ⟦899-99-9999⟧", "no: 000-45-6789 666-45-6789 900-45-6789 123-00-6789 123-45-0000 1123-45-6789 123-45-67890 123-45-6789-1 1-123-45-6789 123456789",
		},
		"jwt": {
			"Bearer ⟦eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_123⟧, ⟦eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.⟧",
			"no: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0 eyJhbGciOiJIUzI1NiJ.a.b eyJ.a.b xeyJhbGciOiJIUzI1NiJ9.a.b eyJhbGciOiJIUzI1NiJ9..b",
			"⟦eyJhbGciOiJIUzI1NiJ9.a.b.c.d⟧ ⟦eyJhbGciOiJIUzI1NiJ9.a.b⟧.c",
		},
		"aws_access_key_id": {
			"key=⟦AKIAIOSFODNN7EXAMPLE⟧ ⟦ASIAIOSFODNN7EXAMPLE⟧", "no: AKIAIOSFODNN7EXAMPLE1, xAKIAIOSFODNN7EXAMPLE, AKIAIOSFODNN7EXAMPL, AKIAIOSFODNN7EXAMPL1, AAAAIOSFODNN7EXAMPLE",
		},
	} {
		for _, marked := range texts {
			var text, want strings.Builder
			for i, part := range strings.FieldsFunc(marked+" ", func(r rune) bool { return r == '⟦' || r == '⟧' }) {
				text.WriteString(part)
				if inside := i%2 == 1; inside != strings.HasPrefix(marked, "⟦") {
					want.WriteString(defaultReplacement)
				} else {
					want.WriteString(part)
				}
			}
			if got := redacted(t, pattern, text.String()); got != want.String() {
				t.Errorf("%s in %q:\ngot  %q\nwant %q", pattern, text.String(), got, want.String())
			}
		}
	}
}

// TestEveryNameHasAFinder holds that the list in errors and the finders agree.
func TestEveryNameHasAFinder(t *testing.T) {
	for _, name := range patternNames() {
		if namedFinder(name) == nil {
			t.Errorf("no finder for %s", name)
		}
	}
}

// TestFindingsDoNotDependOnWhatIsAround holds that a finding between spaces is
// found whatever stands before and behind, and wherever it stands.
func TestFindingsDoNotDependOnWhatIsAround(t *testing.T) {
	samples := map[string]string{
		"email": "john@example.com", "credit_card": "4111111111111111", "ipv4": "10.1.2.3", "ipv6": "2001:db8::1",
		"mac_address": "00:1b:44:11:3a:b7", "iban": "DE89370400440532013000", "us_ssn": "123-45-6789",
		"jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
	}
	around := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "A", "e", "1", "4", "41111", " ", "-", ".", ":", "@", "é", "\xff", "eyJ", "DE89", "AKIA", "/", "a@b.cc", "::"}), 0, 12)
	e := newEraser(configured(t, &Redact{Patterns: patternNames()}))
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.SampledFrom(patternNames()).Draw(rt, "pattern")
		text := strings.Join(around.Draw(rt, "before"), "") + " " + samples[name] + " " + strings.Join(around.Draw(rt, "behind"), "")
		if out, _ := e.redact(nil, []byte(text)); bytes.Contains(out, []byte(" "+samples[name]+" ")) {
			rt.Fatalf("%s is left in %q", name, out)
		}
	})
}

// FuzzFinders holds what eraser relies on: findings ascend, hold at least a byte,
// lie in the text, and do not overlap among those of one finder.
func FuzzFinders(f *testing.F) {
	f.Add([]byte("a@b.cc 4111 1111 1111 1111 10.0.0.1 fe80::1%eth0 00:1b:44:11:3a:b7 DE89370400440532013000 123-45-6789 eyJhbGciOiJub25lIn0.e30. AKIAIOSFODNN7EXAMPLE"))
	f.Add([]byte("@.:-@@..::--eyJ"))
	f.Add([]byte("1.2.3.4:5::6@7.aa\xff@\xffa.bb"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, name := range patternNames() {
			end := 0
			for _, s := range namedFinder(name)(nil, text) {
				if s.begin < end || s.end <= s.begin || s.end > len(text) {
					t.Fatalf("%s in %q: finding %v behind %d", name, text, s, end)
				}
				end = s.end
			}
		}
	})
}

// TestFindersAreLinear holds that no text of the largest size is a trap: each
// finder must take far less than quadratic time.
func TestFindersAreLinear(t *testing.T) {
	for _, unit := range []string{"a@", "@", "a@a.", ".", "1.", "1.1.1.1", ":", "a:", "::", "f:", "1", "1 ", "1111 ", "4111-", "eyJ", "eyJ.", "eyJ.a.", "DE89", "DE89 ", "AKIA", "A", "-", "1-", "00:", "é@é.", "'a"} {
		text := []byte(strings.Repeat(unit, (512<<10)/len(unit)))
		for _, name := range patternNames() {
			find := namedFinder(name)
			begin := time.Now()
			find(nil, text)
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("%s takes %s on 512 KiB of %q", name, took, unit)
			}
		}
	}
}
