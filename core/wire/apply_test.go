package wire_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// threeRows is a batch of which the rows 0, 2 and 3 are live and sent.
func threeRows() (*record.Batch, []uint32) {
	rows := make([]row, 4)
	for i := range rows {
		rows[i] = row{
			value: fmt.Appendf(nil, "value %d", i), key: []byte("k"), topic: "main", partition: -1,
			headers: []record.Header{{Name: "h", Value: []byte("v")}}, origin: record.Origin{File: "/f"},
		}
	}
	b := batchOf(rows, false)
	b.Live, b.Dropped = []uint32{0, 2, 3}, []uint32{1}
	return b, []uint32{0, 2, 3}
}

// show prints all of a batch.
func show(b *record.Batch) string {
	var s strings.Builder
	fmt.Fprintln(&s, b.ID, b.Live, b.Dropped, b.Failures)
	for i := range b.Rows() {
		fmt.Fprintln(&s, rowOf(b, i))
	}
	return s.String()
}

func numbers32(all ...uint32) (packed []byte) {
	for _, n := range all {
		packed = binary.LittleEndian.AppendUint32(packed, n)
	}
	return packed
}

func numbers64(all ...int64) (packed []byte) {
	for _, n := range all {
		packed = binary.LittleEndian.AppendUint64(packed, uint64(n))
	}
	return packed
}

// column packs three cells of one byte.
func threeCells() *wirev1.Column {
	return &wirev1.Column{Data: []byte("abc"), Offsets: numbers32(0, 1, 2), Lengths: numbers32(1, 1, 1)}
}

func TestReplyThatBreaksARuleChangesNothing(t *testing.T) {
	strict := wire.Rules{Stage: "s", Writes: wire.ColumnValue | wire.ColumnHeaders}
	loose := wire.Rules{Stage: "s", Writes: wire.WritableColumns, MayDrop: true}
	for name, c := range map[string]struct {
		rules wire.Rules
		rule  string
		reply *wirev1.Reply
	}{
		"another batch":     {loose, "id", &wirev1.Reply{Id: 8, Count: 3}},
		"too many records":  {loose, "count", &wirev1.Reply{Id: 7, Count: 4}},
		"too few records":   {loose, "count", &wirev1.Reply{Id: 7, Count: 0}},
		"few verdicts":      {loose, "verdicts", &wirev1.Reply{Id: 7, Count: 3, Verdicts: []byte{0, 0}}},
		"unknown verdict":   {loose, "verdicts", &wirev1.Reply{Id: 7, Count: 3, Verdicts: []byte{0, 3, 0}}},
		"drop not declared": {strict, "drop", &wirev1.Reply{Id: 7, Count: 3, Verdicts: []byte{0, 1, 0}}},
		"fail without why":  {loose, "failures", &wirev1.Reply{Id: 7, Count: 3, Verdicts: []byte{0, 2, 0}}},
		"why without fail":  {loose, "failures", &wirev1.Reply{Id: 7, Count: 3, Failures: []*wirev1.Failure{{Row: 1}}}},
		"why for another": {loose, "failures", &wirev1.Reply{Id: 7, Count: 3, Verdicts: []byte{2, 0, 0},
			Failures: []*wirev1.Failure{{Row: 1}}}},
		"why twice": {loose, "failures", &wirev1.Reply{Id: 7, Count: 3, Verdicts: []byte{2, 2, 0},
			Failures: []*wirev1.Failure{{Row: 0}, {Row: 0}}}},
		"why out of range": {loose, "failures", &wirev1.Reply{Id: 7, Count: 3, Verdicts: []byte{2, 0, 0},
			Failures: []*wirev1.Failure{{Row: 1 << 31}}}},
		"column not declared": {strict, "column.undeclared", &wirev1.Reply{Id: 7, Count: 3,
			Key: &wirev1.ColumnChange{Column: threeCells()}}},
		"timestamps not declared": {strict, "column.undeclared", &wirev1.Reply{Id: 7, Count: 3,
			Timestamps: &wirev1.NumberChange{Values: numbers64(1, 2, 3)}}},
		"topics not declared": {strict, "column.undeclared", &wirev1.Reply{Id: 7, Count: 3,
			Topic: &wirev1.TopicChange{Topic: &wirev1.TopicColumn{Topics: []string{"x"}}}}},
		"no column": {loose, "column.range", &wirev1.Reply{Id: 7, Count: 3, Value: &wirev1.ColumnChange{}}},
		"bytes behind the data": {loose, "column.range", &wirev1.Reply{Id: 7, Count: 3, Value: &wirev1.ColumnChange{
			Column: &wirev1.Column{Data: []byte("abc"), Offsets: numbers32(0, 1, 2), Lengths: numbers32(1, 1, 2)}}}},
		"offset and length overflow": {loose, "column.range", &wirev1.Reply{Id: 7, Count: 3, Value: &wirev1.ColumnChange{
			Column: &wirev1.Column{Data: []byte("abc"), Offsets: numbers32(0, 1, 0xffffffff), Lengths: numbers32(1, 1, 2)}}}},
		"few lengths": {loose, "column.range", &wirev1.Reply{Id: 7, Count: 3, Value: &wirev1.ColumnChange{
			Column: &wirev1.Column{Data: []byte("abc"), Offsets: numbers32(0, 1, 2), Lengths: numbers32(1, 1)}}}},
		"object not allowed": {loose, "column.range", &wirev1.Reply{Id: 7, Count: 3, Value: &wirev1.ColumnChange{
			Column: &wirev1.Column{Data: []byte("abc"), Offsets: numbers32(0, 1, 2), Lengths: numbers32(1, 1, 1), Kinds: []byte{0, 2, 0}}}}},
		"rows not ascending": {loose, "rows", &wirev1.Reply{Id: 7, Count: 3,
			Value: &wirev1.ColumnChange{Rows: numbers32(2, 1, 0), Column: threeCells()}}},
		"row twice": {loose, "rows", &wirev1.Reply{Id: 7, Count: 3,
			Value: &wirev1.ColumnChange{Rows: numbers32(0, 1, 1), Column: threeCells()}}},
		"row out of range": {loose, "rows", &wirev1.Reply{Id: 7, Count: 3,
			Value: &wirev1.ColumnChange{Rows: numbers32(0, 1, 3), Column: threeCells()}}},
		"rows torn": {loose, "rows", &wirev1.Reply{Id: 7, Count: 3,
			Value: &wirev1.ColumnChange{Rows: []byte{0, 0, 0}, Column: threeCells()}}},
		"header counts": {loose, "column.range", &wirev1.Reply{Id: 7, Count: 3, Headers: &wirev1.HeaderChange{
			Headers: &wirev1.HeaderColumn{Counts: numbers32(1, 1, 0xffffffff)}}}},
		"header names null": {loose, "column.range", &wirev1.Reply{Id: 7, Count: 3, Headers: &wirev1.HeaderChange{
			Headers: &wirev1.HeaderColumn{Counts: numbers32(1, 0, 0),
				Names:  &wirev1.Column{Offsets: numbers32(0), Lengths: numbers32(0), Kinds: []byte{1}},
				Values: &wirev1.Column{Offsets: numbers32(0), Lengths: numbers32(0)}}}}},
		"few timestamps": {loose, "column.range", &wirev1.Reply{Id: 7, Count: 3,
			Timestamps: &wirev1.NumberChange{Values: numbers64(1, 2)}}},
		"no topics": {loose, "column.range", &wirev1.Reply{Id: 7, Count: 3, Topic: &wirev1.TopicChange{}}},
		"topic index": {loose, "column.range", &wirev1.Reply{Id: 7, Count: 3, Topic: &wirev1.TopicChange{
			Topic: &wirev1.TopicColumn{Topics: []string{"a"}, Index: []byte{0, 0, 1, 0, 0, 0}}}}},
		"more topics than records": {loose, "topic", &wirev1.Reply{Id: 7, Count: 3, Topic: &wirev1.TopicChange{
			Topic: &wirev1.TopicColumn{Topics: make([]string, 1000)}}}},
		"good parts before a bad one": {loose, "column.range", &wirev1.Reply{Id: 7, Count: 3, Verdicts: []byte{1, 0, 0},
			Value: &wirev1.ColumnChange{Column: threeCells()}, Partitions: &wirev1.NumberChange{Values: numbers32(0, 0)}}},
	} {
		t.Run(name, func(t *testing.T) {
			b, sent := threeRows()
			before := show(b)
			_, err := wire.ApplyReply(b, sent, c.reply, c.rules)
			broken, ok := errors.AsType[*wire.RuleError](err)
			if !ok || broken.Rule != c.rule {
				t.Errorf("got %v, want a break of rule %q", err, c.rule)
			}
			if after := show(b); after != before {
				t.Errorf("the batch changed:\n%s\nwas\n%s", after, before)
			}
		})
	}
}

func TestRecordThatTheAgentCannotTakeFailsAlone(t *testing.T) {
	rules := wire.Rules{
		Stage: "s", Writes: wire.WritableColumns, MaxRecord: 20,
		AllowTopic: func(topic string) bool { return topic == "main" || topic == "allowed" },
		Partitions: func(topic string) (int32, bool) { return 3, topic == "main" },
	}
	large := &wirev1.Column{Data: make([]byte, 100), Offsets: numbers32(0, 0, 0), Lengths: numbers32(17, 18, 1)}
	for name, c := range map[string]struct {
		code  string
		reply *wirev1.Reply
	}{
		"record too large": {wire.CodeTooLarge, &wirev1.Reply{Value: &wirev1.ColumnChange{Column: large}}},
		"headers too large": {wire.CodeTooLarge, &wirev1.Reply{Headers: &wirev1.HeaderChange{Rows: numbers32(1),
			Headers: &wirev1.HeaderColumn{Counts: numbers32(1),
				Names:  &wirev1.Column{Data: []byte("0123456789ABC"), Offsets: numbers32(0), Lengths: numbers32(13)},
				Values: &wirev1.Column{Offsets: numbers32(0), Lengths: numbers32(0)}}}}},
		"topic not allowed": {wire.CodeTopic, &wirev1.Reply{Topic: &wirev1.TopicChange{
			Topic: &wirev1.TopicColumn{Topics: []string{"allowed", "other"}, Index: []byte{0, 0, 1, 0, 0, 0}}}}},
		"header name": {wire.CodeHeader, &wirev1.Reply{Headers: &wirev1.HeaderChange{Rows: numbers32(1),
			Headers: &wirev1.HeaderColumn{Counts: numbers32(1),
				Names:  &wirev1.Column{Data: []byte("a\x00b"), Offsets: numbers32(0), Lengths: numbers32(3)},
				Values: &wirev1.Column{Offsets: numbers32(0), Lengths: numbers32(0)}}}}},
		"partition below any":            {wire.CodePartition, &wirev1.Reply{Partitions: &wirev1.NumberChange{Values: numbers32(0, 0xfffffffe, 0)}}},
		"partition that the topic lacks": {wire.CodePartition, &wirev1.Reply{Partitions: &wirev1.NumberChange{Values: numbers32(2, 3, 0xffffffff)}}},
		"timestamp":                      {wire.CodeTimestamp, &wirev1.Reply{Timestamps: &wirev1.NumberChange{Values: numbers64(1, -1, 0)}}},
	} {
		t.Run(name, func(t *testing.T) {
			b, sent := threeRows()
			before := rowOf(b, 2).String()
			c.reply.Id, c.reply.Count = 7, 3
			outcome, err := wire.ApplyReply(b, sent, c.reply, rules)
			if err != nil {
				t.Fatal(err)
			}
			if outcome.Failed != 1 || outcome.Kept != 2 || fmt.Sprint(b.Live) != "[0 3]" {
				t.Fatalf("outcome %+v, live %v", outcome, b.Live)
			}
			if f := b.Failures[0]; f.Row != 2 || f.Code != c.code || f.Stage != "s" || f.Message == "" {
				t.Errorf("failure %+v, want row 2 and code %s", f, c.code)
			}
			if after := rowOf(b, 2).String(); after != before {
				t.Errorf("the refused record is\n%s, was\n%s", after, before)
			}
		})
	}
}

func TestFailuresAreMadeSafeToShow(t *testing.T) {
	b, sent := threeRows()
	reply := &wirev1.Reply{Id: 7, Count: 3, Verdicts: []byte{2, 2, 2}, Failures: []*wirev1.Failure{
		{Row: 0, Code: "good.code-1_x", Message: "line\n\tindented \x1b[31mred\x00 \xff"},
		{Row: 1, Code: "bad code\n", Message: strings.Repeat("é", 5000)},
		{Row: 2, Code: strings.Repeat("x", 65), Message: ""},
	}}
	if _, err := wire.ApplyReply(b, sent, reply, wire.Rules{}); err != nil {
		t.Fatal(err)
	}
	if f := b.Failures[0]; f.Code != "good.code-1_x" || f.Message != "line\n\tindented ?[31mred? ?" {
		t.Errorf("first failure: code %q, message %q", f.Code, f.Message)
	}
	if f := b.Failures[1]; f.Code != "invalid" || len(f.Message) > 4096 {
		t.Errorf("second failure: code %q, %d bytes of message", f.Code, len(f.Message))
	}
	if f := b.Failures[2]; f.Code != "invalid" {
		t.Errorf("third failure %+v", f)
	}
}

func TestRetryLaterUsesNothingOfTheReply(t *testing.T) {
	b, sent := threeRows()
	before := show(b)
	reply := &wirev1.Reply{Id: 7, Count: 3, Verdicts: []byte{1, 1, 1}, RetryLater: &wirev1.RetryLater{Reason: "registry\x1b away", AfterMs: 1500}}
	_, err := wire.ApplyReply(b, sent, reply, wire.Rules{MayDrop: true})
	retry, ok := errors.AsType[*wire.RetryError](err)
	if !ok || retry.After != 1500*time.Millisecond || retry.Reason != "registry? away" {
		t.Errorf("got %+v", err)
	}
	if after := show(b); after != before {
		t.Errorf("the batch changed:\n%s\nwas\n%s", after, before)
	}
}

func TestHalvesOfABatchApplyOneAfterTheOther(t *testing.T) {
	b, _ := threeRows()
	first, second := []uint32{0}, []uint32{2, 3}
	apply := func(rows []uint32, build func(*wire.ReplyBuilder)) {
		t.Helper()
		var reply wire.ReplyBuilder
		reply.Reset(len(rows))
		build(&reply)
		if _, err := wire.ApplyReply(b, rows, reply.Build(7), wire.Rules{Writes: wire.ColumnValue, MayDrop: true}); err != nil {
			t.Fatal(err)
		}
	}
	apply(first, func(r *wire.ReplyBuilder) { r.SetValue(0, []byte("first"), record.Bytes) })
	apply(second, func(r *wire.ReplyBuilder) {
		r.SetValue(1, []byte("second"), record.Bytes)
		r.Drop(0)
	})
	if fmt.Sprint(b.Live, b.Dropped) != "[0 3] [1 2]" {
		t.Errorf("live %v, dropped %v", b.Live, b.Dropped)
	}
	if got := string(b.Value.Bytes(0)) + " " + string(b.Value.Bytes(3)); got != "first second" {
		t.Errorf("values %q", got)
	}
}

func TestValidTopic(t *testing.T) {
	for topic, want := range map[string]bool{
		"a": true, "A.b_c-9": true, strings.Repeat("x", 249): true,
		"": false, ".": false, "..": false, "a b": false, "a/b": false, "é": false, "a\x00": false, strings.Repeat("x", 250): false,
	} {
		if got := wire.ValidTopic(topic); got != want {
			t.Errorf("ValidTopic(%q) = %v", topic, got)
		}
	}
}
