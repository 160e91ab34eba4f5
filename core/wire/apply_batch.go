package wire

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/barnabas-agent/barnabas/core/record"
)

// The codes of records that the host refuses because of what a plugin made of them.
const (
	CodeTooLarge  = "record.too_large"
	CodeTopic     = "topic.not_allowed"
	CodeHeader    = "header.name"
	CodeTimestamp = "timestamp.invalid"
	CodePartition = "partition.invalid"
)

// refuseByContent fails the records whose new content can't be delivered.
func (a *application) refuseByContent() {
	reported := len(a.failures)
	a.refuseSizes()
	for n := range a.topics.length() {
		if t := a.topics.topic(n); !a.topics.allowed[t] {
			topic := cleanText(a.topics.column.Topics[t], maxTopicLength)
			a.refuse(a.topics.record(n), CodeTopic, "topic %q is not valid or not in allow_topics", topic)
		}
	}
	for n := range a.headers.length() {
		if name, bad := a.headers.badName(n); bad {
			a.refuse(a.headers.record(n), CodeHeader, "header name %q holds a NUL or is not UTF-8", cleanText(name, maxCode))
		}
	}
	for n := range a.timestamps.length() {
		if t := a.timestamps.int64(n); t < 0 {
			a.refuse(a.timestamps.record(n), CodeTimestamp, "timestamp %d is before 1970", t)
		}
	}
	a.refusePartitions()
	if len(a.failures) > reported {
		slices.SortFunc(a.failures, func(x, y record.Failure) int { return int(x.Row) - int(y.Row) })
	}
}

// refusePartitions fails the records whose partition is no number of one. What
// the plugin makes of a record's topic decides which ones there are.
func (a *application) refusePartitions() {
	for n := range a.partitions.length() {
		i, p := a.partitions.record(n), a.partitions.int32(n)
		if p < record.PartitionAny {
			a.refuse(i, CodePartition, "partition %d", p)
			continue
		}
		if a.rules.Partitions == nil || a.topics.length() > 0 {
			continue
		}
		topic := a.batch.Topic(int(a.rows[i]))
		if count, known := a.rules.Partitions(topic); known && p >= count {
			a.refuse(i, CodePartition, "partition %d of topic %q, which has %d", p, topic, count)
		}
	}
}

// refuse fails record i of the frame if it was still to be kept.
func (a *application) refuse(i int, code, format string, args ...any) {
	if a.verdicts[i] == record.Keep {
		a.fail(i, code, fmt.Sprintf(format, args...))
	}
}

// refuseSizes fails the records that grew beyond the limit.
func (a *application) refuseSizes() {
	limit := a.rules.MaxRecord
	if limit <= 0 || a.value.length()+a.key.length()+a.headers.length() == 0 {
		return
	}
	sizes := make([]int, a.count())
	for i, row := range a.rows {
		sizes[i] = a.batch.Size(int(row))
	}
	for n := range a.value.length() {
		i := a.value.record(n)
		sizes[i] += a.value.size(n) - a.batch.Value.Size(int(a.rows[i]))
	}
	for n := range a.key.length() {
		i := a.key.record(n)
		sizes[i] += a.key.size(n) - a.batch.Key.Size(int(a.rows[i]))
	}
	for n := range a.headers.length() {
		i := a.headers.record(n)
		sizes[i] += a.headers.size(n)
		for _, h := range a.batch.RowHeaders(int(a.rows[i])) {
			sizes[i] -= len(h.Name) + len(h.Value)
		}
	}
	for i, size := range sizes {
		if size > limit && a.changed[i] {
			a.refuse(i, CodeTooLarge, "key, value and headers are %d bytes after the plugin, more than %d", size, limit)
		}
	}
}

// apply changes the batch; nothing here can fail.
func (a *application) apply() {
	a.value.apply(a, &a.batch.Value)
	a.key.apply(a, &a.batch.Key)
	a.headers.apply(a)
	for n := range a.timestamps.length() {
		if i := a.timestamps.record(n); a.verdicts[i] == record.Keep {
			a.batch.Timestamps[a.rows[i]] = a.timestamps.int64(n)
		}
	}
	for n := range a.partitions.length() {
		if i := a.partitions.record(n); a.verdicts[i] == record.Keep {
			a.batch.SetPartition(int(a.rows[i]), a.partitions.int32(n))
		}
	}
	a.topics.apply(a)
	a.settle()
}

// settle counts the verdicts and takes dropped and refused rows out of Live.
func (a *application) settle() {
	b, o := a.batch, &a.outcome
	o.Failed = len(a.failures)
	for i, row := range a.rows {
		switch a.verdicts[i] {
		case record.Keep:
			o.Kept++
			if a.changed[i] {
				o.Modified++
			}
		case record.Drop:
			o.Dropped++
			b.Dropped = append(b.Dropped, row)
		}
	}
	if a.rules.Pass {
		o.Passed = a.failures
	} else {
		b.Failures = append(b.Failures, a.failures...)
	}
	if o.Dropped > 0 || o.Failed > 0 && !a.rules.Pass {
		a.removeGone()
	}
}

// removeGone filters Live in place. It writes no further than it has read, so
// rows may be a stretch of Live itself.
func (a *application) removeGone() {
	b, next := a.batch, 0
	kept := b.Live[:0]
	for _, row := range b.Live {
		if next < len(a.rows) && a.rows[next] == row {
			verdict := a.verdicts[next]
			next++
			if verdict == record.Drop || verdict == record.Fail && !a.rules.Pass {
				continue
			}
		}
		kept = append(kept, row)
	}
	b.Live = kept
}

// Failures are shown to people and kept on disk: both parts are bounded, in bytes.
const (
	maxCode    = 64
	maxMessage = 4096 // room for the stack of a panic
)

// cleanCode returns a code that is safe as a label: "invalid" for one that is not.
func cleanCode(code string) string {
	if code == "" || len(code) > maxCode {
		return "invalid"
	}
	for i := range len(code) {
		if !isNameByte(code[i]) {
			return "invalid"
		}
	}
	return strings.Clone(code)
}

// cleanText returns a copy of at most limit bytes of a text that is safe to
// show: valid UTF-8, without control characters other than newline and tab.
func cleanText(text string, limit int) string {
	valid := strings.ToValidUTF8(text[:min(len(text), limit)], "?")
	return strings.Clone(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || !unicode.IsControl(r) {
			return r
		}
		return '?'
	}, valid))
}
