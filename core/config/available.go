package config

import (
	"reflect"
)

// unavailable is the one table of what the configuration language has and this
// version does not do. A key is a block's type (a source's with its label) and
// the attribute or block in it; behind it stand the values that are accepted
// nevertheless. Everything else written there is refused as not available yet.
func unavailable() map[string][]any {
	return map[string][]any{
		"pipeline.provenance": {"none"},
		"pipeline.on_failure": {FailQuarantine, FailBlock, FailDrop},
	}
}

// available says whether this version does what a block or an attribute of
// this value asks for.
func (d *decoder) available(key string, parsed any) bool {
	if d.options.AllowUnavailable {
		return true
	}
	accepted, listed := unavailable()[key]
	if !listed {
		return true
	}
	for _, a := range accepted {
		if reflect.DeepEqual(a, parsed) {
			return true
		}
	}
	return false
}
