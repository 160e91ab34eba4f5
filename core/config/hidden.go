package config

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// hiddenSpans finds what no snippet may show: comments, and the values of names
// that sound like a secret, of every unknown name in a tls or sasl block, and
// of a plugin's environment. It works on tokens, so it holds where a name is
// misspelt. healed is the text without its errors of syntax: in the text itself
// an open quote turns names into text and text into names. In a broken text the
// rest of each line behind such a name is hidden as well.
func hiddenSpans(text, healed []byte, broken bool) []span {
	spans := hiddenValues(text)
	if broken {
		spans = slices.Concat(spans, hiddenValues(healed), hiddenLineEnds(text))
	}
	return merge(spans)
}

// hiddenLineEnds finds, by lines alone, what stands behind a name that sounds
// like a secret: the rest of its line, and all lines up to one that begins
// something new.
func hiddenLineEnds(text []byte) []span {
	begins := regexp.MustCompile(`^\s*("?[\w.-]+"?\s*[={]|\w+\s+")`)
	closes := regexp.MustCompile(`^[\])},\s]*$`)
	var spans []span
	hiding := false
	for offset := 0; offset < len(text); {
		line := lineAround(text, offset)
		from := afterSecretName(line)
		switch {
		case from >= 0:
			hiding = true
		case begins.Match(line):
			hiding = false
		default:
			from = 0
		}
		if hiding && !closes.Match(line) {
			value := bytes.TrimLeft(line[from:], " \t=:\"'\r")
			spans = append(spans, span{start: offset + len(line) - len(value), end: offset + len(line)})
		}
		offset += len(line) + 1
	}
	return spans
}

// afterSecretName returns the end of a line's first word that sounds like a
// secret, or -1.
func afterSecretName(line []byte) int {
	for i := 0; i < len(line); {
		n := bytes.IndexFunc(line[i:], func(r rune) bool { return !isWord(r) })
		if n < 0 {
			n = len(line) - i
		}
		word := strings.ToLower(string(line[i : i+n]))
		if strings.HasPrefix(word, "env") || soundsSecret(word) {
			return i + n
		}
		i += max(n, 1)
	}
	return -1
}

func isWord(r rune) bool {
	return r == '_' || r == '.' || r == '-' || unicode.IsLetter(r) || unicode.IsDigit(r)
}

func hiddenValues(text []byte) []span {
	tokens, _ := hclsyntax.LexConfig(text, "", hcl.InitialPos)
	s := hiddenScanner{levels: []level{{}}}
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		if n := s.plainCall(tokens[i:]); n > 0 {
			i += n - 1
			continue
		}
		if s.hides(t) {
			s.spans = append(s.spans, span{t.Range.Start.Byte, t.Range.End.Byte, t.Type == hclsyntax.TokenComment})
		}
	}
	return s.spans
}

// concealment says which names of a level have values to hide.
type concealment uint8

const (
	hideSecrets concealment = iota // names that sound like a secret
	hideUnknown                    // all names but those known to be harmless: tls and sasl
	hideValues                     // all names: a plugin's environment
	hideAll                        // the whole text, being part of a value to hide
)

// level is what stands between two brackets, or the file.
type level struct {
	conceal concealment
	name    string // of the attribute or block being read; empty before it
	quoted  bool   // inside "…"
}

type hiddenScanner struct {
	levels []level
	spans  []span
}

// hides takes the next token and says whether it is to be hidden.
func (s *hiddenScanner) hides(t hclsyntax.Token) bool {
	top := &s.levels[len(s.levels)-1]
	switch t.Type {
	case hclsyntax.TokenComment:
		if bytes.HasSuffix(t.Bytes, []byte("\n")) {
			top.name = ""
		}
		return true
	case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen,
		hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl, hclsyntax.TokenOHeredoc:
		s.levels = append(s.levels, level{conceal: top.inside(t.Type)})
		return false
	case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen,
		hclsyntax.TokenTemplateSeqEnd, hclsyntax.TokenCHeredoc:
		if len(s.levels) > 1 {
			s.levels = s.levels[:len(s.levels)-1]
		}
		return false
	case hclsyntax.TokenNewline, hclsyntax.TokenComma:
		top.name, top.quoted = "", false
		return false
	case hclsyntax.TokenOQuote, hclsyntax.TokenCQuote:
		top.quoted = t.Type == hclsyntax.TokenOQuote
		return false
	case hclsyntax.TokenEqual, hclsyntax.TokenColon, hclsyntax.TokenQuotedNewline, hclsyntax.TokenEOF:
		return false
	}
	if top.name == "" && top.conceal != hideAll {
		top.name = strings.ToLower(string(t.Bytes))
		return false
	}
	return top.hidesValue()
}

// plainCall recognises env("X"), file("X") and credential("X") at the head of a
// hidden value and returns the number of its tokens up to the argument's end:
// such a name is no secret, and an error about it must show it.
func (s *hiddenScanner) plainCall(tokens hclsyntax.Tokens) int {
	pattern := []hclsyntax.TokenType{hclsyntax.TokenIdent, hclsyntax.TokenOParen,
		hclsyntax.TokenOQuote, hclsyntax.TokenQuotedLit, hclsyntax.TokenCQuote, hclsyntax.TokenCParen}
	top := s.levels[len(s.levels)-1]
	if len(tokens) < len(pattern) || top.quoted || !top.hidesValue() {
		return 0
	}
	for i, kind := range pattern {
		if tokens[i].Type != kind {
			return 0
		}
	}
	if !slices.Contains([]string{"env", "file", "credential"}, string(tokens[0].Bytes)) {
		return 0
	}
	return len(pattern)
}

// inside is what holds for the level that a bracket opens here.
func (l *level) inside(opener hclsyntax.TokenType) concealment {
	switch {
	case l.conceal == hideAll:
		return hideAll
	case strings.HasPrefix(l.name, "env") && opener == hclsyntax.TokenOBrace:
		return hideValues
	case opener == hclsyntax.TokenOBrace && (l.name == "tls" || l.name == "sasl"):
		return hideUnknown
	case l.hidesValue():
		return hideAll
	}
	return hideSecrets
}

func (l *level) hidesValue() bool {
	switch l.conceal {
	case hideAll:
		return true
	case hideValues:
		return l.name != ""
	case hideUnknown:
		return !slices.Contains([]string{"", "mechanism", "username", "ca_file", "cert_file", "key_file"}, l.name)
	default:
		return soundsSecret(l.name)
	}
}

// soundsSecret errs on the side of hiding: the name may be misspelt or a
// plugin's own.
func soundsSecret(name string) bool {
	if closest(name, []string{"password", "key_password", "credential"}) != "" {
		return true
	}
	for _, part := range []string{"pass", "pwd", "secret", "token", "salt", "credential", "private", "api_key", "apikey", "access_key", "jaas", ".pem"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

func merge(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return a.start - b.start })
	var merged []span
	for _, s := range spans {
		if last := len(merged) - 1; last >= 0 && s.start <= merged[last].end {
			merged[last].end = max(merged[last].end, s.end)
			merged[last].comment = merged[last].comment && s.comment
			continue
		}
		merged = append(merged, s)
	}
	return merged
}
