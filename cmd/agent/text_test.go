package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestExcerptIsSafeForTerminals(t *testing.T) {
	for _, c := range []struct{ value, want string }{
		{"", ""},
		{"plain", "plain"},
		{"grüße 世界", "grüße 世界"},
		{"two\nlines", `"two\nlines"`},
		{"\x1b]0;title\a", `"\x1b]0;title\a"`},
		{"\x9b2J", `"\x9b2J"`},               // CSI of 8-bit terminals, no UTF-8
		{"\u009b2J", `"\u009b2J"`},           // the same as a character
		{"\u202egnp.exe", `"\u202egnp.exe"`}, // turns the direction of what follows
		{strings.Repeat("a", 201), strings.Repeat("a", 200) + "… (201 bytes)"},
		{strings.Repeat("a", 199) + "世", strings.Repeat("a", 199) + "… (202 bytes)"},
		{strings.Repeat("a", 198) + "\xff\xff\xff\xff\xff", `"` + strings.Repeat("a", 198) + `\xff\xff"` + "… (203 bytes)"},
	} {
		if got := excerpt([]byte(c.value)); got != c.want {
			t.Errorf("excerpt(%q) = %s, want %s", c.value, got, c.want)
		}
	}
}

func TestWhatIsPrintedIsPrintable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		for _, shown := range []string{excerpt(b), printable(string(b))} {
			if !utf8.ValidString(shown) || printable(shown) != shown {
				t.Fatalf("%q is shown as %q", b, shown)
			}
		}
	})
}

func TestPrintableKeepsWhatIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("aZ09 /.äß世\ufffd"))).Draw(t, "text")
		if got := printable(text); got != text {
			t.Fatalf("%q is shown as %q", text, got)
		}
	})
}

func TestNumbersForPeople(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{thousands(0), "0"}, {thousands(999), "999"}, {thousands(1000), "1,000"}, {thousands(12345678), "12,345,678"}, {thousands(-1005), "-1,005"},
		{bytesText(0), "0 B"}, {bytesText(1023), "1023 B"}, {bytesText(1536), "1.5 KiB"}, {bytesText(32 << 20), "32.0 MiB"}, {bytesText(1 << 62), "4.0 EiB"},
		{count(0, "record"), "0 records"}, {count(1, "record"), "1 record"}, {count(2, "record"), "2 records"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
