// Command redact is the interceptor "redact": it takes personal and secret data
// out of values.
//
//	interceptor "redact" {
//	  config = { patterns = ["email", "credit_card"], regex = ["session=[0-9a-f]{32}"] }
//	}
//
// Its configuration:
//
//   - patterns: what to find, by name.
//     email; credit_card (13 to 19 digits that a card scheme uses, plain or in groups, with a valid
//     Luhn digit); ipv4; ipv6; mac_address; iban (registered length, valid
//     check digits); us_ssn (with dashes, a number that can be issued); jwt (a header that is JSON);
//     aws_access_key_id.
//   - regex: RE2 expressions. What they match as a whole is redacted. In HCL write $${ for ${.
//   - replacement: what stands in place of a finding, "***" by default.
//   - hash = true, with a salt: instead, 16 hexadecimal digits of the finding's
//     HMAC-SHA-256 under the salt, so that equal findings stay recognisable as equal. Without the
//     salt nobody can try out which address or number a hash came from: keep it secret.
//
// Findings that overlap are one. Values are searched as bytes, whether they are
// UTF-8 or not; of objects, every text at any depth, but not numbers, binary and
// the names of members. Keys and headers are left alone. Values without findings
// are not sent back.
package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/barnabas-agent/barnabas/plugins/object"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// defaultReplacement stands in place of a finding unless the configuration says otherwise.
const defaultReplacement = "***"

// codeObject is the code of a record whose object can't be read.
const codeObject = "object"

// Redact is the interceptor and its configuration.
type Redact struct {
	Patterns    []string `json:"patterns,omitempty" jsonschema:"uniqueItems=true,description=What to find by name: email / credit_card / ipv4 / ipv6 / mac_address / iban / us_ssn / jwt / aws_access_key_id"`
	Regex       []string `json:"regex,omitempty" jsonschema:"uniqueItems=true,description=RE2 expressions of what else to find"`
	Replacement string   `json:"replacement" jsonschema:"description=What stands in place of a finding"`
	Hash        bool     `json:"hash,omitempty" jsonschema:"description=Put a keyed hash in place of a finding instead of the replacement; needs salt"`
	Salt        string   `json:"salt,omitempty" jsonschema:"writeOnly=true,description=Secret key of the hash"`

	finders []finder
}

// newRedact returns a plugin with the defaults.
func newRedact() sdk.Interceptor { return &Redact{Replacement: defaultReplacement} }

// Configure finds the patterns and compiles the expressions. It names everything that is wrong.
func (r *Redact) Configure(context.Context) error {
	var wrong []error
	refuse := func(pointer, format string, args ...any) {
		wrong = append(wrong, &sdk.ConfigError{Pointer: pointer, Message: fmt.Sprintf(format, args...)})
	}
	r.finders = nil
	for i, name := range r.Patterns {
		f := namedFinder(name)
		if f == nil {
			refuse(fmt.Sprintf("/patterns/%d", i), "no pattern %q; there are %s", name, strings.Join(patternNames(), ", "))
			continue
		}
		r.finders = append(r.finders, f)
	}
	for i, source := range r.Regex {
		expression, err := regexp.Compile(source)
		switch pointer := fmt.Sprintf("/regex/%d", i); {
		case err != nil:
			refuse(pointer, "%v", err)
		case expression.MatchString(""):
			refuse(pointer, "%q matches the empty text, so it would be everywhere", source)
		default:
			r.finders = append(r.finders, regexFinder(expression))
		}
	}
	if len(r.Patterns)+len(r.Regex) == 0 {
		refuse("", "nothing to redact; give patterns or regex")
	}
	if r.Hash && r.Salt == "" {
		refuse("/hash", "needs a salt: without one, whoever can read the hashes can find out what they were made of")
	}
	if !r.Hash && r.Salt != "" {
		refuse("/salt", "has no effect without hash = true")
	}
	if r.Hash && r.Replacement != defaultReplacement {
		refuse("/replacement", "excludes hash = true")
	}
	return errors.Join(wrong...)
}

// Columns is the value alone.
func (*Redact) Columns() sdk.Columns {
	return sdk.Columns{Reads: sdk.ColumnValue, Writes: sdk.ColumnValue}
}

// MayDrop says that every record goes on.
func (*Redact) MayDrop() bool { return false }

// Deterministic says that equal values become equal ones.
func (*Redact) Deterministic() bool { return true }

// Concurrent says that batches share nothing.
func (*Redact) Concurrent() bool { return true }

// OnSend redacts the values of a batch.
func (r *Redact) OnSend(_ context.Context, b *sdk.Batch) error {
	e := newEraser(r)
	var buffer []byte
	for i := range b.Len() {
		switch b.ValueKind(i) {
		case sdk.KindBytes:
			var found bool
			if buffer, found = e.redact(buffer[:0], b.Value(i)); found {
				b.SetValue(i, buffer)
			}
		case sdk.KindObject:
			out, found, err := object.MapStrings(buffer[:0], b.Value(i), e.redact)
			buffer = out
			if err != nil {
				b.Fail(i, sdk.Errorf(codeObject, "the value can't be searched: %w", err))
				continue
			}
			if !found {
				continue
			}
			if err := b.SetObject(i, msgpack.RawMessage(out)); err != nil {
				return err
			}
		}
	}
	return nil
}
