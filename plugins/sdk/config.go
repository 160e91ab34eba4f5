package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
)

// configSchema returns the JSON Schema of a plugin's fields. What the plugin
// holds is the default of each member; a member is required only by its tag.
func configSchema(plugin any) ([]byte, error) {
	if !isStructPointer(plugin) {
		return []byte(`{"type":"object","additionalProperties":false}`), nil
	}
	reflector := jsonschema.Reflector{Anonymous: true, ExpandedStruct: true, RequiredFromJSONSchemaTags: true}
	schema := reflector.Reflect(plugin)
	if err := setDefaults(schema, plugin); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(schema)
	if err != nil {
		return nil, fmt.Errorf("describe the configuration of a %T: %w", plugin, err)
	}
	return encoded, nil
}

func isStructPointer(plugin any) bool {
	v := reflect.ValueOf(plugin)
	return v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct
}

// setDefaults gives the members their defaults where those are not zero.
func setDefaults(schema *jsonschema.Schema, plugin any) error {
	encoded, err := json.Marshal(plugin)
	if err != nil {
		return fmt.Errorf("the defaults of a %T: %w", plugin, err)
	}
	var defaults map[string]any
	if err := json.Unmarshal(encoded, &defaults); err != nil {
		return fmt.Errorf("the defaults of a %T: %w", plugin, err)
	}
	for name, value := range defaults {
		if isZeroJSON(value) || schema.Properties == nil {
			continue
		}
		if property, ok := schema.Properties.Get(name); ok && property.Default == nil {
			property.Default = value
		}
	}
	return nil
}

func isZeroJSON(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	default:
		return reflect.ValueOf(value).IsZero()
	}
}

// configure checks a configuration against the plugin's schema, decodes it into
// the plugin's fields and lets the plugin check the rest. The errors name members
// by JSON pointer; none means that the plugin is ready.
func configure(ctx context.Context, plugin any, config string) ([]*ConfigError, error) {
	schema, err := configSchema(plugin)
	if err != nil {
		return nil, err
	}
	if config == "" {
		config = "{}"
	}
	wrong, err := validate(schema, config)
	if err != nil || len(wrong) > 0 {
		return wrong, err
	}
	if isStructPointer(plugin) {
		if wrong := decodeConfig(plugin, config); wrong != nil {
			return []*ConfigError{wrong}, nil
		}
	}
	if c, ok := plugin.(Configurer); ok {
		return configErrors(c.Configure(ctx)), nil
	}
	return nil, nil
}

// decodeConfig catches what a schema leaves open, such as a number that does not fit its field.
func decodeConfig(plugin any, config string) *ConfigError {
	decoder := json.NewDecoder(bytes.NewReader([]byte(config)))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(plugin)
	if err == nil {
		return nil
	}
	wrong := &ConfigError{Message: strings.TrimPrefix(err.Error(), "json: ")}
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		wrong.Message = fmt.Sprintf("got %s, want %s", mismatch.Value, mismatch.Type)
		if mismatch.Field != "" {
			wrong.Pointer = pointer(strings.Split(mismatch.Field, "."))
		}
	}
	return wrong
}

// configErrors takes joined errors apart.
func configErrors(err error) []*ConfigError {
	switch e := err.(type) { //nolint:errorlint // taken apart by hand: a joined error has several
	case nil:
		return nil
	case *ConfigError:
		return []*ConfigError{e}
	case interface{ Unwrap() []error }:
		var all []*ConfigError
		for _, one := range e.Unwrap() {
			all = append(all, configErrors(one)...)
		}
		return all
	}
	if named, ok := errors.AsType[*ConfigError](err); ok {
		return []*ConfigError{{Pointer: named.Pointer, Message: err.Error()}}
	}
	return []*ConfigError{{Message: err.Error()}}
}

// pointer returns the JSON pointer (RFC 6901) of a path of members.
func pointer(path []string) string {
	var b strings.Builder
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	for _, member := range path {
		b.WriteByte('/')
		b.WriteString(escape.Replace(member))
	}
	return b.String()
}
