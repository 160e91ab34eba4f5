package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// printable is a text for a terminal: what is not printable, escape sequences
// above all, and what is not UTF-8 is escaped as in Go.
func printable(text string) string {
	var safe strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&safe, `\x%02x`, text[0])
		case strconv.IsPrint(r):
			safe.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			safe.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[size:]
	}
	return safe.String()
}

// excerpt shows the beginning of a value: as it is where that is safe for a
// terminal, else quoted.
func excerpt(b []byte) string {
	const most = 200
	cut, rest := b, ""
	if len(b) > most {
		rest = fmt.Sprintf("… (%d bytes)", len(b))
		cut = b[:most]
		// A character is shown whole or not at all.
		for n := 1; n < utf8.UTFMax && !utf8.RuneStart(b[len(cut)]); n++ {
			cut = cut[:len(cut)-1]
		}
	}
	if text := string(cut); printable(text) == text {
		return text + rest
	}
	return strconv.Quote(string(cut)) + rest
}

// count writes a number of things.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// thousands writes a number with its thousands apart.
func thousands(n int64) string {
	if n < 0 {
		return "-" + thousands(-n)
	}
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// bytesText writes a number of bytes for people.
func bytesText(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}
