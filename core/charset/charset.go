// Package charset knows the character encodings that files can be read in. An
// encoding qualifies when a line can be decoded without what stands before it.
package charset

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
	"golang.org/x/text/transform"
)

// UTF8 is the name of the encoding whose bytes are the records' own.
const UTF8 = "utf-8"

// Charset is a character encoding. It is constant and safe for concurrent use.
type Charset struct {
	name  string
	wide  []Layout // of UTF-16 and UTF-32: the byte orders that a byte order mark can choose; the first is the default
	plain Layout
}

// Layout is an encoding with its byte order settled.
type Layout struct {
	Unit    int    // bytes of a code unit
	Newline []byte // the end of a line; it begins at a multiple of Unit
	mark    []byte // the byte order mark, nil: there is none
	codec   encoding.Encoding
}

// Error says why a name can't be used, and what to do.
type Error struct {
	Reason string
	Hint   string
}

func (e *Error) Error() string { return e.Reason }

// Lookup finds an encoding by a name of the IANA registry. It returns nil for UTF-8,
// which needs no decoding, and an *Error for what can't be used.
func Lookup(name string) (*Charset, error) {
	c, err := find(name)
	if err != nil && err.Hint == "" {
		err.Hint = hint(strings.ToLower(strings.TrimSpace(name)))
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func find(name string) (*Charset, *Error) {
	lower := strings.ToLower(strings.TrimSpace(name))
	switch lower {
	case UTF8, "utf8":
		return nil, nil
	case "utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le", "utf-32be":
		return wide(lower), nil
	}
	if reason := stateful(lower); reason != "" {
		return nil, &Error{
			Reason: fmt.Sprintf("encoding %q can't be followed: %s", name, reason),
			Hint:   "have the file written in another encoding, or read its bytes as they are with encoding = \"utf-8\" and decode them in a plugin",
		}
	}
	found, err := ianaindex.IANA.Encoding(lower)
	switch {
	case err != nil:
		return nil, &Error{Reason: fmt.Sprintf("unknown encoding %q", name)}
	case found == nil:
		return nil, &Error{
			Reason: fmt.Sprintf("encoding %q is registered, but there is no decoder for it", name),
			Hint:   "read its bytes as they are with encoding = \"utf-8\" and decode them in a plugin",
		}
	}
	newline, err := found.NewEncoder().Bytes([]byte("\n"))
	if err != nil || len(newline) != 1 {
		return nil, &Error{Reason: fmt.Sprintf("encoding %q has no newline of one byte", name)}
	}
	return &Charset{name: lower, plain: Layout{Unit: 1, Newline: newline, codec: found}}, nil
}

// stateful says why an encoding can't be decoded from the middle of a file on.
func stateful(name string) string {
	switch {
	case strings.HasPrefix(name, "iso-2022-"), strings.HasPrefix(name, "csiso2022"), name == "hz-gb-2312", name == "utf-7", name == "unicode-1-1-utf-7":
		return "what its bytes mean depends on escape sequences anywhere before them, and reading goes on from positions inside the file"
	default:
		return ""
	}
}

// hint offers the spelling that was probably meant.
func hint(name string) string {
	tries := []string{
		strings.ReplaceAll(name, "_", "-"),
		strings.Replace(name, "iso8859", "iso-8859", 1),
		strings.Replace(name, "cp", "windows-", 1),
		strings.Replace(name, "cp", "ibm", 1),
		strings.Replace(name, "utf", "utf-", 1),
		strings.Replace(name, "windows", "windows-", 1),
		strings.Replace(name, "latin-", "latin", 1),
		strings.Replace(name, "ansi", "windows-1252", 1),
		strings.Replace(name, "sjis", "shift_jis", 1),
	}
	for _, try := range tries {
		if _, err := find(try); try != name && err == nil {
			return fmt.Sprintf("did you mean %q?", try)
		}
	}
	return "names are those of the IANA registry: utf-8, utf-16, iso-8859-1, windows-1252, shift_jis, gb18030, …"
}

func wide(name string) *Charset {
	little, big := order(name, true), order(name, false)
	switch {
	case strings.HasSuffix(name, "le"):
		return &Charset{name: name, wide: []Layout{little}}
	case strings.HasSuffix(name, "be"):
		return &Charset{name: name, wide: []Layout{big}}
	default:
		return &Charset{name: name, wide: []Layout{big, little}} // RFC 2781, 4.3: big-endian without a mark
	}
}

func order(name string, little bool) Layout {
	l := Layout{Unit: 2}
	if strings.HasPrefix(name, "utf-32") {
		l.Unit = 4
	}
	unit := func(low ...byte) []byte { // of a code unit below 65536, its low byte first
		bytes := make([]byte, l.Unit)
		for i, b := range low {
			if little {
				bytes[i] = b
			} else {
				bytes[l.Unit-1-i] = b
			}
		}
		return bytes
	}
	l.Newline, l.mark = unit('\n'), unit(0xff, 0xfe)
	switch {
	case l.Unit == 2 && little:
		l.codec = unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
	case l.Unit == 2:
		l.codec = unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)
	case little:
		l.codec = utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM)
	default:
		l.codec = utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM)
	}
	return l
}

// Name is the name that Lookup found.
func (c *Charset) Name() string { return c.name }

// Expansion is the most source bytes that one byte of UTF-8 can come from.
func (c *Charset) Expansion() int {
	if len(c.wide) > 0 {
		return c.wide[0].Unit
	}
	return 2
}

// HeadSize is how many of a file's first bytes Begin needs to settle the layout; 0:
// it is settled without.
func (c *Charset) HeadSize() int {
	if len(c.wide) == 0 {
		return 0
	}
	return c.wide[0].Unit
}

// Layouts returns how many layouts Begin chooses from.
func (c *Charset) Layouts() int { return max(1, len(c.wide)) }

// Layout returns layout i, as Begin numbers them.
func (c *Charset) Layout(i int) *Layout {
	if len(c.wide) == 0 {
		return &c.plain
	}
	return &c.wide[i]
}

// Begin settles the layout by a file's first bytes, and returns how many of them
// are a byte order mark.
func (c *Charset) Begin(head []byte) (layout, mark int) {
	for i, l := range c.wide {
		if bytes.HasPrefix(head, l.mark) {
			return i, len(l.mark)
		}
	}
	return 0, 0
}

// Index returns where the first newline of b begins, -1 if there is none. b begins
// with a code unit.
func (l *Layout) Index(b []byte) int {
	if l.Unit == 1 {
		return bytes.IndexByte(b, l.Newline[0])
	}
	for at := 0; at < len(b); {
		i := bytes.Index(b[at:], l.Newline)
		if i < 0 {
			return -1
		}
		if at += i; at%l.Unit == 0 {
			return at
		}
		at++
	}
	return -1
}

// LastIndex is Index for the last newline.
func (l *Layout) LastIndex(b []byte) int {
	for end := len(b); ; {
		i := bytes.LastIndex(b[:end], l.Newline)
		if i < 0 || i%l.Unit == 0 {
			return i
		}
		end = i + len(l.Newline) - 1
	}
}

// NewDecoder returns a transformer to UTF-8 that writes U+FFFD for what is no
// character. It keeps nothing between calls.
func (l *Layout) NewDecoder() transform.Transformer { return l.codec.NewDecoder().Transformer }

// Encode is what a file in this layout has for a text.
func (l *Layout) Encode(text string) (string, error) { return l.codec.NewEncoder().String(text) }

// MarshalText gives the name.
func (c *Charset) MarshalText() ([]byte, error) { return []byte(c.name), nil }
