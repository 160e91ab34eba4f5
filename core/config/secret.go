package config

import (
	"fmt"
	"io"
	"log/slog"
)

// redacted stands for a secret wherever it would be shown.
const redacted = "(secret)"

// Secret is a text that never shows in a log, an error, a page or a dump: only
// Reveal gives it away. The zero value is the empty secret.
type Secret struct {
	// text is a pointer so that printing a struct that holds a Secret in an
	// unexported field, which calls none of its methods, shows an address.
	text       *string
	credential bool // made by credential()
}

// NewSecret wraps a text.
func NewSecret(text string) Secret { return Secret{text: &text} }

// Reveal returns the text in the clear.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsEmpty says that there is no secret or an empty one.
func (s Secret) IsEmpty() bool { return s.Reveal() == "" }

// String is "(secret)", or empty for the empty secret.
func (s Secret) String() string {
	if s.IsEmpty() {
		return ""
	}
	return redacted
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// Format prints String whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText is String, for JSON and every other encoding of text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON is String as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
