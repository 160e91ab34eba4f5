package wire_test

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/mem"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// FuzzApplyReply lets a hostile plugin answer: whatever it says, the batch is
// either as it was or whole, and every row of it can be read.
func FuzzApplyReply(f *testing.F) {
	for _, seed := range seedReplies() {
		encoded, err := seed.MarshalVT()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded, uint8(wire.WritableColumns), true)
	}
	codec := wire.NewCodec(wire.NewBufferPool())
	var frame wire.ReplyFrame
	f.Fuzz(func(t *testing.T, encoded []byte, writes uint8, loose bool) {
		if codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(encoded)}, &frame) != nil {
			return
		}
		b, sent := threeRows()
		before := show(b)
		rules := wire.Rules{
			Stage: "s", Writes: wire.ColumnSet(writes), MayDrop: loose, AllowObjects: loose, Pass: !loose, MaxRecord: 100,
		}
		outcome, err := wire.ApplyReply(b, sent, &frame.Reply, rules)
		after := show(b) // reads every row
		if err != nil {
			if after != before {
				t.Fatalf("%v, but the batch changed:\n%s\nwas\n%s", err, after, before)
			}
			return
		}
		checkWhole(t, b, outcome, rules)
	})
}

func checkWhole(t *testing.T, b *record.Batch, outcome wire.Outcome, rules wire.Rules) {
	seen := make([]int, b.Rows())
	for _, rows := range [][]uint32{b.Live, b.Dropped} {
		for _, r := range rows {
			seen[r]++
		}
	}
	for _, f := range b.Failures {
		seen[f.Row]++
	}
	if fmt.Sprint(seen) != "[1 1 1 1]" {
		t.Fatalf("live %v, dropped %v, failures %v: each row must be in one of them", b.Live, b.Dropped, b.Failures)
	}
	if outcome.Kept+outcome.Dropped+outcome.Failed != 3 {
		t.Fatalf("outcome %+v of 3 records", outcome)
	}
	for _, r := range b.Live {
		if i := int(r); b.Size(i) > rules.MaxRecord || !wire.ValidTopic(b.Topic(i)) || b.Partition(i) < -1 || b.Timestamps[i] < 0 {
			t.Fatalf("row %d goes on as %s", i, rowOf(b, i))
		}
	}
}

func seedReplies() []*wirev1.Reply {
	var all wire.ReplyBuilder
	all.Reset(3)
	for i := range 3 {
		all.SetValue(i, []byte("new"), record.Kind(i))
		all.SetKey(i, []byte("new"), record.Bytes)
		all.SetHeaders(i, []record.Header{{Name: "a"}, {Name: "b", Value: []byte("c")}})
		all.SetTimestamp(i, int64(i))
		all.SetTopic(i, fmt.Sprint("topic", i))
		all.SetPartition(i, int32(i))
	}
	var some wire.ReplyBuilder
	some.Reset(3)
	some.SetValue(1, []byte("x"), record.Bytes)
	some.SetTopic(2, "y")
	some.Drop(0)
	some.Fail(2, wire.Refusal{Code: "c", Message: "m"})
	return []*wirev1.Reply{
		{Id: 7, Count: 3}, all.Build(7), some.Build(7),
		{Id: 7, Count: 3, RetryLater: &wirev1.RetryLater{Reason: "r"}},
	}
}

// FuzzDecodeBatch lets anybody write to a plugin: a frame that is accepted can be read to the last byte.
func FuzzDecodeBatch(f *testing.F) {
	b, sent := threeRows()
	for _, columns := range []wire.ColumnSet{0, wire.ColumnKey, wire.AllColumns} {
		m, err := wire.NewEncoder(nil).Encode(b, sent, columns, wire.Frame{})
		if err != nil {
			f.Fatal(err)
		}
		encoded, err := m.MarshalVT()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	codec := wire.NewCodec(wire.NewBufferPool())
	var frame wire.BatchFrame
	var view wire.View
	f.Fuzz(func(t *testing.T, encoded []byte) {
		if codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(encoded)}, &frame) != nil {
			return
		}
		if view.Decode(&frame.Batch) != nil {
			if view.Count() != 0 {
				t.Fatal("a frame that was refused is shown")
			}
			return
		}
		for i := range view.Count() {
			_ = viewed(&view, i).String()
		}
	})
}
