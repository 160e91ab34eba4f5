package wire

import (
	"fmt"
	"time"

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
	// Partitions says how many partitions a topic has, where that is known; nil:
	// it is not, and whoever produces the record finds out.
	Partitions func(topic string) (count int32, known bool)
	MaxRecord  int // most bytes of key, value and headers of one record; 0: no limit
	// Pass leaves refused records live, as they were before the stage (on_error
	// = "pass"). They are in Outcome.Passed, not in the batch's failures.
	Pass bool
	// Block applies nothing of a reply in which a record is refused, whoever
	// refuses it (on_error = "block"): ApplyReply returns a *RefusedError.
	Block bool
}

// Outcome counts what became of the records of one reply.
type Outcome struct {
	Kept     int // gone on, Modified included
	Modified int // gone on, with at least one column replaced
	Dropped  int
	Failed   int              // refused, whether passed on or not
	Passed   []record.Failure // with Rules.Pass, what was refused
	// Adopted is how many bytes of the reply's memory the batch now refers to.
	// Unless it is 0, that memory must never be written to again.
	Adopted int
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

func ruleErrorf(rule, format string, args ...any) *RuleError {
	return &RuleError{Rule: rule, Detail: fmt.Sprintf(format, args...)}
}

// RetryError says that the plugin asks for the same batch later: something it
// needs is away. It is neither a crash nor a broken rule.
type RetryError struct {
	Reason string        // for people, made safe to log
	After  time.Duration // 0: the host's own backoff
}

// Error says the reason.
func (e *RetryError) Error() string { return "plugin asks to retry later: " + e.Reason }

// RefusedError says, under Rules.Block, which records are refused.
type RefusedError struct {
	Failures []record.Failure // at least one
}

// Error says how many records are refused, and why the first one is.
func (e *RefusedError) Error() string {
	first := e.Failures[0]
	return fmt.Sprintf("%d records are refused, the first with %s: %s", len(e.Failures), first.Code, first.Message)
}

// ApplyReply checks a reply to a frame of the given rows of a batch and applies
// it whole; on an error, a *RuleError, a *RetryError or a *RefusedError, the batch is as it was.
// rows must be those that were encoded: ascending, and each of them live. Where
// rows is a stretch of b.Live itself, its content is undefined afterwards.
//
// What depends on the content of a record is not the plugin's fault and breaks
// no rule: a record that grew beyond MaxRecord, or whose new topic, partition,
// header name or timestamp Kafka or the configuration does not take, fails alone. A record
// that fails or is dropped keeps its columns as they were before the stage.
func ApplyReply(b *record.Batch, rows []uint32, reply *wirev1.Reply, rules Rules) (Outcome, error) {
	a := application{batch: b, rows: rows, rules: &rules}
	if err := a.checkFrame(reply); err != nil {
		return Outcome{}, err
	}
	if retry := reply.RetryLater; retry != nil {
		return Outcome{}, &RetryError{Reason: cleanText(retry.Reason, maxMessage), After: time.Duration(retry.AfterMs) * time.Millisecond}
	}
	if err := a.check(reply); err != nil {
		return Outcome{}, err
	}
	a.refuseByContent()
	if rules.Block && len(a.failures) > 0 {
		return Outcome{}, &RefusedError{Failures: a.failures}
	}
	a.apply()
	return a.outcome, nil
}

// application is one reply on its way into a batch: checked whole first, then applied.
type application struct {
	batch *record.Batch
	rows  []uint32 // row of the batch, per record of the frame
	rules *Rules

	verdicts [record.MaxRows]record.Verdict // per record of the frame
	changed  [record.MaxRows]bool           // whether a column of the record is replaced
	failures []record.Failure               // ascending, with rows of the batch

	value, key columnReplacement
	headers    headerReplacement
	timestamps numberReplacement
	partitions numberReplacement
	topics     topicReplacement

	outcome Outcome
}

func (a *application) count() int { return len(a.rows) }

func (a *application) checkFrame(m *wirev1.Reply) error {
	if m.Id != a.batch.ID {
		return ruleErrorf("id", "batch %d was sent, the reply is to %d", a.batch.ID, m.Id)
	}
	if int64(m.Count) != int64(a.count()) {
		return ruleErrorf("count", "%d records were sent, the reply is about %d", a.count(), m.Count)
	}
	if a.count() > record.MaxRows {
		return ruleErrorf("count", "%d records, more than %d", a.count(), record.MaxRows)
	}
	return nil
}

// check reads every part of the reply without touching the batch.
func (a *application) check(m *wirev1.Reply) error {
	if err := a.checkVerdicts(m); err != nil {
		return err
	}
	if err := a.value.check(a, m.Value, &a.batch.Value, ColumnValue); err != nil {
		return err
	}
	if err := a.key.check(a, m.Key, &a.batch.Key, ColumnKey); err != nil {
		return err
	}
	if err := a.headers.check(a, m.Headers); err != nil {
		return err
	}
	if err := a.timestamps.check(a, m.Timestamps, 8, ColumnTimestamp); err != nil {
		return err
	}
	if err := a.partitions.check(a, m.Partitions, 4, ColumnPartition); err != nil {
		return err
	}
	return a.topics.check(a, m.Topic)
}

func (a *application) checkVerdicts(m *wirev1.Reply) error {
	if len(m.Verdicts) != 0 && len(m.Verdicts) != a.count() {
		return ruleErrorf("verdicts", "%d verdicts for %d records", len(m.Verdicts), a.count())
	}
	failed := 0
	for i, v := range m.Verdicts {
		switch verdict := record.Verdict(v); {
		case verdict > record.Fail:
			return ruleErrorf("verdicts", "record %d: verdict %d", i, v)
		case verdict == record.Drop && !a.rules.MayDrop:
			return ruleErrorf("drop", "record %d is dropped by a plugin that does not say that it may", i)
		case verdict == record.Fail:
			failed++
		}
		a.verdicts[i] = record.Verdict(v)
	}
	if failed != len(m.Failures) {
		return ruleErrorf("failures", "%d records are refused and %d failures say why", failed, len(m.Failures))
	}
	return a.checkFailures(m.Failures)
}

func (a *application) checkFailures(failures []*wirev1.Failure) error {
	next := uint32(0)
	for _, f := range failures {
		if f.Row < next || int64(f.Row) >= int64(a.count()) {
			return ruleErrorf("failures", "row %d of %d, not ascending or out of range", f.Row, a.count())
		}
		if a.verdicts[f.Row] != record.Fail {
			return ruleErrorf("failures", "a failure of record %d, which is %s", f.Row, a.verdicts[f.Row])
		}
		next = f.Row + 1
		a.fail(int(f.Row), cleanCode(f.Code), cleanText(f.Message, maxMessage))
	}
	return nil
}

// fail notes a refusal of record i of the frame.
func (a *application) fail(i int, code, message string) {
	a.verdicts[i] = record.Fail
	a.failures = append(a.failures, record.Failure{
		Row: a.rows[i], Stage: a.rules.Stage, Code: code, Message: message,
	})
}
