package wire

import (
	"encoding/binary"
	"math"
	"strings"

	"github.com/barnabas-agent/barnabas/core/record"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// topicReplacement replaces topics.
type topicReplacement struct {
	replacedRows
	column  *wirev1.TopicColumn
	allowed []bool // per topic of the reply's dictionary
}

func (t *topicReplacement) check(a *application, m *wirev1.TopicChange) error {
	if m == nil {
		return nil
	}
	if err := t.replacedRows.check(a, m.Rows, ColumnTopic); err != nil {
		return err
	}
	column := m.Topic
	if column == nil {
		column = &wirev1.TopicColumn{}
	}
	if len(column.Topics) > max(t.length(), 1) {
		return ruleErrorf("topic", "%d topics for %d records", len(column.Topics), t.length())
	}
	if t.length() > 0 {
		if err := checkTopicIndex(column, t.length()); err != nil {
			return ruleErrorf("column.range", "%v", err)
		}
	}
	if len(a.batch.Topics)+len(column.Topics) > math.MaxUint16 {
		return ruleErrorf("topic", "the batch holds %d topics, and the reply adds %d", len(a.batch.Topics), len(column.Topics))
	}
	t.column = column
	t.allowed = make([]bool, len(column.Topics))
	for i, topic := range column.Topics {
		t.allowed[i] = ValidTopic(topic) && (a.rules.AllowTopic == nil || a.rules.AllowTopic(topic))
	}
	return nil
}

// topic returns the number of the n-th cell's topic in the reply's dictionary.
func (t *topicReplacement) topic(n int) int {
	if len(t.column.Index) == 0 {
		return 0
	}
	return int(binary.LittleEndian.Uint16(t.column.Index[2*n:]))
}

// apply adds the topics that kept records use to the batch's own dictionary.
func (t *topicReplacement) apply(a *application) {
	if t.length() == 0 {
		return
	}
	b := a.batch
	known := make(map[string]uint16, len(b.Topics)+len(t.column.Topics))
	for i, topic := range b.Topics {
		known[topic] = uint16(i)
	}
	if b.TopicIndex == nil {
		b.TopicIndex = make([]uint16, b.Rows())
	}
	for n := range t.length() {
		i := t.record(n)
		if a.verdicts[i] != record.Keep {
			continue
		}
		topic := t.column.Topics[t.topic(n)]
		number, ok := known[topic]
		if !ok {
			own := strings.Clone(topic)
			number = uint16(len(b.Topics))
			b.Topics = append(b.Topics, own)
			known[own] = number
		}
		b.TopicIndex[a.rows[i]] = number
	}
}

// maxTopicLength is Kafka's: org.apache.kafka.common.internals.Topic.
const maxTopicLength = 249

// ValidTopic reports whether Kafka takes a topic of that name.
func ValidTopic(topic string) bool {
	if topic == "" || topic == "." || topic == ".." || len(topic) > maxTopicLength {
		return false
	}
	for i := range len(topic) {
		if c := topic[i]; !isNameByte(c) {
			return false
		}
	}
	return true
}

// isNameByte reports whether c may stand in a topic or in the code of a failure.
func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}
