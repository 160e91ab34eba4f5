package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// Frame is what a frame says beside its records.
type Frame struct {
	Lane    uint32
	Attempt uint32        // 0 for the first time that the plugin gets this batch
	Timeout time.Duration // how long the host waits for the reply
}

// Encoder turns batches into frames and reuses its memory for the next one: one
// per lane, used by one goroutine.
type Encoder struct {
	grease *rand.Rand // nil: no unknown fields are sent

	frame   wirev1.Batch
	value   columnBuffer
	key     columnBuffer
	headers headerBuffer
	topic   wirev1.TopicColumn
	source  wirev1.SourceColumn
	runs    []wirev1.SourceRun
	numbers numberBuffers
}

// numberBuffers hold the packed columns of numbers.
type numberBuffers struct {
	timestamps, topicIndex, partitions, offsets []byte
}

// NewEncoder returns an encoder. It adds an unknown field to about one frame in
// 64, so that a plugin that chokes on what a later version adds fails early;
// grease is the source of chance and nil means never.
func NewEncoder(grease *rand.Rand) *Encoder { return &Encoder{grease: grease} }

// Encode packs the given columns of the given rows (ascending) of a batch.
// Without rows the frame is a canary. The frame borrows the batch's memory and
// the encoder's own; it is valid until the next Encode and while the batch is
// not changed, which is long enough for a gRPC Send.
//
// A batch that can't fit one frame is an error; its rows may still fit when halved.
func (e *Encoder) Encode(b *record.Batch, rows []uint32, columns ColumnSet, f Frame) (*wirev1.Batch, error) {
	m := &e.frame
	m.Reset()
	m.Id, m.Count = b.ID, uint32(len(rows))
	m.Attempt, m.Lane = f.Attempt, f.Lane
	m.TimeoutMs = uint32(min(max(f.Timeout.Milliseconds(), 0), math.MaxUint32))
	if len(rows) == 0 {
		return m, nil
	}
	if columns.Has(ColumnValue) {
		m.Value = e.value.encode(&b.Value, rows)
	}
	if columns.Has(ColumnKey) {
		m.Key = e.key.encode(&b.Key, rows)
	}
	if columns.Has(ColumnHeaders) {
		m.Headers = e.headers.encode(b, rows)
	}
	e.encodeNumbers(m, b, rows, columns)
	if columns.Has(ColumnTopic) {
		m.Topic = e.encodeTopics(b, rows)
	}
	if columns.Has(ColumnSource) {
		m.Source = e.encodeSource(b, rows)
	}
	e.addGrease(m)
	if n := m.SizeVT(); n > MaxMessageSize {
		return nil, fmt.Errorf("batch %d: %d records make a frame of %d bytes, more than the %d that fit", b.ID, len(rows), n, MaxMessageSize)
	}
	return m, nil
}

func (e *Encoder) encodeNumbers(m *wirev1.Batch, b *record.Batch, rows []uint32, columns ColumnSet) {
	n := &e.numbers
	if columns.Has(ColumnTimestamp) {
		n.timestamps = n.timestamps[:0]
		for _, r := range rows {
			n.timestamps = binary.LittleEndian.AppendUint64(n.timestamps, uint64(b.Timestamps[r]))
		}
		m.Timestamps = n.timestamps
	}
	if columns.Has(ColumnPartition) {
		n.partitions = n.partitions[:0]
		for _, r := range rows {
			n.partitions = binary.LittleEndian.AppendUint32(n.partitions, uint32(b.Partition(int(r))))
		}
		m.Partitions = n.partitions
	}
}

func (e *Encoder) encodeTopics(b *record.Batch, rows []uint32) *wirev1.TopicColumn {
	e.topic.Topics, e.topic.Index = b.Topics, nil
	if b.TopicIndex == nil {
		return &e.topic
	}
	index := e.numbers.topicIndex[:0]
	for _, r := range rows {
		index = binary.LittleEndian.AppendUint16(index, b.TopicIndex[r])
	}
	e.topic.Index, e.numbers.topicIndex = index, index
	return &e.topic
}

func (e *Encoder) encodeSource(b *record.Batch, rows []uint32) *wirev1.SourceColumn {
	e.source.Runs = e.source.Runs[:0]
	if cap(e.runs) < len(b.Runs) {
		e.runs = make([]wirev1.SourceRun, len(b.Runs))
	}
	offsets, next := e.numbers.offsets[:0], 0
	for i := range b.Runs {
		run := &b.Runs[i]
		first := next
		for next < len(rows) && int(rows[next]) < run.First+run.Count {
			offsets = binary.LittleEndian.AppendUint64(offsets, uint64(b.Offsets[rows[next]]))
			next++
		}
		if next == first {
			continue
		}
		origin, to := run.Stream.Origin(), &e.runs[:cap(e.runs)][len(e.source.Runs)]
		to.Count = uint32(next - first)
		to.Kind, to.File = origin.Kind, validText(origin.File)
		to.Peer, to.Host = validText(origin.Peer), validText(origin.Host)
		e.source.Runs = append(e.source.Runs, to)
	}
	e.source.Offsets, e.numbers.offsets = offsets, offsets
	return &e.source
}

// validText returns s as proto3 wants strings: a path may be any bytes, and other
// languages refuse a message with a string that is not UTF-8.
func validText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// greaseOneIn and the field numbers of grease: above every field that the
// protocol is going to use.
const (
	greaseOneIn      = 64
	greaseFirstField = 1000
	greaseFields     = 1000
)

// addGrease gives some frames a field that no version of the protocol has.
func (e *Encoder) addGrease(m *wirev1.Batch) {
	if e.grease == nil || e.grease.IntN(greaseOneIn) != 0 {
		return
	}
	m.ProtoReflect().SetUnknown(greaseField(e.grease))
}
