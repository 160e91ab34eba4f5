package pluginhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// validateTimeout bounds all that Validate does with one stage.
const validateTimeout = 14 * time.Second

// Validate checks a stage before anything runs: its file, what the plugin says
// of itself, its configuration against the plugin's schema, and then, in a
// process of its own, against the plugin. It takes at most 15 s and writes
// nothing where the host has no cache. The error is an [*Error] where the
// plugin or its configuration is at fault.
func (h *Host) Validate(ctx context.Context, spec Spec) error {
	ctx, cancel := context.WithTimeout(ctx, validateTimeout)
	defer cancel()
	spec = spec.withDefaults()
	exe, err := openExecutable(&spec)
	if err != nil {
		return err
	}
	defer exe.close()
	description, err := h.describe(ctx, &spec, exe)
	if err != nil {
		return err
	}
	if err := checkDescription(&spec, exe, description); err != nil {
		return err
	}
	if err := checkSchema(exe, description, spec.Config); err != nil {
		return err
	}
	i, err := h.launch(ctx, &spec, exe, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer i.discard()
	i.description = description
	return i.configure(ctx, h, &spec, true)
}

// checkSchema holds a configuration against the plugin's JSON Schema.
func checkSchema(exe *executable, d *wirev1.Description, config []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(config))
	if err != nil {
		return fmt.Errorf("configuration of plugin %q: %w", exe.plugin, err)
	}
	if d.ConfigSchema == "" {
		return nil
	}
	schema, err := compileSchema(d.ConfigSchema)
	if err != nil {
		return exe.errorf(Failed, "report it to the plugin's author", "its schema of the configuration is wrong").because(err)
	}
	var wrong *jsonschema.ValidationError
	if err := schema.Validate(value); !errors.As(err, &wrong) {
		return err
	}
	failed := exe.errorf(ConfigRefused, configHint, "its configuration does not fit")
	failed.Config = configErrors(wrong, message.NewPrinter(language.English))
	return failed
}

// compileSchema compiles a plugin's schema. It may refer to itself only: no
// file and no address is ever loaded for a plugin.
func compileSchema(text string) (*jsonschema.Schema, error) {
	const name = "config.json"
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(noLoader{})
	if err := compiler.AddResource(name, document); err != nil {
		return nil, err
	}
	return compiler.Compile(name)
}

// noLoader refuses to load what a schema refers to.
type noLoader struct{}

// Load always fails.
func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("a plugin's schema may not refer to %q", sanitize(url, 200))
}

// configErrors lists the innermost errors: each is about one member.
func configErrors(e *jsonschema.ValidationError, printer *message.Printer) []ConfigError {
	if len(e.Causes) == 0 {
		return memberErrors(e, printer)
	}
	var all []ConfigError
	for _, cause := range e.Causes {
		if len(all) >= maxConfigErrors {
			break
		}
		all = append(all, configErrors(cause, printer)...)
	}
	return all
}

// memberErrors names the member at fault: for one that is unknown, the member
// itself, not the object around it.
func memberErrors(e *jsonschema.ValidationError, printer *message.Printer) []ConfigError {
	at := pointer(e.InstanceLocation)
	if extra, ok := e.ErrorKind.(*kind.AdditionalProperties); ok {
		var all []ConfigError
		for _, name := range extra.Properties {
			all = append(all, ConfigError{Pointer: at + pointer([]string{name}), Message: "the plugin knows no such member"})
		}
		return all
	}
	return []ConfigError{{Pointer: at, Message: sanitize(e.ErrorKind.LocalizedString(printer), 1024)}}
}

// pointer is the JSON pointer (RFC 6901) of a path.
func pointer(path []string) string {
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	var b strings.Builder
	for _, part := range path {
		b.WriteString("/" + escape.Replace(part))
	}
	return b.String()
}
