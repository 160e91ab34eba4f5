package main

import (
	"bytes"
	"regexp"
)

// patternNames are the names that namedFinder knows.
func patternNames() []string {
	return []string{"email", "credit_card", "ipv4", "ipv6", "mac_address", "iban", "us_ssn", "jwt", "aws_access_key_id"}
}

// namedFinder returns the finder of a pattern, nil for an unknown name.
func namedFinder(name string) finder {
	switch name {
	case "email":
		return findEmails
	case "credit_card":
		return findCards
	case "ipv4":
		return findIPv4
	case "ipv6":
		return findIPv6
	case "mac_address":
		return findMACs
	case "iban":
		return findIBANs
	case "us_ssn":
		return findSSNs
	case "jwt":
		return findJWTs
	case "aws_access_key_id":
		return findAWSKeys
	default:
		return nil
	}
}

// regexFinder finds what an expression matches, except the empty text.
func regexFinder(expression *regexp.Regexp) finder {
	return func(found []span, text []byte) []span {
		for _, m := range expression.FindAllIndex(text, -1) {
			if m[0] < m[1] {
				found = append(found, span{m[0], m[1]})
			}
		}
		return found
	}
}

// indexFrom is bytes.IndexByte from a position on: the index in the whole text, or -1.
func indexFrom(text []byte, from int, c byte) int {
	if i := bytes.IndexByte(text[from:], c); i >= 0 {
		return from + i
	}
	return -1
}

func isDigit(c byte) bool { return c-'0' < 10 }

func isUpper(c byte) bool { return c-'A' < 26 }

func isLetter(c byte) bool { return c|0x20-'a' < 26 }

// isWord says whether a character continues a word or number.
func isWord(c byte) bool { return isDigit(c) || isLetter(c) || c == '_' }

func isHex(c byte) bool { return isDigit(c) || c|0x20-'a' < 6 }

// isBase64URL says whether a character is of the alphabet of RFC 4648, section 5.
func isBase64URL(c byte) bool { return isWord(c) || c == '-' }

// wordBefore says whether the character before i continues a word, so that no
// finding of whole words begins at i.
func wordBefore(text []byte, i int) bool { return i > 0 && isWord(text[i-1]) }

// wordAt is wordBefore for the character at i, behind a finding.
func wordAt(text []byte, i int) bool { return i < len(text) && isWord(text[i]) }

// skip returns the first position from i on whose character is not of a class.
func skip(text []byte, i int, class func(byte) bool) int {
	for i < len(text) && class(text[i]) {
		i++
	}
	return i
}
