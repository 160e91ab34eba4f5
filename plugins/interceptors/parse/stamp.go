package main

import (
	"bytes"
	"time"
)

// clock reads timestamps of RFC 3164 and its dialects.
type clock struct {
	zone     *time.Location // of timestamps that name none
	received time.Time      // the year nearest to it is that of a timestamp without one
	cisco    bool           // a word in capitals with a colon behind the time is a zone, not a tag
}

// stamped is a timestamp and what stands behind it.
type stamped struct {
	time  time.Time
	rest  []byte
	colon bool // one stood right behind it, as Cisco's devices write it
}

// wallTime is a time of day.
type wallTime struct{ hour, minute, second, nanosecond int }

// parse reads the timestamp that b begins with, if there is one. What looks like
// one but names a day or time that there is not, is none. It fails where the zone is
// unknown, for then the time would be wrong.
func (c clock) parse(b []byte) (stamped, bool, error) {
	if t, rest, ok := parseISO(b, c.zone); ok {
		return finish(t, rest)
	}
	year, rest, _ := splitYear(b) // NX-OS: 2019 Feb 28 11:37:33 UTC
	month, rest, ok := splitMonth(bytes.TrimLeft(rest, " "))
	if !ok {
		return stamped{}, false, nil
	}
	day, rest, ok := splitNumber(bytes.TrimLeft(rest, " "), 1, 2)
	if !ok || len(rest) == 0 || rest[0] != ' ' {
		return stamped{}, false, nil
	}
	rest = bytes.TrimLeft(rest, " ")
	if n, behind, found := splitYear(rest); found { // ASA: Oct 10 2018 12:34:56
		year, rest = n, bytes.TrimLeft(behind, " ")
	}
	wall, rest, ok := splitTime(rest)
	if !ok {
		return stamped{}, false, nil
	}
	if n, behind, found := splitYear(bytes.TrimPrefix(rest, []byte(" "))); found && year == 0 { // Oct 10 12:34:56 2018
		year, rest = n, behind
	}
	zone, rest, err := c.splitZone(rest)
	if err != nil {
		return stamped{}, false, err
	}
	t, ok := c.date(year, month, day, wall, zone)
	if !ok {
		return stamped{}, false, nil
	}
	return finish(t, rest)
}

// finish checks that a timestamp is a word of its own.
func finish(t time.Time, rest []byte) (stamped, bool, error) {
	colon := len(rest) > 0 && rest[0] == ':'
	if len(rest) > 0 && rest[0] != ' ' && !colon {
		return stamped{}, false, nil
	}
	return stamped{time: t, rest: rest, colon: colon}, true, nil
}

// leapYears is how far away the nearest 29th of February may be: 1900 and 2100 have none.
const leapYears = 8

// date returns the time of a day that there is. Without a year it is the one
// nearest to when the record was received: a message of December may come in January, and the
// other way round where clocks differ.
func (c clock) date(year int, month time.Month, day int, wall wallTime, zone *time.Location) (time.Time, bool) {
	if year != 0 {
		return exact(year, month, day, wall, zone)
	}
	var best time.Time
	found := false
	now := c.received.In(zone).Year()
	for away := 0; away <= leapYears; away++ {
		for _, y := range [...]int{now - away, now + away} {
			t, ok := exact(y, month, day, wall, zone)
			if ok && (!found || t.Sub(c.received).Abs() < best.Sub(c.received).Abs()) {
				best, found = t, true
			}
		}
		if found && away > 0 {
			return best, true
		}
	}
	return best, found
}

// exact refuses what time.Date would move to another day, and what RFC 3339 can't write in UTC.
func exact(year int, month time.Month, day int, wall wallTime, zone *time.Location) (time.Time, bool) {
	if last := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day(); day < 1 || day > last || month < 1 || month > 12 {
		return time.Time{}, false
	}
	t := time.Date(year, month, day, wall.hour, wall.minute, wall.second, wall.nanosecond, zone)
	utc := t.UTC().Year()
	return t, utc >= 0 && utc <= 9999
}

// parseISO reads a timestamp of RFC 3339, also with a space for the "T", a comma
// before the fraction, or an offset without colon or none.
func parseISO(b []byte, zone *time.Location) (t time.Time, rest []byte, ok bool) {
	year, rest, ok := splitNumber(b, 4, 4)
	if !ok || len(rest) == 0 || rest[0] != '-' {
		return t, b, false
	}
	month, rest, ok := splitNumber(rest[1:], 2, 2)
	if !ok || len(rest) == 0 || rest[0] != '-' {
		return t, b, false
	}
	day, rest, ok := splitNumber(rest[1:], 2, 2)
	if !ok || len(rest) == 0 || rest[0] != 'T' && rest[0] != ' ' {
		return t, b, false
	}
	wall, rest, ok := splitTime(rest[1:])
	if !ok {
		return t, b, false
	}
	if offset, behind, found := splitOffset(rest); found {
		zone, rest = offset, behind
	}
	t, ok = exact(year, time.Month(month), day, wall, zone)
	return t, rest, ok
}

// splitTime reads hh:mm:ss with up to nine digits of a fraction. A leap second is the next minute's
// first.
func splitTime(b []byte) (wall wallTime, rest []byte, ok bool) {
	if len(b) < 8 || b[2] != ':' || b[5] != ':' {
		return wall, b, false
	}
	hour, hourOK := decimal(b[0:2])
	minute, minuteOK := decimal(b[3:5])
	second, secondOK := decimal(b[6:8])
	if !hourOK || !minuteOK || !secondOK || hour > 23 || minute > 59 || second > 60 {
		return wall, b, false
	}
	wall = wallTime{hour: hour, minute: minute, second: second}
	rest = b[8:]
	if len(rest) > 1 && (rest[0] == '.' || rest[0] == ',') && isDigit(rest[1]) {
		digits := 1
		for digits < len(rest) && isDigit(rest[digits]) {
			digits++
		}
		fraction, ok := decimal(rest[1:digits])
		if !ok {
			return wall, b, false
		}
		for range 9 - (digits - 1) {
			fraction *= 10
		}
		wall.nanosecond, rest = fraction, rest[digits:]
	}
	return wall, rest, true
}

// splitOffset reads Z, +hh:mm, +hhmm or +hh.
func splitOffset(b []byte) (zone *time.Location, rest []byte, ok bool) {
	if len(b) > 0 && b[0] == 'Z' {
		return time.UTC, b[1:], true
	}
	if len(b) < 3 || b[0] != '+' && b[0] != '-' {
		return nil, b, false
	}
	hours, ok := decimal(b[1:3])
	if !ok || hours > 23 {
		return nil, b, false
	}
	rest = b[3:]
	minutes := 0
	if behind := bytes.TrimPrefix(rest, []byte(":")); len(behind) >= 2 {
		if n, isNumber := decimal(behind[:2]); isNumber && n < 60 {
			minutes, rest = n, behind[2:]
		}
	}
	seconds := (hours*60 + minutes) * 60
	if b[0] == '-' {
		seconds = -seconds
	}
	if seconds == 0 {
		return time.UTC, rest, true
	}
	return time.FixedZone("", seconds), rest, true
}

// splitZone reads the zone that may stand behind a time. An abbreviation is one
// only if it is UTC, GMT or of the zone that is configured: the others mean
// several zones each.
func (c clock) splitZone(b []byte) (*time.Location, []byte, error) {
	word := bytes.TrimPrefix(b, []byte(" "))
	if zone, rest, ok := splitOffset(word); ok && (len(rest) == 0 || rest[0] == ' ' || rest[0] == ':') {
		return zone, rest, nil
	}
	letters := 0
	for letters < len(word) && 'A' <= word[letters] && word[letters] <= 'Z' {
		letters++
	}
	name, rest := word[:letters], word[letters:]
	if letters < 3 || letters > 5 || len(word) == len(b) || len(rest) > 0 && rest[0] != ' ' && rest[0] != ':' {
		return c.zone, b, nil
	}
	if string(name) == "UTC" || string(name) == "GMT" {
		return time.UTC, rest, nil
	}
	for _, month := range [...]time.Month{time.January, time.July} {
		at := time.Date(c.received.Year(), month, 1, 0, 0, 0, 0, c.zone)
		if abbreviation, offset := at.Zone(); abbreviation == string(name) {
			return time.FixedZone(abbreviation, offset), rest, nil
		}
	}
	if c.cisco && len(rest) > 0 && rest[0] == ':' {
		return nil, b, failuref("the timestamp's time zone is none of the configured one's; configure timezone")
	}
	return c.zone, b, nil
}

// splitYear reads a year of this century that is a word of its own; else it returns 0 and all of b.
func splitYear(b []byte) (year int, rest []byte, ok bool) {
	year, rest, ok = splitNumber(b, 4, 4)
	if !ok || year < 2000 || year > 2099 || !bytes.HasPrefix(bytes.TrimPrefix(rest, []byte(":")), []byte(" ")) {
		return 0, b, false
	}
	return year, rest, true
}

func splitMonth(b []byte) (month time.Month, rest []byte, ok bool) {
	const names = "JanFebMarAprMayJunJulAugSepOctNovDec"
	if len(b) < 4 || b[3] != ' ' {
		return 0, b, false
	}
	for month := time.January; month <= time.December; month++ {
		if name := names[3*month-3 : 3*month]; bytes.EqualFold(b[:3], []byte(name)) {
			return month, b[3:], true
		}
	}
	return 0, b, false
}

// splitNumber reads a number of so many digits.
func splitNumber(b []byte, least, most int) (n int, rest []byte, ok bool) {
	digits := 0
	for digits < len(b) && digits <= most && isDigit(b[digits]) {
		digits++
	}
	if digits < least || digits > most {
		return 0, b, false
	}
	n, ok = decimal(b[:digits])
	return n, b[digits:], ok
}
