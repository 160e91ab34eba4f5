package charset

import (
	"errors"
	"strings"
	"testing"
)

func TestNamesOfTheRegistryAreFound(t *testing.T) {
	for _, name := range []string{
		"utf-16", "UTF-16LE", "utf-16be", "utf-32", "utf-32le", "iso-8859-1", "latin1", "windows-1252", "shift_jis", "euc-jp", "gbk", "gb18030",
		"big5", "euc-kr", "koi8-r", "ibm037", "us-ascii", "macintosh",
	} {
		if c, err := Lookup(name); err != nil || c == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"utf-8", "UTF8"} {
		if c, err := Lookup(name); c != nil || err != nil {
			t.Errorf("%s needs a decoder, %v", name, err)
		}
	}
}

func TestNamesThatCanNotBeUsedSayWhy(t *testing.T) {
	for name, want := range map[string]string{
		"utf_16":      `did you mean "utf-16"?`,
		"cp1252":      `did you mean "windows-1252"?`,
		"iso8859-15":  `did you mean "iso-8859-15"?`,
		"nonsense":    "IANA registry",
		"iso-2022-jp": "escape sequences",
		"hz-gb-2312":  "escape sequences",
		"utf-7":       "escape sequences",
		"ebcdic-us":   "no decoder",
	} {
		_, err := Lookup(name)
		var refused *Error
		if !errors.As(err, &refused) || !strings.Contains(refused.Reason+" "+refused.Hint, want) {
			t.Errorf("%s: %+v, expected %q", name, err, want)
		}
	}
}

func TestNewlinesAreCodeUnits(t *testing.T) {
	for _, test := range []struct {
		name, text  string
		first, last int
	}{
		{"utf-16le", "\x0a\x01\x0a\x00", 2, 2}, // U+010A, newline
		{"utf-16be", "\x01\x00\x0a\x00\x00\x0a", 4, 4},
		{"utf-16le", "a\x00\x00\x0a\x00\x0a", -1, -1},
		{"utf-32le", "\x0a\x00\x00\x00\x0a\x00\x00\x00", 0, 4},
		{"utf-32be", "\x00\x00\x00\x0a\x00\x00", 0, 0},
		{"ibm037", "\x81\x25\x81", 1, 1},
	} {
		c, err := Lookup(test.name)
		if err != nil {
			t.Fatal(err)
		}
		l := c.Layout(0)
		if first, last := l.Index([]byte(test.text)), l.LastIndex([]byte(test.text)); first != test.first || last != test.last {
			t.Errorf("%s %q: %d and %d", test.name, test.text, first, last)
		}
	}
}

func TestAByteOrderMarkDecides(t *testing.T) {
	for _, test := range []struct {
		name, head   string
		layout, mark int
	}{
		{"utf-16", "\xff\xfea\x00", 1, 2},
		{"utf-16", "\xfe\xff\x00a", 0, 2},
		{"utf-16", "\x00a", 0, 0},
		{"utf-32", "\xff\xfe\x00\x00", 1, 4},
		{"utf-16le", "\xff\xfe", 0, 2},
		{"utf-16be", "\xff\xfe", 0, 0},
		{"latin1", "\xff\xfe", 0, 0},
	} {
		c, err := Lookup(test.name)
		if err != nil {
			t.Fatal(err)
		}
		if layout, mark := c.Begin([]byte(test.head)); layout != test.layout || mark != test.mark {
			t.Errorf("%s %q: layout %d, mark %d", test.name, test.head, layout, mark)
		}
	}
}
