package sdk

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// schemaLocation names the plugin's schema to the compiler, which loads nothing.
const schemaLocation = "mem:config"

// validate checks a configuration against a schema. The error is for a schema
// that can't be used; what is wrong with the configuration is in the list.
func validate(schema []byte, config string) ([]*ConfigError, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, fmt.Errorf("the schema of the plugin's configuration: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(noLoader{})
	if err := compiler.AddResource(schemaLocation, document); err != nil {
		return nil, fmt.Errorf("the schema of the plugin's configuration: %w", err)
	}
	compiled, err := compiler.Compile(schemaLocation)
	if err != nil {
		return nil, fmt.Errorf("the schema of the plugin's configuration: %w", err)
	}
	instance, err := jsonschema.UnmarshalJSON(strings.NewReader(config))
	if err != nil {
		return []*ConfigError{{Message: "not JSON: " + err.Error()}}, nil
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](compiled.Validate(instance))
	if !ok {
		return nil, nil
	}
	return schemaErrors(nil, invalid, message.NewPrinter(language.English)), nil
}

// noLoader keeps a schema from naming files or hosts.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("refers to %s, which is not part of it", url)
}

// schemaErrors collects the leaves of a tree of errors. A member that is not
// known or missing is named itself, not the object that it is in.
func schemaErrors(to []*ConfigError, e *jsonschema.ValidationError, p *message.Printer) []*ConfigError {
	for _, cause := range e.Causes {
		to = schemaErrors(to, cause, p)
	}
	if len(e.Causes) > 0 {
		return to
	}
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		slices.Sort(k.Properties)
		for _, member := range k.Properties {
			at := append(slices.Clone(e.InstanceLocation), member)
			to = append(to, &ConfigError{Pointer: pointer(at), Message: "unknown member"})
		}
	case *kind.Required:
		for _, member := range k.Missing {
			to = append(to, &ConfigError{Pointer: pointer(e.InstanceLocation), Message: fmt.Sprintf("%q is missing", member)})
		}
	default:
		to = append(to, &ConfigError{Pointer: pointer(e.InstanceLocation), Message: k.LocalizedString(p)})
	}
	return to
}
