package wire

import (
	"encoding/binary"

	"github.com/barnabas-agent/barnabas/core/record"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// replyPacking is the memory that packed replies reuse.
type replyPacking struct {
	value, key           columnChange
	headers              headerBuffer
	headerRows           []byte
	timestamps, times    []byte
	partitions, chosen   []byte
	topicRows, topicList []byte
}

// columnChange packs one replaced column.
type columnChange struct {
	change wirev1.ColumnChange
	buffer columnBuffer
	rows   []byte
}

// Build returns the reply to the batch of the given id. It borrows the builder's
// memory and is valid until the next Reset.
func (r *ReplyBuilder) Build(id uint64) *wirev1.Reply {
	m := &r.reply
	m.Reset()
	m.Id, m.Count = id, uint32(r.count)
	if len(r.verdicts) > 0 {
		m.Verdicts = r.verdicts
		m.Failures = r.buildFailures()
	}
	m.Value = r.packing.value.build(&r.value, r.count)
	m.Key = r.packing.key.build(&r.key, r.count)
	m.Headers = r.buildHeaders()
	m.Timestamps = r.buildTimestamps()
	m.Topic = r.buildTopics()
	m.Partitions = r.buildPartitions()
	return m
}

func (r *ReplyBuilder) buildFailures() []*wirev1.Failure {
	var failures []*wirev1.Failure
	for i, v := range r.verdicts {
		if record.Verdict(v) == record.Fail {
			why := r.failures[i]
			failures = append(failures, &wirev1.Failure{Row: uint32(i), Code: why.Code, Message: why.Message})
		}
	}
	return failures
}

func (c *columnChange) build(from *columnEdits, count int) *wirev1.ColumnChange {
	if from.changed == 0 {
		return nil
	}
	c.buffer.reset()
	for i := range count {
		if from.touched[i] {
			s := &from.cells[i]
			c.buffer.add(s.offset, s.length, s.kind)
		}
	}
	c.buffer.column.Data = from.data
	c.change.Column = c.buffer.finish()
	c.rows = appendRows(c.rows[:0], from.touched, count, from.changed)
	c.change.Rows = c.rows
	return &c.change
}

func (r *ReplyBuilder) buildHeaders() *wirev1.HeaderChange {
	if r.headers.changed == 0 {
		return nil
	}
	p := &r.packing
	p.headers.reset()
	for i := range r.count {
		if r.headers.touched[i] {
			p.headers.add(r.headers.cells[i])
		}
	}
	p.headerRows = appendRows(p.headerRows[:0], r.headers.touched, r.count, r.headers.changed)
	return &wirev1.HeaderChange{Rows: p.headerRows, Headers: p.headers.finish()}
}

func (r *ReplyBuilder) buildTimestamps() *wirev1.NumberChange {
	if r.timestamps.changed == 0 {
		return nil
	}
	p := &r.packing
	p.times = p.times[:0]
	for i := range r.count {
		if r.timestamps.touched[i] {
			p.times = binary.LittleEndian.AppendUint64(p.times, uint64(r.timestamps.cells[i]))
		}
	}
	p.timestamps = appendRows(p.timestamps[:0], r.timestamps.touched, r.count, r.timestamps.changed)
	return &wirev1.NumberChange{Rows: p.timestamps, Values: p.times}
}

func (r *ReplyBuilder) buildPartitions() *wirev1.NumberChange {
	if r.partitions.changed == 0 {
		return nil
	}
	p := &r.packing
	p.chosen = p.chosen[:0]
	for i := range r.count {
		if r.partitions.touched[i] {
			p.chosen = binary.LittleEndian.AppendUint32(p.chosen, uint32(r.partitions.cells[i]))
		}
	}
	p.partitions = appendRows(p.partitions[:0], r.partitions.touched, r.count, r.partitions.changed)
	return &wirev1.NumberChange{Rows: p.partitions, Values: p.chosen}
}

func (r *ReplyBuilder) buildTopics() *wirev1.TopicChange {
	if r.topics.changed == 0 {
		return nil
	}
	p := &r.packing
	p.topicList = p.topicList[:0]
	column := &wirev1.TopicColumn{}
	index := make(map[string]uint16)
	for i := range r.count {
		if !r.topics.touched[i] {
			continue
		}
		n, ok := index[r.topics.cells[i]]
		if !ok {
			n = uint16(len(column.Topics))
			index[r.topics.cells[i]] = n
			column.Topics = append(column.Topics, r.topics.cells[i])
		}
		p.topicList = binary.LittleEndian.AppendUint16(p.topicList, n)
	}
	column.Index = p.topicList
	p.topicRows = appendRows(p.topicRows[:0], r.topics.touched, r.count, r.topics.changed)
	return &wirev1.TopicChange{Rows: p.topicRows, Topic: column}
}
