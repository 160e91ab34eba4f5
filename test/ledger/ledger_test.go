package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/barnabas-agent/barnabas/test/kafka/topic"
	"github.com/barnabas-agent/barnabas/test/ledger"
)

const width = 80

// perfect is a topic that holds every line of two files once, in order.
func perfect(counts map[string]int64, partitions int32) []*kgo.Record {
	var records []*kgo.Record
	offsets := make([]int64, partitions)
	for _, file := range []string{"a", "b"} {
		for i := range counts[file] {
			p := int32(i*7+i/5) % partitions
			records = append(records, &kgo.Record{Partition: p, Offset: offsets[p], Value: ledger.AppendLine(nil, file, i, width)})
			offsets[p]++
		}
	}
	return records
}

func check(expected ledger.Expectation, records []*kgo.Record) *ledger.Report {
	checker := ledger.NewChecker(expected)
	for _, r := range records {
		checker.Add(r)
	}
	return checker.Report()
}

func TestPerfectTopicPasses(t *testing.T) {
	counts := map[string]int64{"a": 500, "b": 300}
	if err := check(ledger.Expectation{Files: counts}, perfect(counts, 6)).Err(0); err != nil {
		t.Fatal(err)
	}
}

// TestEveryFaultIsCounted puts faults into a perfect topic and wants each of
// them, and nothing else, in the report.
func TestEveryFaultIsCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := map[string]int64{"a": rapid.Int64Range(2, 60).Draw(t, "a"), "b": rapid.Int64Range(0, 20).Draw(t, "b")}
		records := perfect(counts, 1)
		total := len(records)
		var missing, duplicates, alien, torn int64
		var topic []*kgo.Record
		for i, r := range records {
			switch rapid.SampledFrom([]string{"keep", "lose", "repeat", "tear", "alien"}).Draw(t, fmt.Sprint("fate ", i)) {
			case "keep":
				topic = append(topic, r)
			case "lose":
				missing++
			case "repeat":
				topic = append(topic, r, r, r)
				duplicates += 2
			case "tear":
				missing++
				torn++
				cut := rapid.IntRange(0, width-1).Draw(t, "cut")
				topic = append(topic, &kgo.Record{Value: r.Value[:cut]})
			case "alien":
				alien++
				topic = append(topic, &kgo.Record{Value: ledger.AppendLine(nil, "c", 1, width)}, r)
			}
		}
		report := check(ledger.Expectation{Files: counts}, topic)
		if report.Expected != int64(total) || report.Missing != missing || report.Duplicates != duplicates ||
			report.Alien != alien || report.Torn != torn || report.Disordered != 0 || report.Scattered != 0 {
			t.Fatalf("%d lines with %d missing, %d duplicates, %d alien and %d torn, but: %s", total, missing, duplicates, alien, torn, report)
		}
		if faults := missing + alien + torn; (report.Err(duplicates) == nil) != (faults == 0) {
			t.Fatalf("%d faults, but the verdict is %v", faults, report.Err(duplicates))
		}
		if duplicates > 0 && report.Err(duplicates-1) == nil {
			t.Fatalf("%d duplicates pass for %d", duplicates, duplicates-1)
		}
	})
}

func TestLinesOutOfOrderAreFound(t *testing.T) {
	counts := map[string]int64{"a": 10}
	records := perfect(counts, 1)
	records[3].Value, records[7].Value = records[7].Value, records[3].Value
	report := check(ledger.Expectation{Files: counts}, records)
	// 0 1 2 7 4 5 6 3 8 9: behind line 7 stand 4, 5, 6 and 3.
	if report.Disordered != 4 || report.Err(0) == nil || !strings.Contains(report.String(), "offset 4: line 4 of a stands behind line 7 at offset 3") {
		t.Fatal(report)
	}
	// Copies of a replay stand behind later lines and are no disorder.
	replayed := slices.Concat(perfect(counts, 1), perfect(counts, 1)[4:])
	if report := check(ledger.Expectation{Files: counts}, replayed); report.Disordered != 0 || report.Duplicates != 6 || report.Copies[2] != 6 {
		t.Fatal(report)
	}
}

func TestCopyInAnotherPartitionIsFound(t *testing.T) {
	counts := map[string]int64{"a": 10}
	records := perfect(counts, 2)
	moved := *records[5]
	moved.Partition = 1 - moved.Partition
	report := check(ledger.Expectation{Files: counts}, append(records, &moved))
	if report.Scattered != 1 || report.Duplicates != 1 || report.Disordered != 0 || report.Err(1) == nil {
		t.Fatal(report)
	}
}

func TestDroppedLinesMustNotArrive(t *testing.T) {
	counts := map[string]int64{"a": 10}
	expected := ledger.Expectation{Files: counts, Dropped: func(_ string, n int64) bool { return n%2 == 0 }}
	var odd []*kgo.Record
	for i, r := range perfect(counts, 1) {
		if i%2 == 1 {
			odd = append(odd, r)
		}
	}
	if report := check(expected, odd); report.Err(0) != nil || report.Expected != 5 {
		t.Fatal(report)
	}
	if report := check(expected, perfect(counts, 1)); report.Undropped != 5 || report.Err(0) == nil {
		t.Fatal(report)
	}
}

func TestGapIsNamedByItsNeighbours(t *testing.T) {
	counts := map[string]int64{"a": 10}
	records := perfect(counts, 1)
	report := check(ledger.Expectation{Files: counts}, slices.Concat(records[:4], records[7:]))
	want := "missing: lines 4 to 6 of a (3), behind partition 0 offset 3, before partition 0 offset 7"
	if !strings.Contains(report.String(), want) {
		t.Fatalf("%s\nlacks %q", report, want)
	}
}

func TestChangedByteIsNotALine(t *testing.T) {
	line := ledger.AppendLine(nil, "access.log", 123_456_789_012, 200)
	if file, n, err := ledger.ParseLine(line); len(line) != 200 || err != nil || string(file) != "access.log" || n != 123_456_789_012 {
		t.Fatalf("%d bytes: %s %d %v", len(line), file, n, err)
	}
	for i := range line {
		changed := bytes.Clone(line)
		changed[i] ^= 1
		if file, n, err := ledger.ParseLine(changed); err == nil {
			t.Fatalf("with byte %d changed it is line %d of %s", i, n, file)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add(ledger.AppendLine(nil, "a", 1, 60))
	f.Add([]byte("a|000000000001|00000000|"))
	f.Add([]byte("|"))
	f.Fuzz(func(t *testing.T, line []byte) {
		file, sequence, err := ledger.ParseLine(line)
		if err != nil {
			return
		}
		// What passes has the form, so all but the padding can be made again.
		head := fmt.Appendf(nil, "%s|%012d|", file, sequence)
		if !bytes.HasPrefix(line, head) {
			t.Fatalf("%q is taken for line %d of %s", line, sequence, file)
		}
	})
}

// full takes a number of bytes and no more.
type full struct{ room int }

var errFull = errors.New("no space left")

func (f *full) Write(p []byte) (int, error) {
	if len(p) <= f.room {
		f.room -= len(p)
		return len(p), nil
	}
	n := f.room
	f.room = 0
	return n, errFull
}

func TestWriterCountsWhatWasTaken(t *testing.T) {
	w, err := ledger.NewWriter("a", width)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(&full{room: 10*(width+1) + 5}, 100); !errors.Is(err, errFull) || w.Written() != 10 {
		t.Fatalf("%v after %d lines", err, w.Written())
	}
	var rest bytes.Buffer
	if err := w.Write(&rest, 5); err != nil || w.Written() != 15 || rest.Len() != 5*(width+1) {
		t.Fatalf("%v after %d lines, %d bytes", err, w.Written(), rest.Len())
	}
	if _, n, err := ledger.ParseLine(rest.Bytes()[:width]); err != nil || n != 10 {
		t.Fatalf("goes on with line %d: %v", n, err)
	}
	for _, c := range []struct {
		file  string
		width int
	}{{"a|b", 100}, {"a", 23}} {
		if _, err := ledger.NewWriter(c.file, c.width); err == nil {
			t.Errorf("lines of %q with %d bytes are taken", c.file, c.width)
		}
	}
}

func TestCheckReadsATopic(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	made, err := topic.Create(ctx, strings.Join(cluster.ListenAddrs(), ","), "lines", 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	counts := map[string]int64{"a": 20_000, "b": 10_000}
	records := perfect(counts, 3)
	for _, r := range records {
		r.Topic = "lines"
		r.Value = fmt.Appendf(nil, `{"message":%q,"host":"h"}`, r.Value)
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	expected := ledger.Expectation{Files: counts, Line: ledger.JSONMessage}
	report, err := ledger.Check(ctx, made, expected)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Err(0); err != nil || report.Records != 30_000 {
		t.Fatal(report)
	}
}

func BenchmarkChecker(b *testing.B) {
	lines := make([]*kgo.Record, 100_000)
	for i := range lines {
		lines[i] = &kgo.Record{Partition: int32(i % 6), Offset: int64(i / 6), Value: ledger.AppendLine(nil, "a", int64(i), 200)}
	}
	b.ResetTimer()
	for b.Loop() {
		check(ledger.Expectation{Files: map[string]int64{"a": int64(len(lines))}}, lines)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(lines)), "ns/record")
}
