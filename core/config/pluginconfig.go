package config

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"

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
		to   jsonWriter
	}{{&text.clear, jsonWriter{}}, {&text.redacted, jsonWriter{secrets: &text.secrets}}} {
		encoded, err := json.Marshal(form.to.value(v.Value, false))
		if err != nil {
			v.fail("", "can't be written as JSON: %v", err)
			return PluginConfig{}, false
		}
		*form.text = encoded
	}
	return PluginConfig{text: text, members: v.membersOf()}, true
}

// jsonWriter turns values into what encoding/json writes.
type jsonWriter struct {
	// secrets collects the secrets, which are replaced in what is written; nil:
	// everything is written in the clear. A secret is what is made from a
	// credential, and every string under a name that sounds like one.
	secrets *[]string
}

// value turns one value; secret says that it stands under such a name.
func (w jsonWriter) value(v cty.Value, secret bool) any {
	v, marks := v.Unmark()
	secret = secret || len(marks) > 0
	t := v.Type()
	switch {
	case v.IsNull():
		return nil
	case t == cty.String:
		return w.text(v.AsString(), secret)
	case t == cty.Bool:
		return v.True()
	case t == cty.Number:
		return jsonNumber(v.AsBigFloat())
	case t.IsObjectType(), t.IsMapType():
		object := map[string]any{}
		for name, member := range v.AsValueMap() {
			object[name] = w.value(member, secret || soundsSecret(strings.ToLower(name)))
		}
		return object
	case t.IsTupleType(), t.IsListType(), t.IsSetType():
		list := []any{}
		for _, element := range v.AsValueSlice() {
			list = append(list, w.value(element, secret))
		}
		return list
	default:
		return fmt.Sprintf("(%s)", t.FriendlyName())
	}
}

func (w jsonWriter) text(s string, secret bool) string {
	if w.secrets == nil || !secret {
		return s
	}
	*w.secrets = append(*w.secrets, s)
	return redacted
}

// jsonNumber writes whole numbers without exponent, so that they fit integers.
func jsonNumber(f *big.Float) json.Number {
	const exact = 64 // bits
	if f.IsInt() && f.MantExp(nil) <= exact {
		return json.Number(f.Text('f', 0))
	}
	return json.Number(f.Text('g', -1))
}
