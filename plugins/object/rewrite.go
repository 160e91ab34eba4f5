package object

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tinylib/msgp/msgp"
)

// Member is one member of a map: its name and its value, one MessagePack value.
type Member struct {
	Name  string
	Value []byte
}

// Merge writes the map in b with the given members set: a member of that name is
// replaced where it stands, the others follow at the end in the order given.
// Of members that have one name in b, the first is replaced and the rest go.
func Merge(dst, b []byte, members []Member) ([]byte, error) {
	count, rest, err := ReadMapHeader(b, 0)
	if err != nil {
		return dst, err
	}
	kept, err := unchanged(rest, count, members)
	if err != nil {
		return dst, err
	}
	dst = msgp.AppendMapHeader(dst, uint32(kept+len(members)))
	written := make([]bool, len(members))
	for range count {
		key := rest
		name, value, err := ReadName(rest)
		if err != nil {
			return dst, err
		}
		if rest, err = skip(value, 1); err != nil {
			return dst, err
		}
		at := indexOf(members, name)
		switch {
		case at < 0:
			dst = append(dst, key[:len(key)-len(rest)]...)
		case !written[at]:
			written[at] = true
			dst = appendMember(dst, members[at])
		}
	}
	for i, m := range members {
		if !written[i] {
			dst = appendMember(dst, m)
		}
	}
	return dst, nil
}

// unchanged counts the members of b that none of the given ones replaces, and
// checks that b holds count members and nothing else.
func unchanged(b []byte, count int, members []Member) (int, error) {
	kept := 0
	for range count {
		name, value, err := ReadName(b)
		if err != nil {
			return 0, err
		}
		if b, err = skip(value, 1); err != nil {
			return 0, err
		}
		if indexOf(members, name) < 0 {
			kept++
		}
	}
	if len(b) > 0 {
		return 0, fmt.Errorf("%w: %d bytes behind its end", ErrMalformed, len(b))
	}
	return kept, nil
}

// AppendMembers writes a map of the given members, in the order given.
func AppendMembers(dst []byte, members []Member) []byte {
	dst = msgp.AppendMapHeader(dst, uint32(len(members)))
	for _, m := range members {
		dst = appendMember(dst, m)
	}
	return dst
}

// AppendText writes a string.
func AppendText(dst, text []byte) []byte { return msgp.AppendStringFromBytes(dst, text) }

func appendMember(dst []byte, m Member) []byte {
	return append(msgp.AppendString(dst, m.Name), m.Value...)
}

func indexOf(members []Member, name []byte) int {
	return slices.IndexFunc(members, func(m Member) bool { return sameName(name, m.Name) })
}

// MapStrings writes the value in b with change applied to each of its strings,
// except names of members. change appends what the string becomes to dst and says
// whether it differs. It returns dst as it was, and false, when no string differed.
func MapStrings(dst, b []byte, change func(dst, text []byte) ([]byte, bool)) ([]byte, bool, error) {
	begin := len(dst)
	w := stringMapper{change: change}
	out, rest, err := w.value(dst, b, 0)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes behind its end", ErrMalformed, len(rest))
	}
	if err != nil || !w.changed {
		return out[:begin], false, err
	}
	return out, true, nil
}

// stringMapper is one walk of MapStrings.
type stringMapper struct {
	change  func(dst, text []byte) ([]byte, bool)
	scratch []byte // the string just changed, which must be known before its length is written
	changed bool
}

func (w *stringMapper) value(dst, b []byte, depth int) (out, rest []byte, err error) {
	switch msgp.NextType(b) {
	case msgp.StrType:
		return w.text(dst, b)
	case msgp.ArrayType:
		count, rest, err := ReadArrayHeader(b, depth)
		if err != nil {
			return dst, b, err
		}
		dst = append(dst, b[:len(b)-len(rest)]...)
		for range count {
			if dst, rest, err = w.value(dst, rest, depth+1); err != nil {
				return dst, b, err
			}
		}
		return dst, rest, nil
	case msgp.MapType:
		return w.members(dst, b, depth)
	}
	rest, err = skip(b, depth)
	if err != nil {
		return dst, b, err
	}
	return append(dst, b[:len(b)-len(rest)]...), rest, nil
}

func (w *stringMapper) members(dst, b []byte, depth int) (out, rest []byte, err error) {
	count, rest, err := ReadMapHeader(b, depth)
	if err != nil {
		return dst, b, err
	}
	dst = append(dst, b[:len(b)-len(rest)]...)
	for range count {
		key := rest
		if _, rest, err = ReadName(rest); err != nil {
			return dst, b, err
		}
		dst = append(dst, key[:len(key)-len(rest)]...)
		if dst, rest, err = w.value(dst, rest, depth+1); err != nil {
			return dst, b, err
		}
	}
	return dst, rest, nil
}

func (w *stringMapper) text(dst, b []byte) (out, rest []byte, err error) {
	text, rest, err := msgp.ReadStringZC(b)
	if err != nil {
		return dst, b, malformed(err)
	}
	changed, differs := w.change(w.scratch[:0], text)
	w.scratch = changed[:0]
	if !differs {
		return append(dst, b[:len(b)-len(rest)]...), rest, nil
	}
	w.changed = true
	return msgp.AppendStringFromBytes(dst, changed), rest, nil
}

func sortedNames(members map[string]any) []string {
	return slices.Sorted(maps.Keys(members))
}
