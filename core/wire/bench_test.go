package wire_test

import (
	"fmt"
	"testing"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
)

// benchmarkRows is about a batch of the agent's: 512 KiB of records of 200 bytes.
const benchmarkRows = 2600

func benchmarkBatch() *record.Batch {
	rows := make([]row, benchmarkRows)
	for i := range rows {
		rows[i] = row{value: fmt.Appendf(nil, "%0199d", i), topic: "main", partition: -1, origin: record.Origin{File: "/f"}}
	}
	return batchOf(rows, false)
}

// perRecord reports nanoseconds per record.
func perRecord(b *testing.B) {
	b.ReportAllocs()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchmarkRows, "ns/record")
}

func BenchmarkEncode(b *testing.B) {
	batch, codec := benchmarkBatch(), wire.NewCodec(wire.NewBufferPool())
	for _, c := range []struct {
		name    string
		columns wire.ColumnSet
	}{{"value", wire.ColumnValue}, {"key and topic", wire.ColumnKey | wire.ColumnTopic}, {"all", wire.AllColumns}} {
		b.Run(c.name, func(b *testing.B) {
			encoder := wire.NewEncoder(nil)
			for b.Loop() {
				m, err := encoder.Encode(batch, batch.Live, c.columns, wire.Frame{})
				if err != nil {
					b.Fatal(err)
				}
				data, err := codec.Marshal(m)
				if err != nil {
					b.Fatal(err)
				}
				data.Free()
			}
			perRecord(b)
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	batch, codec := benchmarkBatch(), wire.NewCodec(wire.NewBufferPool())
	for _, c := range []struct {
		name    string
		columns wire.ColumnSet
	}{{"value", wire.ColumnValue}, {"all", wire.AllColumns}} {
		b.Run(c.name, func(b *testing.B) {
			m, err := wire.NewEncoder(nil).Encode(batch, batch.Live, c.columns, wire.Frame{})
			if err != nil {
				b.Fatal(err)
			}
			data, err := codec.Marshal(m)
			if err != nil {
				b.Fatal(err)
			}
			var frame wire.BatchFrame
			var view wire.View
			for b.Loop() {
				if err := codec.Unmarshal(data, &frame); err != nil {
					b.Fatal(err)
				}
				if err := view.Decode(&frame.Batch); err != nil {
					b.Fatal(err)
				}
			}
			perRecord(b)
		})
	}
}

// BenchmarkReply is the plugin's side: what is set, made into bytes.
func BenchmarkReply(b *testing.B) {
	codec, value := wire.NewCodec(wire.NewBufferPool()), make([]byte, 200)
	for name, set := range changes(value) {
		b.Run(name, func(b *testing.B) {
			var reply wire.ReplyBuilder
			for b.Loop() {
				reply.Reset(benchmarkRows)
				for i := range benchmarkRows {
					set(&reply, i)
				}
				data, err := codec.Marshal(reply.Build(7))
				if err != nil {
					b.Fatal(err)
				}
				data.Free()
			}
			perRecord(b)
		})
	}
}

// BenchmarkApply is the host's side, decoding included.
func BenchmarkApply(b *testing.B) {
	codec, value := wire.NewCodec(wire.NewBufferPool()), make([]byte, 200)
	rules := wire.Rules{Writes: wire.WritableColumns, MaxRecord: 1 << 20}
	for name, set := range changes(value) {
		b.Run(name, func(b *testing.B) {
			batch := benchmarkBatch()
			var owner record.Batch // resets as the pipeline does, and leaves the batch for the next round
			var reply wire.ReplyBuilder
			reply.Reset(benchmarkRows)
			for i := range benchmarkRows {
				set(&reply, i)
			}
			data, err := codec.Marshal(reply.Build(7))
			if err != nil {
				b.Fatal(err)
			}
			var frame wire.ReplyFrame
			for b.Loop() {
				batch.Value.Blocks = batch.Value.Blocks[:1]
				if err := codec.Unmarshal(data, &frame); err != nil {
					b.Fatal(err)
				}
				outcome, err := wire.ApplyReply(batch, batch.Live, &frame.Reply, rules)
				if err != nil {
					b.Fatal(err)
				}
				if outcome.Adopted > 0 {
					frame.LendTo(&owner)
				}
				owner.Reset()
			}
			perRecord(b)
		})
	}
}

func changes(value []byte) map[string]func(*wire.ReplyBuilder, int) {
	return map[string]func(*wire.ReplyBuilder, int){
		"unmodified":      func(*wire.ReplyBuilder, int) {},
		"all values":      func(r *wire.ReplyBuilder, i int) { r.SetValue(i, value, record.Bytes) },
		"partitions only": func(r *wire.ReplyBuilder, i int) { r.SetPartition(i, int32(i%6)) },
	}
}
