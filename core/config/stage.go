package config

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// StageKind is where in a pipeline a plugin stands.
type StageKind string

// The kinds of stages, in running order.
const (
	Interceptor     StageKind = "interceptor"
	KeySerializer   StageKind = "key_serializer"
	ValueSerializer StageKind = "value_serializer"
	Partitioner     StageKind = "partitioner"
)

// PluginKind is the kind of plugin that a stage of this kind needs, as it
// stands in the name of its binary: interceptor, serializer or partitioner.
func (k StageKind) PluginKind() string {
	switch k {
	case KeySerializer, ValueSerializer:
		return "serializer"
	default:
		return string(k)
	}
}

// Stage is one plugin process of a pipeline.
type Stage struct {
	Kind StageKind
	// Name is unique in its pipeline and never "producer": the label, and from
	// the second stage of that label on a number behind it ("set-2").
	Name      string
	Plugin    string // the label
	Config    PluginConfig
	OnError   ErrorPolicy   // for a record that the plugin rejects
	Timeout   time.Duration // per batch
	Instances int
	Checksum  string            // "sha256:" and 64 hexadecimal digits; empty: any
	Path      string            // of the executable, absolute: as written, else made of PluginDir, kind and label
	Env       map[string]Secret // the plugin's environment beside the fixed minimum
	MemoryMax int64             // bytes; 0: no limit
	Places    Places            `json:"-"` // At("path") is the label where no path is written

	label Place
}

// Label is the place of the block's label.
func (s *Stage) Label() Place { return s.label }

// ConfigDiagnostic is an error at the member of the plugin's config that a
// JSON pointer (RFC 6901) names: "/patterns/0". A member that is not there is
// reported at the nearest one around it.
func (s *Stage) ConfigDiagnostic(pointer, message, hint string) Diagnostic {
	return s.Config.members.at(pointer, s.Places.At("config")).Error(s.WithoutSecrets(message), s.WithoutSecrets(hint))
}

// WithoutSecrets takes the secrets of the stage's config and environment out of
// a text that its plugin had a part in.
func (s *Stage) WithoutSecrets(text string) string {
	var all []string
	if s.Config.text != nil {
		all = slices.Clone(s.Config.text.secrets)
	}
	for name, value := range s.Env {
		if value.credential || soundsSecret(strings.ToLower(name)) {
			all = append(all, value.Reveal())
		}
	}
	for _, secret := range all {
		for _, form := range []string{secret, strings.Trim(strconv.Quote(secret), `"`)} {
			if strings.TrimSpace(form) != "" {
				text = strings.ReplaceAll(text, form, redacted)
			}
		}
	}
	return text
}

// ErrorPolicy says what becomes of a record that a plugin rejects.
type ErrorPolicy string

// The error policies.
const (
	ErrorQuarantine ErrorPolicy = "quarantine"
	ErrorDrop       ErrorPolicy = "drop"
	ErrorPass       ErrorPolicy = "pass"
	ErrorBlock      ErrorPolicy = "block"
)

// PluginConfig is the config object of a stage. It prints itself without its
// secrets.
type PluginConfig struct {
	text    *pluginConfigText
	members members
}

// pluginConfigText is held by pointer, as the text of a Secret is.
type pluginConfigText struct {
	clear    json.RawMessage
	redacted json.RawMessage
	secrets  []string // the texts that redacted lacks
}

// JSON is the whole object, "{}" where none is written. It holds secrets in
// the clear and is meant for the plugin alone. The caller must not change it.
func (c PluginConfig) JSON() json.RawMessage {
	if c.text == nil {
		return json.RawMessage("{}")
	}
	return c.text.clear
}

// MarshalJSON gives the object with its secrets redacted.
func (c PluginConfig) MarshalJSON() ([]byte, error) {
	if c.text == nil {
		return []byte("{}"), nil
	}
	return c.text.redacted, nil
}

// String gives the object as JSON with its secrets redacted.
func (c PluginConfig) String() string {
	if c.text == nil {
		return "{}"
	}
	return string(c.text.redacted)
}

// GoString is String.
func (c PluginConfig) GoString() string { return c.String() }
