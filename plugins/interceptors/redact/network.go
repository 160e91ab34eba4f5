package main

import (
	"bytes"
	"net/netip"
	"unicode"
	"unicode/utf8"
)

// findEmails finds mail addresses: local@domain.tld. Letters of all scripts count,
// quoted local parts and domains without a dot do not.
func findEmails(found []span, text []byte) []span {
	from := 0
	for at := indexFrom(text, 0, '@'); at >= 0; at = indexFrom(text, at+1, '@') {
		begin := localPart(text, from, at)
		end := domain(text, at+1)
		if begin < at && end > 0 {
			found = append(found, span{begin, end})
			from = end
		} else {
			from = at + 1
		}
	}
	return found
}

// localPart returns where the local part before at begins, not before from. An
// apostrophe belongs to it between letters, else it is a quote around it.
func localPart(text []byte, from, at int) int {
	begin := at
	for begin > from {
		c := text[begin-1]
		if c < utf8.RuneSelf {
			inside := begin < at && isLetter(text[begin]) && begin-1 > from && isLetter(text[begin-2])
			if !isWord(c) && c != '.' && c != '-' && c != '+' && c != '%' && (c != '\'' || !inside) {
				break
			}
			begin--
			continue
		}
		r, size := utf8.DecodeLastRune(text[from:begin])
		if !isForeign(r) {
			break
		}
		begin -= size
	}
	for begin < at && text[begin] == '.' {
		begin++
	}
	return begin
}

// domain returns where the domain that begins at i ends, 0 when there is none.
func domain(text []byte, i int) int {
	end := i
	for end < len(text) {
		c := text[end]
		if c < utf8.RuneSelf {
			if !isDigit(c) && !isLetter(c) && c != '.' && c != '-' {
				break
			}
			end++
			continue
		}
		r, size := utf8.DecodeRune(text[end:])
		if !isForeign(r) {
			break
		}
		end += size
	}
	for end > i && (text[end-1] == '.' || text[end-1] == '-') {
		end--
	}
	dot := bytes.LastIndexByte(text[i:end], '.')
	if dot <= 0 || end-(i+dot+1) < 2 || isDigit(text[i+dot+1]) {
		return 0
	}
	return end
}

// isForeign says whether a character beyond ASCII is part of names.
func isForeign(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r))
}

// findIPv4 finds four numbers up to 255 with dots between, not part of a longer
// row of numbers or of a word, as versions are.
func findIPv4(found []span, text []byte) []span {
	for dot := indexFrom(text, 0, '.'); dot >= 0; {
		begin := dot
		for begin > 0 && dot-begin < 3 && isDigit(text[begin-1]) {
			begin--
		}
		end := ipv4At(text, begin)
		joined := wordBefore(text, begin) || begin > 1 && text[begin-1] == '.' && isDigit(text[begin-2])
		if end > 0 && !joined {
			found = append(found, span{begin, end})
			dot = indexFrom(text, end, '.')
			continue
		}
		dot = indexFrom(text, dot+1, '.')
	}
	return found
}

// ipv4At returns where the address that begins at i ends, 0 when none does.
func ipv4At(text []byte, i int) int {
	for octet := range 4 {
		if octet > 0 {
			if i == len(text) || text[i] != '.' {
				return 0
			}
			i++
		}
		number, digits := 0, 0
		for i < len(text) && digits < 3 && isDigit(text[i]) {
			number = number*10 + int(text[i]-'0')
			i++
			digits++
		}
		if digits == 0 || number > 255 {
			return 0
		}
	}
	if wordAt(text, i) || i+1 < len(text) && text[i] == '.' && isDigit(text[i+1]) {
		return 0
	}
	return i
}

// maxIPv6 is the longest form of an address, with an IPv4 address at its end.
const maxIPv6 = len("0000:0000:0000:0000:0000:ffff:255.255.255.255")

// findIPv6 finds addresses in all forms of RFC 4291, also behind a word and a
// colon. A zone, brackets, a port or a prefix length around them stay.
func findIPv6(found []span, text []byte) []span {
	from := 0
	for colon := indexFrom(text, 0, ':'); colon >= 0; colon = indexFrom(text, from, ':') {
		begin := colon
		for begin > from && isWord(text[begin-1]) {
			begin--
		}
		word := skip(text, colon, isAddressWord)
		if s, ok := ipv6In(text, begin, word); ok {
			found = append(found, s)
		}
		from = word
	}
	return found
}

func isAddressWord(c byte) bool { return isWord(c) || c == ':' || c == '.' }

func isAddress(c byte) bool { return isHex(c) || c == ':' || c == '.' }

// ipv6In finds the address that the word from begin to end ends with.
func ipv6In(text []byte, begin, end int) (span, bool) {
	for end > begin && (text[end-1] == '.' || text[end-1] == ':' && end-2 >= begin && text[end-2] != ':') {
		end--
	}
	first := end
	for first > begin && end-first <= maxIPv6 && isAddress(text[first-1]) {
		first--
	}
	if first > begin && isWord(text[first-1]) { // its tail is hexadecimal by chance
		colon := bytes.IndexByte(text[first:end], ':')
		if colon < 0 {
			return span{}, false
		}
		first += colon + 1
	}
	candidate := text[first:end]
	groups := bytes.Count(candidate, []byte{':'})
	if groups < 2 || len(candidate) < 3 || len(candidate) > maxIPv6 {
		return span{}, false
	}
	if groups < 3 && !bytes.ContainsFunc(candidate, unicode.IsDigit) { // as in ada::feed
		return span{}, false
	}
	address, err := netip.ParseAddr(string(candidate))
	return span{first, end}, err == nil && address.Is6()
}

// findMACs finds six pairs of hexadecimal digits with colons or dashes between.
func findMACs(found []span, text []byte) []span {
	const length = len("00:00:00:00:00:00")
	for i := 0; i+length <= len(text); i++ {
		separator := text[i+2]
		if separator != ':' && separator != '-' {
			continue
		}
		if !isMAC(text[i:i+length], separator) || wordBefore(text, i) || wordAt(text, i+length) {
			continue
		}
		if i > 0 && text[i-1] == separator || i+length < len(text) && text[i+length] == separator {
			continue
		}
		found = append(found, span{i, i + length})
		i += length - 1
	}
	return found
}

func isMAC(text []byte, separator byte) bool {
	for i, c := range text {
		if i%3 == 2 && c != separator || i%3 != 2 && !isHex(c) {
			return false
		}
	}
	return true
}
