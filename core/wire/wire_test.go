package wire_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stream is a source of records.
type stream struct{ origin record.Origin }

func (s *stream) Origin() record.Origin { return s.origin }
func (*stream) Delivered(int64)         {}

// row is what a test expects of one record.
type row struct {
	value, key []byte // nil: null
	valueKind  record.Kind
	headers    []record.Header
	timestamp  int64
	topic      string
	partition  int32
	origin     record.Origin
	offset     int64
}

// batchOf lays rows out the way sources and earlier stages do: the values in one
// block, in order, with gaps, or scattered over blocks.
func batchOf(rows []row, scattered bool) *record.Batch {
	b := &record.Batch{ID: 7, Topics: []string{"main"}}
	b.Value.AddBlock([]byte("head"))
	var last *stream
	for _, r := range rows {
		if last == nil || last.origin != r.origin {
			last = &stream{origin: r.origin}
		}
		span := record.Span{Kind: record.Null}
		if r.value != nil {
			if scattered {
				b.Value.AddBlock(nil)
			}
			block := len(b.Value.Blocks) - 1
			span = record.Span{Block: uint16(block), Offset: uint32(len(b.Value.Blocks[block])), Length: uint32(len(r.value)), Kind: r.valueKind}
			b.Value.Blocks[block] = append(append(b.Value.Blocks[block], r.value...), '\n')
		}
		b.Append(last, span, r.timestamp, r.offset, r.offset+1)
	}
	for i, r := range rows {
		if r.key != nil {
			block := b.Key.AddBlock(r.key)
			b.Key.Set(len(rows), i, record.Span{Block: block, Length: uint32(len(r.key))})
		}
		if r.headers != nil {
			b.SetHeaders(i, r.headers)
		}
		b.SetTopic(i, r.topic)
		if r.partition != record.PartitionAny {
			b.SetPartition(i, r.partition)
		}
	}
	return b
}

// rowOf reads a row of a batch back.
func rowOf(b *record.Batch, i int) row {
	return row{
		value: b.Value.Bytes(i), valueKind: b.Value.Kind(i), key: b.Key.Bytes(i),
		headers: b.RowHeaders(i), timestamp: b.Timestamps[i], topic: b.Topic(i), partition: b.Partition(i),
		origin: b.RunOf(i).Stream.Origin(), offset: b.Offsets[i],
	}
}

// String shows all of a row, and tells null from empty.
func (r row) String() string {
	headers := ""
	for _, h := range r.headers {
		headers += fmt.Sprintf("%q=%#v ", h.Name, h.Value)
	}
	return fmt.Sprintf("value %s %#v key %#v headers %s time %d topic %s partition %d from %+v at %d",
		r.valueKind, r.value, r.key, headers, r.timestamp, r.topic, r.partition, r.origin, r.offset)
}

func drawBytes(t *rapid.T, label string) []byte {
	if rapid.IntRange(0, 4).Draw(t, label+" null") == 0 {
		return nil
	}
	return rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, label)
}

func drawHeaders(t *rapid.T) []record.Header {
	var headers []record.Header
	for range rapid.IntRange(0, 3).Draw(t, "headers") {
		headers = append(headers, record.Header{
			Name: rapid.SampledFrom([]string{"a", "b", "", "é"}).Draw(t, "header name"), Value: drawBytes(t, "header value"),
		})
	}
	return headers
}

func drawRow(t *rapid.T) row {
	r := row{
		value: drawBytes(t, "value"), key: drawBytes(t, "key"), headers: drawHeaders(t),
		timestamp: rapid.Int64Range(0, 1<<60).Draw(t, "timestamp"),
		topic:     rapid.SampledFrom([]string{"main", "other", "third"}).Draw(t, "topic"),
		partition: rapid.Int32Range(-1, 5).Draw(t, "partition"),
		origin:    record.Origin{Kind: "file", File: rapid.SampledFrom([]string{"/a", "/b"}).Draw(t, "file"), Host: "h"},
		offset:    rapid.Int64Range(0, 1<<60).Draw(t, "offset"),
	}
	if r.value == nil {
		r.valueKind = record.Null
	} else if rapid.Bool().Draw(t, "object") {
		r.valueKind = record.Object
	}
	return r
}

// drawRows also chooses which of them are sent.
func drawRows(t *rapid.T) (rows []row, sent []uint32) {
	rows = rapid.SliceOfN(rapid.Custom(drawRow), 1, 12).Draw(t, "rows")
	for i := range rows {
		if rapid.IntRange(0, 3).Draw(t, "sent") > 0 {
			sent = append(sent, uint32(i))
		}
	}
	return rows, sent
}

// overTheWire encodes a message with the codec and decodes it into a frame.
func overTheWire(t interface{ Fatalf(string, ...any) }, codec *wire.Codec, from, to any) {
	data, err := codec.Marshal(from)
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	defer data.Free()
	if err := codec.Unmarshal(data, to); err != nil {
		t.Fatalf("unmarshal: %v", err)
	}
}

func TestPluginSeesTheRowsThatWereSent(t *testing.T) {
	codec := wire.NewCodec(wire.NewBufferPool())
	encoder := wire.NewEncoder(rand.New(rand.NewPCG(1, 2)))
	var frame wire.BatchFrame
	var view wire.View
	rapid.Check(t, func(t *rapid.T) {
		rows, sent := drawRows(t)
		columns := wire.ColumnSet(rapid.IntRange(0, int(wire.AllColumns)).Draw(t, "columns"))
		b := batchOf(rows, rapid.Bool().Draw(t, "scattered"))
		message, err := encoder.Encode(b, sent, columns, wire.Frame{Lane: 3, Attempt: 1})
		if err != nil {
			t.Fatal(err)
		}
		overTheWire(t, codec, message, &frame)
		if err := view.Decode(&frame.Batch); err != nil {
			t.Fatal(err)
		}
		if view.Count() != len(sent) {
			t.Fatalf("%d records, want %d", view.Count(), len(sent))
		}
		if len(sent) > 0 && view.Columns() != columns {
			t.Fatalf("columns %s, want %s", view.Columns(), columns)
		}
		for i, r := range sent {
			if got, want := viewed(&view, i), projected(rows[r], columns); got.String() != want.String() {
				t.Fatalf("record %d:\n got %s\nwant %s", i, got, want)
			}
		}
	})
}

// viewed reads the columns that a view has.
func viewed(v *wire.View, i int) row {
	r := row{}
	if v.Columns().Has(wire.ColumnValue) {
		r.value, r.valueKind = v.Value().Bytes(i), v.Value().Kind(i)
	}
	if v.Columns().Has(wire.ColumnKey) {
		r.key = v.Key().Bytes(i)
	}
	if v.Columns().Has(wire.ColumnHeaders) {
		r.headers = v.Headers(i)
	}
	if v.Columns().Has(wire.ColumnTimestamp) {
		r.timestamp = v.Timestamp(i)
	}
	if v.Columns().Has(wire.ColumnTopic) {
		r.topic = v.Topic(i)
	}
	if v.Columns().Has(wire.ColumnPartition) {
		r.partition = v.Partition(i)
	}
	if v.Columns().Has(wire.ColumnSource) {
		r.origin, r.offset = v.Origin(i)
	}
	return r
}

// projected leaves out what is not in the columns.
func projected(from row, columns wire.ColumnSet) row {
	r := row{}
	if columns.Has(wire.ColumnValue) {
		r.value, r.valueKind = from.value, from.valueKind
	}
	if columns.Has(wire.ColumnKey) {
		r.key = from.key
	}
	if columns.Has(wire.ColumnHeaders) {
		r.headers = from.headers
	}
	if columns.Has(wire.ColumnTimestamp) {
		r.timestamp = from.timestamp
	}
	if columns.Has(wire.ColumnTopic) {
		r.topic = from.topic
	}
	if columns.Has(wire.ColumnPartition) {
		r.partition = from.partition
	}
	if columns.Has(wire.ColumnSource) {
		r.origin, r.offset = from.origin, from.offset
	}
	return r
}

// model plays a plugin on rows and on a reply at once.
type model struct {
	rows     []row // as the batch should be afterwards
	sent     []uint32
	verdicts []record.Verdict
	reply    wire.ReplyBuilder
}

// change makes one random change to one record.
func (m *model) change(t *rapid.T) {
	if len(m.sent) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.sent)-1).Draw(t, "record")
	r := &m.rows[m.sent[i]]
	switch rapid.IntRange(0, 7).Draw(t, "change") {
	case 0:
		r.value = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "new value")
		r.valueKind = rapid.SampledFrom([]record.Kind{record.Bytes, record.Object}).Draw(t, "kind")
		m.reply.SetValue(i, r.value, r.valueKind)
	case 1:
		r.value, r.valueKind = nil, record.Null
		m.reply.SetValue(i, []byte("ignored"), record.Null)
	case 2:
		r.key = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "new key")
		m.reply.SetKey(i, r.key, record.Bytes)
	case 3:
		r.headers = drawHeaders(t)
		m.reply.SetHeaders(i, r.headers)
	case 4:
		r.timestamp = rapid.Int64Range(0, 1<<60).Draw(t, "new timestamp")
		m.reply.SetTimestamp(i, r.timestamp)
	case 5:
		r.topic = rapid.SampledFrom([]string{"main", "new", "newer"}).Draw(t, "new topic")
		m.reply.SetTopic(i, r.topic)
	case 6:
		r.partition = rapid.Int32Range(-1, 9).Draw(t, "new partition")
		m.reply.SetPartition(i, r.partition)
	case 7:
		m.verdicts[i] = rapid.SampledFrom([]record.Verdict{record.Drop, record.Fail}).Draw(t, "verdict")
	}
}

// decide tells the builder the verdicts, once all changes are made.
func (m *model) decide() {
	for i, v := range m.verdicts {
		switch v {
		case record.Drop:
			m.reply.Drop(i)
		case record.Fail:
			m.reply.Fail(i, wire.Refusal{Code: "test.code", Message: fmt.Sprintf("row %d", m.sent[i])})
		}
	}
}

func TestBatchBecomesWhatThePluginSaid(t *testing.T) {
	codec := wire.NewCodec(wire.NewBufferPool())
	m := &model{}
	rapid.Check(t, func(t *rapid.T) {
		before, sent := drawRows(t)
		m.rows, m.sent = append([]row(nil), before...), sent
		m.verdicts = make([]record.Verdict, len(sent))
		m.reply.Reset(len(sent))
		for range rapid.IntRange(0, 10).Draw(t, "changes") {
			m.change(t)
		}
		m.decide()
		b := batchOf(before, rapid.Bool().Draw(t, "scattered"))
		var frame wire.ReplyFrame
		overTheWire(t, codec, m.reply.Build(b.ID), &frame)
		pass := rapid.Bool().Draw(t, "pass")
		rules := wire.Rules{Stage: "test", Writes: wire.WritableColumns, MayDrop: true, AllowObjects: true, Pass: pass}
		outcome, err := wire.ApplyReply(b, sent, &frame.Reply, rules)
		if err != nil {
			t.Fatal(err)
		}
		checkBatch(t, b, before, m, pass)
		if outcome.Kept+outcome.Dropped+outcome.Failed != len(sent) || outcome.Modified > outcome.Kept {
			t.Fatalf("outcome %+v of %d records", outcome, len(sent))
		}
	})
}

func checkBatch(t *rapid.T, b *record.Batch, before []row, m *model, pass bool) {
	want, verdict := append([]row(nil), m.rows...), make(map[uint32]record.Verdict)
	for i, r := range m.sent {
		if verdict[r] = m.verdicts[i]; verdict[r] != record.Keep {
			want[r] = before[r] // what does not go on stays as it came
		}
	}
	var live, dropped, failed []uint32
	for r := range uint32(len(before)) {
		switch {
		case verdict[r] == record.Drop:
			dropped = append(dropped, r)
			continue
		case verdict[r] == record.Fail && !pass:
			failed = append(failed, r)
			continue
		}
		live = append(live, r)
	}
	var got []uint32
	for _, f := range b.Failures {
		got = append(got, f.Row)
		if f.Stage != "test" || f.Code != "test.code" || f.Message != fmt.Sprintf("row %d", f.Row) {
			t.Fatalf("failure %+v", f)
		}
	}
	if fmt.Sprint(b.Live, b.Dropped, got) != fmt.Sprint(live, dropped, failed) {
		t.Fatalf("live, dropped, failed: %v %v %v, want %v %v %v", b.Live, b.Dropped, got, live, dropped, failed)
	}
	for i := range want {
		if got := rowOf(b, i); got.String() != want[i].String() {
			t.Fatalf("row %d:\n got %s\nwant %s", i, got, want[i])
		}
	}
}

func TestGreaseIsSentAboutOnceIn64Frames(t *testing.T) {
	encoder := wire.NewEncoder(rand.New(rand.NewPCG(3, 4)))
	b := batchOf([]row{{value: []byte("x"), topic: "main"}}, false)
	greased := 0
	const frames = 64 * 100
	for range frames {
		m, err := encoder.Encode(b, b.Live, wire.AllColumns, wire.Frame{})
		if err != nil {
			t.Fatal(err)
		}
		if len(m.ProtoReflect().GetUnknown()) > 0 {
			greased++
		}
	}
	if greased < 60 || greased > 150 {
		t.Errorf("%d of %d frames have an unknown field, want about %d", greased, frames, frames/64)
	}
}

func TestEncoderSendsOneRegionWhereRowsLieInOrder(t *testing.T) {
	rows := make([]row, 100)
	for i := range rows {
		rows[i] = row{value: []byte("0123456789"), topic: "main", partition: -1}
	}
	b := batchOf(rows, false)
	m, err := wire.NewEncoder(nil).Encode(b, b.Live[10:90], wire.ColumnValue, wire.Frame{})
	if err != nil {
		t.Fatal(err)
	}
	if &m.Value.Data[0] != &b.Value.Blocks[0][len("head")+10*11] {
		t.Error("the values were copied, not sent as the region of the block that they lie in")
	}
	if len(m.Value.Data) != 80*11-1 {
		t.Errorf("the region is %d bytes, want %d", len(m.Value.Data), 80*11-1)
	}
	few := []uint32{0, 99}
	if m, err = wire.NewEncoder(nil).Encode(b, few, wire.ColumnValue, wire.Frame{}); err != nil {
		t.Fatal(err)
	}
	if string(m.Value.Data) != "01234567890123456789" {
		t.Errorf("two rows far apart send %d bytes, want their own 20", len(m.Value.Data))
	}
}

func TestPathsThatAreNotUTF8AreMadeSo(t *testing.T) {
	b := batchOf([]row{{value: []byte("x"), topic: "main", origin: record.Origin{File: "/a\xff"}}}, false)
	m, err := wire.NewEncoder(nil).Encode(b, b.Live, wire.ColumnSource, wire.Frame{})
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Source.Runs[0].File; got != "/a\uFFFD" {
		t.Errorf("file %q; other languages refuse a frame with a string that is not UTF-8", got)
	}
}

func TestFrameThatIsTooLargeIsAnError(t *testing.T) {
	b := batchOf([]row{{value: make([]byte, wire.MaxMessageSize), topic: "main"}}, false)
	if _, err := wire.NewEncoder(nil).Encode(b, b.Live, wire.ColumnValue, wire.Frame{}); err == nil {
		t.Error("a frame larger than the limit was made")
	}
	if _, err := wire.NewEncoder(nil).Encode(b, b.Live, wire.ColumnKey, wire.Frame{}); err != nil {
		t.Errorf("a frame without the large column: %v", err)
	}
}
