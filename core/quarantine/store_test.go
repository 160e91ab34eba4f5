package quarantine

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

func entry(value string) Entry {
	return Entry{
		Time:      time.Unix(1700000000, 123456789),
		Pipeline:  "access",
		Stage:     "filter",
		Code:      "filter.expression",
		Message:   "no such key: status",
		Topic:     "access",
		Partition: 3,
		Key:       Field{Kind: record.Null},
		Value:     Field{Kind: record.Bytes, Bytes: []byte(value)},
		Headers: []record.Header{
			{Name: "a", Value: []byte("1")}, {Name: "a", Value: nil}, {Name: "", Value: []byte{}},
		},
		Timestamp: 1700000000000,
		Origin:    record.Origin{Kind: "file", File: "/var/log/app.log", Host: "web-1"},
		Offset:    17,
		End:       42,
	}
}

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func appendValues(t *testing.T, s *Store, values ...string) []uint64 {
	t.Helper()
	var entries []Entry
	for _, value := range values {
		entries = append(entries, entry(value))
	}
	if err := s.Append(context.Background(), entries); err != nil {
		t.Fatal(err)
	}
	var ids []uint64
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	return ids
}

// readAll returns the values by id order, and what was damaged.
func readAll(t *testing.T, dir string) (values []string, ids []uint64, damages []*Damage) {
	t.Helper()
	for e, err := range NewReader(dir).All(0) {
		var damage *Damage
		switch {
		case errors.As(err, &damage):
			damages = append(damages, damage)
		case err != nil:
			t.Fatal(err)
		default:
			values = append(values, string(e.Value.Bytes))
			ids = append(ids, e.ID)
		}
	}
	return values, ids, damages
}

func TestRecordsComeBackExactlyAfterReopening(t *testing.T) {
	dir := Dir(t.TempDir(), "access")
	want := entry("line\x00\xff\n")
	want.Key = Field{Kind: record.Object, Bytes: []byte{0x81, 0xa1, 'a', 1}}
	tombstone := entry("")
	tombstone.Value = Field{Kind: record.Null}
	tombstone.Key = Field{Kind: record.Bytes, Bytes: []byte{}}
	tombstone.Headers = nil
	entries := []Entry{want, tombstone}
	if err := openStore(t, dir).Append(context.Background(), entries); err != nil {
		t.Fatal(err)
	}

	openStore(t, dir) // a second run must not disturb anything
	for i, wantEntry := range entries {
		got, err := NewReader(dir).Get(entries[i].ID)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Time.Equal(wantEntry.Time) {
			t.Errorf("time is %v, want %v", got.Time, wantEntry.Time)
		}
		got.Time = wantEntry.Time
		if !reflect.DeepEqual(got, wantEntry) {
			t.Errorf("read back\n%+v\nwant\n%+v", got, wantEntry)
		}
	}
}

func TestFilesAreForTheOwnerAloneAndNamedByNumber(t *testing.T) {
	dataDir := t.TempDir()
	dir := Dir(dataDir, "../evil/pipeline")
	appendValues(t, openStore(t, dir), "secret")
	if rel, err := filepath.Rel(filepath.Join(dataDir, "quarantine"), dir); err != nil || strings.Contains(rel, "/") || strings.HasPrefix(rel, ".") {
		t.Errorf("a pipeline's name leads to %s", dir)
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v", info.Mode())
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		info, err := file.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", file.Name(), info.Mode())
		}
		if strings.Trim(file.Name(), "0123456789") != "" {
			t.Errorf("file name %q is not a number", file.Name())
		}
	}
	names, err := Pipelines(dataDir)
	if err != nil || !slices.Equal(names, []string{"../evil/pipeline"}) {
		t.Errorf("pipelines are %q, %v", names, err)
	}
}

func TestIDsAreStableAndNeverGivenTwice(t *testing.T) {
	dir := t.TempDir()
	seen := map[uint64]bool{}
	for range 3 { // three runs of an agent
		s := openStore(t, dir)
		for range 2 {
			for _, id := range appendValues(t, s, "a", "b") {
				if seen[id] {
					t.Fatalf("id %d was given twice", id)
				}
				seen[id] = true
			}
		}
	}
	_, ids, damages := readAll(t, dir)
	if len(ids) != 12 || !slices.IsSorted(ids) || len(damages) != 0 {
		t.Errorf("read ids %v, damages %v", ids, damages)
	}
}

func TestOpeningWithoutARecordLeavesNoTrace(t *testing.T) {
	dir := Dir(t.TempDir(), "p")
	openStore(t, dir)
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
	if values, _, damages := readAll(t, dir); len(values)+len(damages) != 0 {
		t.Errorf("an empty quarantine holds %v, %v", values, damages)
	}
}

func TestAfterSkipsWhatWasSeen(t *testing.T) {
	dir := t.TempDir()
	appendValues(t, openStore(t, dir), "1", "2")
	appendValues(t, openStore(t, dir), "3", "4")
	for after, want := range map[uint64]string{0: "1234", 1: "234", 2: "34", 3: "4", 4: "", 1 << 63: ""} {
		var got strings.Builder
		for e, err := range NewReader(dir).All(after) {
			if err != nil {
				t.Fatal(err)
			}
			got.Write(e.Value.Bytes)
		}
		if got.String() != want {
			t.Errorf("after %d: %q, want %q", after, got.String(), want)
		}
	}
}

func TestGetOfAnUnknownID(t *testing.T) {
	dir := t.TempDir()
	appendValues(t, openStore(t, dir), "1")
	for _, id := range []uint64{0, 2, 1 << 63} {
		if _, err := NewReader(dir).Get(id); !errors.Is(err, ErrNotFound) {
			t.Errorf("id %d: %v", id, err)
		}
	}
}

func TestDroppedRecordsStayDroppedAndOthersStay(t *testing.T) {
	dir := t.TempDir()
	first := openStore(t, dir)
	ids := appendValues(t, first, "1", "2", "3")
	second := openStore(t, dir)
	ids = append(ids, appendValues(t, second, "4")...)

	n, err := second.Drop(context.Background(), ids[1], ids[3], ids[1], 999)
	if err != nil || n != 2 {
		t.Fatalf("dropped %d, %v; want 2", n, err)
	}
	if n, err := second.Drop(context.Background(), ids[1]); err != nil || n != 0 {
		t.Errorf("dropping again: %d, %v; want 0", n, err)
	}
	if values, _, damages := readAll(t, dir); strings.Join(values, "") != "13" || len(damages) != 0 {
		t.Errorf("left are %q, damages %v", values, damages)
	}
	if _, err := NewReader(dir).Get(ids[1]); !errors.Is(err, ErrNotFound) {
		t.Errorf("a dropped record: %v", err)
	}

	if _, err := second.Drop(context.Background(), ids[0], ids[2]); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("%d segments are left of two, the older of which holds nothing: %v", len(files), err)
	}
	if id := appendValues(t, openStore(t, dir), "5")[0]; id <= ids[3] {
		t.Errorf("id %d was given again", id)
	}
}

func TestASegmentEndsAtItsSize(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	large := strings.Repeat("x", maxSegment/2)
	appendValues(t, s, large, large, "tail")
	appendValues(t, s, "next")
	segments, err := listSegments(dir)
	if err != nil || len(segments) != 2 {
		t.Fatalf("%d segments, %v; want 2", len(segments), err)
	}
	if _, ids, damages := readAll(t, dir); len(ids) != 4 || len(damages) != 0 {
		t.Errorf("read %d records, damages %v", len(ids), damages)
	}
}

func TestConcurrentAppendersLoseNothing(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 10 {
				if err := s.Append(context.Background(), []Entry{entry("v"), entry("v")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if _, ids, damages := readAll(t, dir); len(ids) != 80 || len(damages) != 0 {
		t.Errorf("read %d records, damages %v; want 80", len(ids), damages)
	}
}

func TestACancelledAppendWritesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "p")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := openStore(t, dir).Append(ctx, []Entry{entry("v")}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
}

// A write that fails must not be followed by one into the same file, must not
// cost what was kept before, and must not collect a file per attempt.
func TestAFailedWriteStartsANewSegment(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	appendValues(t, s, "kept")
	if err := s.active.Close(); err != nil { // the next write fails as on a broken disk
		t.Fatal(err)
	}
	if err := s.Append(context.Background(), []Entry{entry("lost")}); err == nil {
		t.Fatal("a failed write was reported as kept")
	}
	id := appendValues(t, s, "again")[0]
	if values, _, damages := readAll(t, dir); strings.Join(values, " ") != "kept again" || len(damages) != 0 {
		t.Errorf("read %q, damages %v", values, damages)
	}
	if id != 3 {
		t.Errorf("the id of the failed attempt was used again: %d", id)
	}
}

func TestAFullDiskLeavesNoFiles(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	oversized := entry("")
	oversized.Message = strings.Repeat("x", 1<<20)
	for range 3 {
		if err := s.createLocked(); err != nil {
			t.Fatal(err)
		}
		if err := s.active.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Append(context.Background(), []Entry{oversized}); err == nil {
			t.Fatal("a failed write was reported as kept")
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 0 {
		t.Errorf("%d files are left, %v", len(files), err)
	}
}

func TestFromBatchTakesTheRowAsItIs(t *testing.T) {
	var b record.Batch
	b.Topics = []string{"access"}
	b.Value.AddBlock([]byte("onetwo"))
	a, c := &stream{file: "/a"}, &stream{file: "/c"}
	b.Append(a, record.Span{Length: 3}, 1000, 0, 4)
	b.Append(c, record.Span{Offset: 3, Length: 3}, 2000, 10, 14)
	b.SetTopic(1, "access.bad")
	b.SetPartition(1, 5)
	b.SetHeaders(1, []record.Header{{Name: "h"}})

	now := time.Unix(5, 0)
	got := FromBatch("p", &b, record.Failure{Row: 1, Stage: "producer", Code: "INVALID_RECORD", Message: "no key"}, now)
	want := Entry{
		Time: now, Pipeline: "p", Stage: "producer", Code: "INVALID_RECORD", Message: "no key",
		Topic: "access.bad", Partition: 5,
		Key:     Field{Kind: record.Null},
		Value:   Field{Kind: record.Bytes, Bytes: []byte("two")},
		Headers: []record.Header{{Name: "h"}}, Timestamp: 2000,
		Origin: record.Origin{Kind: "file", File: "/c"}, Offset: 10, End: 14,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}

	dir := t.TempDir()
	intake := NewIntake(openStore(t, dir), "p", func() time.Time { return now })
	failures := []record.Failure{{Row: 1, Stage: "set"}, {Row: 0, Stage: "set"}}
	if err := intake.Put(context.Background(), &b, failures); err != nil {
		t.Fatal(err)
	}
	if values, _, _ := readAll(t, dir); !slices.Equal(values, []string{"two", "one"}) {
		t.Errorf("kept %q", values)
	}
}

type stream struct{ file string }

func (s *stream) Origin() record.Origin { return record.Origin{Kind: "file", File: s.file} }
func (s *stream) Delivered(int64)       {}
