package config

import (
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// value is an evaluated attribute, or an element of one, on its way to a field.
type value struct {
	cty.Value // known and not null; marked where it is made from a credential
	name      string
	expr      hclsyntax.Expression
	place     Place
	source    *source
	decoder   *decoder
}

// parser turns a value into what a field holds. It reports what is wrong
// itself and returns false.
type parser[T any] func(v value) (T, bool)

// fail reports an error at the value; the message begins with its name. What it
// says of the value is left out where that has swallowed a secret, as behind an
// open quote or heredoc.
func (v value) fail(hint, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if v.place.holdsSecret() {
		message = "has a wrong value, which is not shown as it holds a secret"
	}
	v.decoder.errorAt(v.place, hint, "%s", v.name+" "+message)
}

// wrongType reports that the value is not what is wanted.
func (v value) wrongType(wanted, hint string) {
	plain, _ := v.UnmarkDeep()
	v.decoder.errorAt(v.place, hint, "%s must be %s, not %s", v.name, wanted, friendly(plain.Type()))
}

func friendly(t cty.Type) string {
	switch {
	case t.IsTupleType(), t.IsListType(), t.IsSetType():
		return "a list"
	case t.IsObjectType(), t.IsMapType():
		return "an object"
	default:
		return "a " + t.FriendlyName()
	}
}

// text takes a string. A number or a boolean is a wrong type, never converted.
func text(v value) (string, bool) {
	if !isText(v.Value) {
		v.wrongType("a string", "write it in quotes")
		return "", false
	}
	s := v.AsString()
	if strings.ContainsRune(s, 0) {
		v.fail("", "holds a NUL character")
		return "", false
	}
	return s, true
}

// nonEmpty takes a string of at least one character.
func nonEmpty(v value) (string, bool) {
	s, ok := text(v)
	if ok && s == "" {
		v.fail("", "must not be empty")
		return "", false
	}
	return s, ok
}

// boolean takes true and false, also as the string that env() gives.
func boolean(v value) (bool, bool) {
	converted, err := convert.Convert(v.Value, cty.Bool)
	if err != nil || converted.IsNull() {
		v.wrongType("true or false", "")
		return false, false
	}
	return converted.True(), true
}

// integer takes a whole number in a range, also as the string that env() gives.
func integer(least, most int) parser[int] {
	return func(v value) (int, bool) {
		n, ok := whole(v, "a whole number")
		return int(n), ok && inRange(v, n, int64(least), int64(most), func(n int64) string { return strconv.FormatInt(n, 10) })
	}
}

func whole(v value, wanted string) (int64, bool) {
	converted, err := convert.Convert(v.Value, cty.Number)
	if err != nil || converted.IsNull() {
		if isText(v.Value) {
			v.fail("", "must be %s, not %s", wanted, quote(v.AsString()))
			return 0, false
		}
		v.wrongType(wanted, "")
		return 0, false
	}
	n, accuracy := converted.AsBigFloat().Int64()
	if accuracy != big.Exact {
		v.fail("", "must be %s, not %s", wanted, converted.AsBigFloat().Text('g', 20))
		return 0, false
	}
	return n, true
}

// size takes a number of bytes in a range: "32MiB", "1MB" or a plain number.
func size(least, most int64) parser[int64] {
	return func(v value) (int64, bool) {
		var n int64
		if isText(v.Value) {
			parsed, err := ParseSize(v.AsString())
			if err != nil {
				message, hint := splitHint(err)
				v.fail(hint, "must be a size, not %s", message)
				return 0, false
			}
			n = parsed
		} else {
			parsed, ok := whole(v, `a size such as "32MiB", "1MB" or a number of bytes`)
			if !ok {
				return 0, false
			}
			n = parsed
		}
		return n, inRange(v, n, least, most, FormatSize)
	}
}

// inRange reports a value that is too small or too large, in its own unit.
func inRange[T ~int64](v value, n, least, most T, format func(T) string) bool {
	switch {
	case n < least:
		v.fail("", "must be at least %s, not %s", format(least), format(n))
	case n > most:
		v.fail("", "must be at most %s, not %s", format(most), format(n))
	default:
		return true
	}
	return false
}

// duration takes a Go duration in a range.
func duration(least, most time.Duration) parser[time.Duration] {
	return func(v value) (time.Duration, bool) {
		const form = `write a number with a unit: "250ms", "5s", "1h30m"`
		if !isText(v.Value) {
			v.wrongType("a duration", form)
			return 0, false
		}
		d, err := time.ParseDuration(v.AsString())
		if err != nil {
			v.fail(form, "must be a duration, not %s", quote(v.AsString()))
			return 0, false
		}
		return d, inRange(v, d, least, most, time.Duration.String)
	}
}

// longestTime is librdkafka's largest time: an int of milliseconds.
const longestTime = math.MaxInt32 * time.Millisecond

// oneOf takes one of some words.
func oneOf[T ~string](words ...T) parser[T] {
	return func(v value) (T, bool) {
		s, ok := text(v)
		if !ok {
			return "", false
		}
		known := make([]string, len(words))
		for i, word := range words {
			if s == string(word) {
				return word, true
			}
			known[i] = string(word)
		}
		hint := ""
		if near := closest(s, known); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		v.fail(hint, "must be one of %s, not %s", quoteAll(known), quote(s))
		return "", false
	}
}

func quoteAll(words []string) string {
	return `"` + strings.Join(words, `", "`) + `"`
}

// logLevel takes the name of a log level.
func logLevel(v value) (slog.Level, bool) {
	name, ok := oneOf("debug", "info", "warn", "error")(v)
	var l slog.Level
	if !ok || l.UnmarshalText([]byte(name)) != nil {
		return 0, false
	}
	return l, true
}

// listOf takes a list, each element through parse.
func listOf[T any](parse parser[T]) parser[[]T] {
	return func(v value) ([]T, bool) {
		if t := v.Type(); !t.IsTupleType() && !t.IsListType() && !t.IsSetType() {
			v.wrongType("a list", "write it in brackets: [ … ]")
			return nil, false
		}
		places := v.membersOf()
		list, all := []T{}, true
		for i, element := range v.AsValueSlice() {
			e := v
			e.Value, e.name = element, fmt.Sprintf("%s[%d]", v.name, i)
			e.place = places.at("/"+strconv.Itoa(i), v.place)
			if element.IsNull() {
				e.fail("", "must not be null")
				all = false
				continue
			}
			parsed, ok := parse(e)
			list, all = append(list, parsed), all && ok
		}
		return list, all
	}
}

// some takes a list of at least one element.
func some[T any](parse parser[[]T]) parser[[]T] {
	return func(v value) ([]T, bool) {
		list, ok := parse(v)
		if ok && len(list) == 0 {
			v.fail("", "must have at least one element")
			return nil, false
		}
		return list, ok
	}
}

// path takes a path and makes it absolute against the configuration's folder.
func path(v value) (string, bool) {
	s, ok := nonEmpty(v)
	if !ok {
		return "", false
	}
	if !filepath.IsAbs(s) {
		s = filepath.Join(v.decoder.folder, s)
	}
	return filepath.Clean(s), true
}

// secret takes a string that is never shown.
func secret(v value) (Secret, bool) {
	plain, _ := v.Unmark()
	if !isText(plain) {
		v.wrongType("a string", "write it in quotes")
		return Secret{}, false
	}
	return NewSecret(plain.AsString()), true
}
