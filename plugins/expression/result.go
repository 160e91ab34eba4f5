package expression

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/tinylib/msgp/msgp"

	"github.com/barnabas-agent/barnabas/plugins/object"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// IsContainer says whether a result is a map or a list, which only an object can hold.
func IsContainer(v ref.Val) bool {
	switch v.(type) {
	case traits.Mapper, traits.Lister:
		return true
	default:
		return false
	}
}

// AppendText writes a result that is neither null nor a container as text: strings and
// bytes as they are, everything else as CEL's string() does.
func AppendText(dst []byte, v ref.Val) ([]byte, error) {
	switch v := v.(type) {
	case types.String:
		return append(dst, v...), nil
	case types.Bytes:
		return append(dst, v...), nil
	case types.Int, types.Uint, types.Double, types.Bool, types.Timestamp, types.Duration:
		text, ok := v.ConvertToType(types.StringType).(types.String)
		if ok {
			return append(dst, text...), nil
		}
	}
	return dst, sdk.Errorf(FailureCode, "%s has no form as text", article(v))
}

// AppendObject writes a result as a MessagePack value: timestamps as such,
// durations as text, members of maps in the order of their names.
func AppendObject(dst []byte, v ref.Val) ([]byte, error) { return appendResult(dst, v, 0) }

func appendResult(dst []byte, v ref.Val, depth int) ([]byte, error) {
	switch v := v.(type) {
	case types.Null:
		return msgp.AppendNil(dst), nil
	case types.String:
		return msgp.AppendString(dst, string(v)), nil
	case types.Bytes:
		return msgp.AppendBytes(dst, v), nil
	case types.Int:
		return msgp.AppendInt64(dst, int64(v)), nil
	case types.Uint:
		return msgp.AppendUint64(dst, uint64(v)), nil
	case types.Double:
		return msgp.AppendFloat64(dst, float64(v)), nil
	case types.Bool:
		return msgp.AppendBool(dst, bool(v)), nil
	case types.Timestamp:
		return msgp.AppendTimeExt(dst, v.Time), nil
	case types.Duration:
		return msgp.AppendString(dst, v.String()), nil
	}
	if depth == object.MaxDepth {
		return dst, sdk.Errorf(FailureCode, "the result is nested more than %d deep", object.MaxDepth)
	}
	switch v := v.(type) {
	case traits.Mapper:
		return appendMap(dst, v, depth)
	case traits.Lister:
		return appendList(dst, v, depth)
	default:
		return dst, sdk.Errorf(FailureCode, "%s can't be part of an object", article(v))
	}
}

func appendList(dst []byte, list traits.Lister, depth int) ([]byte, error) {
	size, ok := list.Size().(types.Int)
	if !ok {
		return dst, sdk.Errorf(FailureCode, "a list without a size")
	}
	dst = msgp.AppendArrayHeader(dst, uint32(size))
	var err error
	for i := range size {
		if dst, err = appendResult(dst, list.Get(i), depth+1); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// entry is a member of a map under its name as text.
type entry struct {
	name string
	key  ref.Val
}

func appendMap(dst []byte, m traits.Mapper, depth int) ([]byte, error) {
	var entries []entry
	for it := m.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		name, ok := key.ConvertToType(types.StringType).(types.String)
		if !ok {
			return dst, sdk.Errorf(FailureCode, "%s can't name a member of an object", article(key))
		}
		entries = append(entries, entry{string(name), key})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	dst = msgp.AppendMapHeader(dst, uint32(len(entries)))
	var err error
	for _, e := range entries {
		dst = msgp.AppendString(dst, e.name)
		if dst, err = appendResult(dst, m.Get(e.key), depth+1); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// article names the type of a value in a sentence.
func article(v ref.Val) string { return fmt.Sprintf("a value of type %s", v.Type().TypeName()) }
