package pluginhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/agext/levenshtein"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// validateTimeout bounds all that Validate does with one stage.
const validateTimeout = 12 * time.Second

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
	c := complaints{schema: schema, printer: message.NewPrinter(language.English)}
	c.add(wrong)
	failed.Config = c.found
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

// complaints collects what a schema says against a configuration.
type complaints struct {
	schema  *jsonschema.Schema
	printer *message.Printer
	found   []ConfigError
}

// add takes the innermost errors: each is about one member.
func (c *complaints) add(e *jsonschema.ValidationError) {
	for _, cause := range e.Causes {
		c.add(cause)
	}
	switch extra, ok := e.ErrorKind.(*kind.AdditionalProperties); {
	case len(e.Causes) > 0 || len(c.found) >= maxConfigErrors:
	case ok:
		c.addUnknown(e.InstanceLocation, extra.Properties)
	default:
		c.found = append(c.found, ConfigError{
			Pointer: pointer(e.InstanceLocation), Message: sanitize(e.ErrorKind.LocalizedString(c.printer), maxProblem),
		})
	}
}

// addUnknown names the members that the plugin does not know, not the object around them.
func (c *complaints) addUnknown(at []string, names []string) {
	known := membersAt(c.schema, at)
	for _, name := range names {
		text := "the plugin knows no such member"
		if near := nearest(name, known); near != "" {
			text += fmt.Sprintf("; did you mean %q?", near)
		} else if len(known) > 0 {
			text += "; it knows " + strings.Join(known, ", ")
		}
		c.found = append(c.found, ConfigError{Pointer: pointer(append(slices.Clone(at), name)), Message: sanitize(text, maxProblem)})
	}
}

// membersAt lists the members that a schema names for the object at a path, sorted.
func membersAt(s *jsonschema.Schema, path []string) []string {
	const mostRefs = 32 // a schema may refer to itself
	for refs := 0; s.Ref != nil && refs < mostRefs; refs++ {
		s = s.Ref
	}
	if len(path) == 0 {
		return slices.Sorted(maps.Keys(s.Properties))
	}
	next, ok := s.Properties[path[0]]
	if !ok {
		return nil
	}
	return membersAt(next, path[1:])
}

// nearest returns the name that a typing error away could have been meant, or nothing.
func nearest(name string, known []string) string {
	best, distance := "", max(len(name)/3, 1)+1
	for _, k := range known {
		if d := levenshtein.Distance(name, k, nil); d < distance {
			best, distance = k, d
		}
	}
	return best
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
