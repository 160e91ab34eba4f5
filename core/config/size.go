package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// unit is a unit of a size.
type unit struct {
	name  string
	bytes int64
}

// units are those of IEC 80000-13 and SI, largest first.
func units() []unit {
	return []unit{
		{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9},
		{"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
	}
}

// ParseSize reads a number of bytes: a whole number and, optionally, a unit
// (B, kB or KB, MB, GB, TB in steps of 1,000; KiB, MiB, GiB, TiB in steps of
// 1,024).
func ParseSize(s string) (int64, error) {
	digits := strings.TrimLeft(s, "0123456789")
	number, name := s[:len(s)-len(digits)], strings.TrimSpace(digits)
	n, err := strconv.ParseInt(number, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, hinted{quote(s) + ", which is too large", ""}
	}
	if err != nil {
		return 0, hinted{quote(s), `write a whole number with a unit: "512KiB", "32MiB", "1MB"`}
	}
	if name == "" {
		return n, nil
	}
	for _, u := range units() {
		if name == u.name {
			if n > math.MaxInt64/u.bytes {
				return 0, hinted{quote(s) + ", which is too large", ""}
			}
			return n * u.bytes, nil
		}
	}
	for _, u := range units() {
		if strings.EqualFold(name, u.name) || strings.EqualFold(name+"B", u.name) {
			return 0, hinted{quote(s), fmt.Sprintf(`did you mean "%s%s"?`, number, u.name)}
		}
	}
	return 0, hinted{quote(s), "the units are B, KB, MB, GB, TB, KiB, MiB, GiB, TiB"}
}

// FormatSize writes a number of bytes with the largest unit that divides it.
func FormatSize(n int64) string {
	for _, u := range units() {
		if n != 0 && n%u.bytes == 0 && u.bytes > 1 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// hinted is an error with a hint apart from its message.
type hinted struct{ message, hint string }

func (h hinted) Error() string { return h.message }

// splitHint takes an error apart into message and hint.
func splitHint(err error) (message, hint string) {
	if h, ok := errors.AsType[hinted](err); ok {
		return h.message, h.hint
	}
	return err.Error(), ""
}
