package config

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Bounds on what the parser and the evaluation, both recursive, are given: a
// stack that overflows can't be recovered from, and a number of a billion
// digits fits on a line.
const (
	maxNesting   = 100
	maxOperators = 10_000
	maxNumber    = 40 // characters of a number
	maxExponent  = 3  // digits of its exponent
)

// checkLimits refuses a text that is no configuration before it is parsed.
func checkLimits(src *source) (Place, string) {
	tokens, _ := hclsyntax.LexConfig(src.text, src.name, hcl.InitialPos)
	depth, operators := 0, 0
	for _, t := range tokens {
		place := Place{at: t.Range}
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenOQuote,
			hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp:
			depth++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote,
			hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			depth = max(0, depth-1)
		case hclsyntax.TokenTemplateControl:
			depth++
			operators++
		case hclsyntax.TokenNumberLit:
			if longNumber(string(t.Bytes)) {
				return place, "a number this long is not accepted"
			}
		case hclsyntax.TokenPlus, hclsyntax.TokenMinus, hclsyntax.TokenStar, hclsyntax.TokenSlash, hclsyntax.TokenPercent,
			hclsyntax.TokenBang, hclsyntax.TokenQuestion, hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenEqualOp,
			hclsyntax.TokenNotEqual, hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq, hclsyntax.TokenGreaterThan,
			hclsyntax.TokenGreaterThanEq:
			operators++
		}
		if depth > maxNesting {
			return place, fmt.Sprintf("nested more than %d deep", maxNesting)
		}
		if operators > maxOperators {
			return place, fmt.Sprintf("more than %d operators in one file", maxOperators)
		}
	}
	return Place{}, ""
}

func longNumber(literal string) bool {
	for i, c := range literal {
		if c == 'e' || c == 'E' {
			return i > maxNumber || len(literal)-i > maxExponent+2
		}
	}
	return len(literal) > maxNumber
}
