package config

import (
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/zclconf/go-cty/cty"
)

// pluginConfig takes any object.
func pluginConfig(v value) (PluginConfig, bool) {
	plain, _ := v.Unmark()
	if t := plain.Type(); !t.IsObjectType() && !t.IsMapType() {
		v.wrongType("an object", "write config = { … }")
		return PluginConfig{}, false
	}
	text := &pluginConfigText{}
	for _, form := range []struct {
		text *json.RawMessage
		hide bool
	}{{&text.clear, false}, {&text.redacted, true}} {
		encoded, err := json.Marshal(jsonValue(v.Value, form.hide))
		if err != nil {
			v.fail("", "can't be written as JSON: %v", err)
			return PluginConfig{}, false
		}
		*form.text = encoded
	}
	return PluginConfig{text: text, members: v.membersOf()}, true
}

// jsonValue turns a value into what encoding/json writes. With hide, secrets
// are replaced: values made from a credential, and strings under a name that
// sounds like one.
func jsonValue(v cty.Value, hide bool) any {
	v, marks := v.Unmark()
	if hide && len(marks) > 0 {
		return redacted
	}
	t := v.Type()
	switch {
	case v.IsNull():
		return nil
	case t == cty.String:
		return v.AsString()
	case t == cty.Bool:
		return v.True()
	case t == cty.Number:
		return jsonNumber(v.AsBigFloat())
	case t.IsObjectType(), t.IsMapType():
		object := map[string]any{}
		for name, member := range v.AsValueMap() {
			object[name] = jsonValue(member, hide)
			if _, isString := object[name].(string); hide && isString && soundsSecret(name) {
				object[name] = redacted
			}
		}
		return object
	case t.IsTupleType(), t.IsListType(), t.IsSetType():
		list := []any{}
		for _, element := range v.AsValueSlice() {
			list = append(list, jsonValue(element, hide))
		}
		return list
	default:
		return fmt.Sprintf("(%s)", t.FriendlyName())
	}
}

// jsonNumber writes whole numbers without exponent, so that they fit integers.
func jsonNumber(f *big.Float) json.Number {
	const exact = 64 // bits
	if f.IsInt() && f.MantExp(nil) <= exact {
		return json.Number(f.Text('f', 0))
	}
	return json.Number(f.Text('g', -1))
}
