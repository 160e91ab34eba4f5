package wire

import (
	"fmt"

	"github.com/barnabas-agent/barnabas/core/record"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// Rules is what one stage's replies are held to.
type Rules struct {
	Stage        string                  // names the stage in failures
	Writes       ColumnSet               // the columns that a reply may replace
	MayDrop      bool                    // whether a record may be dropped
	AllowObjects bool                    // whether a value or key may become an object
	AllowTopic   func(topic string) bool // nil: every valid topic name
	MaxRecord    int                     // most bytes of key, value and headers of one record; 0: no limit
	// Pass leaves refused records live, as they were before the stage (on_error
	// = "pass"). They are in Outcome.Passed, not in the batch's failures.
	Pass bool
}

// Outcome counts what became of the records of one reply.
type Outcome struct {
	Kept     int // gone on, Modified included
	Modified int // gone on, with at least one column replaced
	Dropped  int
	Failed   int // refused, whether passed on or not
	Passed   []record.Failure
	// Adopted says that the batch now refers to the reply's memory, which must then never be written to again.
	Adopted bool
}

// RuleError says which rule of the protocol a reply breaks: the plugin is broken.
type RuleError struct {
	Rule   string // stable, e.g. "count", "rows", "column.range", "column.undeclared"
	Detail string
}

// Error says the rule and the detail.
func (e *RuleError) Error() string {
	return fmt.Sprintf("reply breaks rule %s: %s", e.Rule, e.Detail)
}

// ApplyReply checks a reply to a frame of the given rows of a batch and applies
// it whole; on an error, always a *RuleError, the batch is as it was. rows must
// be those that were encoded: ascending, and each of them live.
//
// What depends on the content of a record is not the plugin's fault and is no
// RuleError: a record that grew beyond MaxRecord, or whose new topic is not a
// valid or an allowed one, fails alone. A record that fails or is dropped keeps
// its columns as they were before the stage.
func ApplyReply(b *record.Batch, rows []uint32, reply *wirev1.Reply, rules Rules) (Outcome, error) {
	return Outcome{}, &RuleError{Rule: "unapplied", Detail: fmt.Sprintf("batch %d", b.ID)}
}
