package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
)

// findIBANs finds account numbers (ISO 13616): a country of the registry, its
// length, valid check digits; plain or in groups of four with single spaces between.
func findIBANs(found []span, text []byte) []span {
	for i := 0; i+4 < len(text); i++ {
		if !isUpper(text[i]) {
			continue
		}
		if !isUpper(text[i+1]) || !isDigit(text[i+2]) || !isDigit(text[i+3]) || wordBefore(text, i) {
			continue
		}
		if end := ibanAt(text, i); end > 0 {
			found = append(found, span{i, end})
			i = end - 1
		}
	}
	return found
}

// ibanAt returns where the account number that begins at i ends, 0 when none does.
func ibanAt(text []byte, i int) int {
	length := ibanLength(string(text[i : i+2]))
	var number [maxIBAN]byte
	n := 0
	for ; i < len(text) && n < length; i++ {
		c := text[i]
		if c == ' ' && n%4 == 0 && text[i-1] != ' ' {
			continue
		}
		if !isDigit(c) && !isUpper(c) {
			return 0
		}
		number[n] = c
		n++
	}
	if n == 0 || n < length || wordAt(text, i) || !mod97(number[:n]) {
		return 0
	}
	return i
}

// maxIBAN is the length of the longest number in the registry, Russia's.
const maxIBAN = 33

// ibanLength returns how long the numbers of a country are, as the registry of
// ISO 13616 has it; 0 for others.
func ibanLength(country string) int {
	const lengths = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20YE30"
	for i := 0; i < len(lengths); i += 4 {
		if lengths[i:i+2] == country {
			return int(lengths[i+2]-'0')*10 + int(lengths[i+3]-'0')
		}
	}
	return 0
}

// mod97 checks an account number: its first four characters put behind the
// others, letters as numbers from 10 on, the remainder by 97 must be 1.
func mod97(number []byte) bool {
	remainder := 0
	for i := range number {
		c := number[(i+4)%len(number)]
		if isDigit(c) {
			remainder = (remainder*10 + int(c-'0')) % 97
		} else {
			remainder = (remainder*100 + int(c-'A') + 10) % 97
		}
	}
	return remainder == 1
}

// findJWTs finds JSON Web Tokens in their compact form (RFC 7515, RFC 7516): three
// or five parts in base64url with dots between, the first of which is a JSON object.
func findJWTs(found []span, text []byte) []span {
	prefix := []byte("eyJ") // {" in base64
	for from := 0; ; {
		begin := bytes.Index(text[from:], prefix)
		if begin < 0 {
			return found
		}
		begin += from
		headerEnd := skip(text, begin, isBase64URL)
		from = headerEnd
		if begin > 0 && isBase64URL(text[begin-1]) {
			continue
		}
		if end := tokenEnd(text, headerEnd); end > 0 && isJSON(text[begin:headerEnd]) {
			found = append(found, span{begin, end})
			from = end
		}
	}
}

// tokenEnd returns where the token ends whose first part ends at i, 0 when it is
// none. The signature of an unsecured token is empty.
func tokenEnd(text []byte, i int) int {
	ends := [5]int{i}
	parts := 1
	for parts < len(ends) && i < len(text) && text[i] == '.' {
		i = skip(text, i+1, isBase64URL)
		ends[parts] = i
		parts++
	}
	switch {
	case parts < 3 || ends[1] == ends[0]+1:
		return 0
	case parts == len(ends):
		return ends[4]
	default:
		return ends[2]
	}
}

func isJSON(encoded []byte) bool {
	decoded := make([]byte, base64.RawURLEncoding.DecodedLen(len(encoded)))
	n, err := base64.RawURLEncoding.Decode(decoded, encoded)
	return err == nil && json.Valid(decoded[:n])
}

// findAWSKeys finds identifiers of access keys: AKIA (long-term) or ASIA
// (temporary) and 16 characters of base32.
func findAWSKeys(found []span, text []byte) []span {
	const length = 20
	for i := indexFrom(text, 0, 'A'); i >= 0 && i+length <= len(text); i = indexFrom(text, i+1, 'A') {
		prefix := string(text[i : i+4])
		if prefix != "AKIA" && prefix != "ASIA" || wordBefore(text, i) || wordAt(text, i+length) {
			continue
		}
		if skip(text[:i+length], i+4, isBase32) < i+length {
			continue
		}
		found = append(found, span{i, i + length})
		i += length - 1
	}
	return found
}

func isBase32(c byte) bool { return isUpper(c) || c >= '2' && c <= '7' }
