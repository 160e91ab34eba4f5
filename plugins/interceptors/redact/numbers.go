package main

// Bounds of a card number, in digits (ISO/IEC 7812).
const (
	minCard = 13
	maxCard = 19
)

// digitGroup is a stretch of digits.
type digitGroup struct {
	begin, end int
}

// findCards finds numbers that card schemes issue, with a valid check digit:
// plain, or in groups with single spaces or dashes between.
func findCards(found []span, text []byte) []span {
	var groups [maxCard]digitGroup
	// A card number has four digits in a row, so every fourth byte is enough to see it.
	for i := 3; i < len(text); i += 4 {
		if !isDigit(text[i]) {
			continue
		}
		begin := i
		for begin > 0 && isDigit(text[begin-1]) {
			begin--
		}
		end := skip(text, i, isDigit)
		if !wordBefore(text, begin) && !isFraction(text, begin) {
			if last := cardAt(text, begin, end, groups[:0]); last > 0 {
				found = append(found, span{begin, last})
				end = last
			}
		}
		i = max(i, end-1) // the loop adds four: the next four digits begin behind end
	}
	return found
}

// isFraction says whether the digits at i are those behind a decimal point.
func isFraction(text []byte, i int) bool {
	return i > 1 && text[i-1] == '.' && isDigit(text[i-2])
}

// cardAt returns where the card number ends whose first group of digits is given, 0
// when it is none.
func cardAt(text []byte, begin, end int, groups []digitGroup) int {
	groups = append(groups, digitGroup{begin, end})
	digits := end - begin
	if digits > 4 {
		if isCard(text, groups) && !wordAt(text, end) {
			return end
		}
		return 0
	}
	if digits < 4 {
		return 0
	}
	last := 0
	for digits < maxCard && len(groups) < cap(groups) && end+1 < len(text) && isDigit(text[end+1]) {
		separator := text[end]
		if separator != ' ' && separator != '-' || len(groups) > 1 && separator != text[groups[1].begin-1] {
			break
		}
		next := digitGroup{end + 1, skip(text, end+1, isDigit)}
		if digits += next.end - next.begin; digits > maxCard {
			break
		}
		groups, end = append(groups, next), next.end
		if isCard(text, groups) && !wordAt(text, end) {
			last = end
		}
		if next.end-next.begin < 4 { // only the last group is shorter
			break
		}
	}
	return last
}

// isCard checks number of digits, scheme and Luhn's check digit.
func isCard(text []byte, groups []digitGroup) bool {
	var number [maxCard]byte
	n := 0
	for _, g := range groups {
		if n+g.end-g.begin > maxCard {
			return false
		}
		for _, c := range text[g.begin:g.end] {
			number[n] = c - '0'
			n++
		}
	}
	return n >= minCard && isIssued(number[:n]) && luhn(number[:n])
}

// isIssued says whether a scheme has numbers of this length with this beginning:
// Visa, Mastercard, Mir, American Express, Diners Club, JCB, UnionPay, Discover,
// Maestro, RuPay.
func isIssued(number []byte) bool {
	n := len(number)
	prefix := 0
	for _, d := range number[:4] {
		prefix = prefix*10 + int(d)
	}
	switch {
	case prefix/1000 == 4:
		return n == 13 || n == 16 || n == 19
	case prefix >= 5100 && prefix < 5600, prefix >= 2221 && prefix <= 2720:
		return n == 16
	case prefix >= 2200 && prefix <= 2204, prefix >= 3528 && prefix <= 3589, prefix/100 == 81, prefix/100 == 82:
		return n >= 16
	case prefix/100 == 34, prefix/100 == 37:
		return n == 15
	case prefix >= 3000 && prefix < 3060, prefix == 3095, prefix/100 == 36, prefix/100 == 38, prefix/100 == 39:
		return n >= 14
	default:
		return prefix/1000 == 6 || prefix/100 == 50 || prefix >= 5600 && prefix < 5900
	}
}

// luhn checks the last digit of a number as ISO/IEC 7812-1, annex B, computes it.
func luhn(number []byte) bool {
	sum := 0
	for i, d := range number {
		v := int(d)
		if (len(number)-i)%2 == 0 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	return sum%10 == 0
}

// findSSNs finds social security numbers of the United States, AAA-GG-SSSS, that
// can be issued: no area 000, 666 or 900 and above, no group 00, no serial 0000.
func findSSNs(found []span, text []byte) []span {
	const length = len("000-00-0000")
	for dash := indexFrom(text, 0, '-'); dash >= 0; dash = indexFrom(text, dash+1, '-') {
		begin := dash - 3
		end := begin + length
		if begin < 0 || end > len(text) || !isSSN(text[begin:end]) {
			continue
		}
		if wordBefore(text, begin) || wordAt(text, end) || begin > 0 && text[begin-1] == '-' || end < len(text) && text[end] == '-' {
			continue
		}
		found = append(found, span{begin, end})
		dash = end - 1
	}
	return found
}

func isSSN(text []byte) bool {
	for i, c := range text {
		if dash := i == 3 || i == 6; dash && c != '-' || !dash && !isDigit(c) {
			return false
		}
	}
	area, group, serial := string(text[:3]), string(text[4:6]), string(text[7:])
	return area != "000" && area != "666" && area[0] != '9' && group != "00" && serial != "0000"
}
