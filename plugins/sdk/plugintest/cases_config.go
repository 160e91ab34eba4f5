package plugintest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/proto"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// configurationCases returns what is tried before a batch is sent.
func configurationCases(connect connector, config string, o options) []Case {
	var all []Case
	add := func(name, rule string, try func(ctx context.Context, s *subject, config string) error) {
		all = append(all, Case{Name: name, Rule: rule, Run: func(ctx context.Context) error {
			s, err := open(ctx, connect, o)
			if err != nil {
				return err
			}
			defer s.close()
			return try(ctx, s, config)
		}})
	}
	add("description", "It says name, kind, version, protocol, columns and the schema of its configuration, always the same.", checkDescription)
	add("configuration", "It takes a good configuration, as often as asked, and refuses what is no object.", checkConfiguration)
	add("unknown member", "A member that its schema lacks is refused, and named by its JSON pointer.", checkUnknownMember)
	add("wrong types", "A member of the wrong type is refused, and named by its JSON pointer.", checkWrongTypes)
	return append(all, Case{
		Name: "defaults", Rule: "The defaults that its schema gives are good, and what holds when a member is left out.",
		Run: func(ctx context.Context) error { return checkDefaults(ctx, connect, config, o) },
	})
}

// checkDescription looks at what the plugin says of itself.
func checkDescription(ctx context.Context, s *subject, _ string) error {
	d := s.description
	if d.Name == "" || d.Version == "" || d.Kind == wirev1.StageKind_STAGE_KIND_UNSPECIFIED {
		return fmt.Errorf("name %q, version %q, kind %s: all three are needed", d.Name, d.Version, d.Kind)
	}
	if !slices.Contains(d.ProtocolVersions, wire.ProtocolVersion) {
		return fmt.Errorf("protocol versions %v, want %d among them", d.ProtocolVersions, wire.ProtocolVersion)
	}
	if wire.ColumnsOf(d.Writes).Has(wire.ColumnSource) {
		return errors.New("it writes where records come from, which nobody can")
	}
	if d.MayDrop && d.Kind != wirev1.StageKind_STAGE_KIND_INTERCEPTOR {
		return errors.New("it says that it may drop records, which only an interceptor may")
	}
	again, err := s.client.Describe(ctx, &wirev1.DescribeRequest{})
	if err != nil {
		return fmt.Errorf("describe, a second time: %w", err)
	}
	if !proto.Equal(again, d) {
		return fmt.Errorf("asked twice it describes itself as %v and as %v", d, again)
	}
	_, err = s.schema()
	return err
}

// schema is the part of a plugin's schema that the suite reads.
type schema struct {
	Type                 any                       `json:"type"`
	Properties           map[string]map[string]any `json:"properties"`
	AdditionalProperties any                       `json:"additionalProperties"`
}

// schema reads the schema of the configuration, which must be one.
func (s *subject) schema() (*schema, error) {
	if s.description.ConfigSchema == "" {
		return nil, errors.New("config_schema is empty: without members it is " + `{"type":"object","additionalProperties":false}`)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(s.description.ConfigSchema))
	if err != nil {
		return nil, fmt.Errorf("config_schema is not JSON: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("mem:config", document); err != nil {
		return nil, fmt.Errorf("config_schema: %w", err)
	}
	if _, err := compiler.Compile("mem:config"); err != nil {
		return nil, fmt.Errorf("config_schema is no JSON Schema: %w", err)
	}
	read := &schema{}
	if err := json.Unmarshal([]byte(s.description.ConfigSchema), read); err != nil {
		return nil, fmt.Errorf("config_schema is not of an object: %w", err)
	}
	if read.Type != "object" {
		return nil, fmt.Errorf("config_schema is of %v, want an object", read.Type)
	}
	return read, nil
}

// checkConfiguration wants the configuration accepted, as often as asked, and
// what is no JSON object refused with an answer, not with an error or an end.
func checkConfiguration(ctx context.Context, s *subject, config string) error {
	for _, refused := range []string{"[]", "{", `"x"`} {
		wrong, err := s.validate(ctx, refused)
		if err != nil {
			return fmt.Errorf("with the configuration %s: %w, want it refused in the reply", refused, err)
		}
		if len(wrong) == 0 {
			return fmt.Errorf("the configuration %s is accepted", refused)
		}
	}
	for range 2 {
		if wrong, err := s.validate(ctx, config); err != nil || len(wrong) > 0 {
			return fmt.Errorf("the configuration %s is refused: %w", config, joined(wrong, err))
		}
	}
	return s.configure(ctx, config)
}

func joined(wrong []sdk.ConfigError, err error) error {
	all := []error{err}
	for _, e := range wrong {
		all = append(all, &e)
	}
	return errors.Join(all...)
}

// membersOf reads a configuration.
func membersOf(config string) (map[string]any, error) {
	members := map[string]any{}
	if strings.TrimSpace(config) == "" {
		return members, nil
	}
	decoder := json.NewDecoder(bytes.NewReader([]byte(config)))
	decoder.UseNumber()
	if err := decoder.Decode(&members); err != nil {
		return nil, fmt.Errorf("the test's configuration: %w", err)
	}
	return members, nil
}

// with validates the test's configuration with one member changed.
func (s *subject) with(ctx context.Context, config, member string, value any) ([]sdk.ConfigError, error) {
	members, err := membersOf(config)
	if err != nil {
		return nil, err
	}
	members[member] = value
	changed, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	wrong, err := s.validate(ctx, string(changed))
	if err != nil {
		return nil, fmt.Errorf("with the configuration %s: %w", changed, err)
	}
	return wrong, nil
}

// unknownMember is a member that no plugin's configuration has.
const unknownMember = "plugintest_unknown_member"

// checkUnknownMember wants a misspelt member refused, unless the schema says
// that it takes members that it does not know.
func checkUnknownMember(ctx context.Context, s *subject, config string) error {
	schema, err := s.schema()
	if err != nil {
		return err
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties != false {
		return nil
	}
	wrong, err := s.with(ctx, config, unknownMember, true)
	if err != nil {
		return err
	}
	if len(wrong) != 1 || wrong[0].Pointer != "/"+unknownMember {
		return fmt.Errorf("with an unknown member the errors are %v, want one at /%s", wrong, unknownMember)
	}
	return nil
}

// checkWrongTypes gives each member whose schema names its type another one.
func checkWrongTypes(ctx context.Context, s *subject, config string) error {
	schema, err := s.schema()
	if err != nil {
		return err
	}
	for _, member := range slices.Sorted(maps.Keys(schema.Properties)) {
		var value any
		switch schema.Properties[member]["type"] {
		case "string":
			value = []any{map[string]any{}}
		case "integer", "number", "boolean", "array", "object":
			value = "plugintest"
		default:
			continue
		}
		wrong, err := s.with(ctx, config, member, value)
		if err != nil {
			return err
		}
		at := "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(member)
		if !slices.ContainsFunc(wrong, func(e sdk.ConfigError) bool {
			return e.Pointer == at || strings.HasPrefix(e.Pointer, at+"/")
		}) {
			return fmt.Errorf("%s is given %v, of the wrong type; the errors are %v, want one at %s", member, value, wrong, at)
		}
	}
	return nil
}

// checkDefaults wants the same of a plugin whose members have their defaults,
// written out or left out.
func checkDefaults(ctx context.Context, connect connector, config string, o options) error {
	var written string
	var got [2][]Result
	err := onSubject(ctx, connect, config, o, func(_ context.Context, s *subject) (err error) {
		if written, err = s.withDefaults(config); err != nil {
			return err
		}
		got[0], err = s.exchange(plainRecords(20))
		return err
	})
	if err != nil {
		return err
	}
	return onSubject(ctx, connect, written, o, func(_ context.Context, s *subject) (err error) {
		if got[1], err = s.exchange(plainRecords(20)); err != nil {
			return err
		}
		if s.description.Deterministic && !reflect.DeepEqual(got[0], got[1]) {
			return fmt.Errorf("with the configurations %s and %s, which the schema says are the same, the same records have different results", config, written)
		}
		return nil
	})
}

// withDefaults is the test's configuration with every default of the schema written out.
func (s *subject) withDefaults(config string) (string, error) {
	schema, err := s.schema()
	if err != nil {
		return "", err
	}
	members, err := membersOf(config)
	if err != nil {
		return "", err
	}
	for member, property := range schema.Properties {
		value, has := property["default"]
		if _, given := members[member]; has && !given {
			members[member] = value
		}
	}
	written, err := json.Marshal(members)
	return string(written), err
}
