package quarantine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/barnabas-agent/barnabas/core/record"
)

// threeRecords returns a segment with the values "1", "2", "3" and the offset
// behind each of its frames.
func threeRecords(t testing.TB) (content []byte, ends []int) {
	t.Helper()
	m := marker{1, 2, 3, 4, 5, 6, 7, 8}
	content = appendSegmentHeader(nil, m)
	for i := range 3 {
		e := entry(fmt.Sprint(i + 1))
		e.ID = uint64(i + 1)
		var err error
		if content, err = appendFrame(content, m, &e); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, len(content))
	}
	return content, ends
}

func writeSegment(t testing.TB, dir string, first uint64, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, segmentName(first)), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A crash can cut a segment anywhere: what is whole stays readable, what is not
// is called torn, and the next run goes on with new ids without touching it.
func TestCutAtEachByte(t *testing.T) {
	content, ends := threeRecords(t)
	for size := range len(content) {
		dir := t.TempDir()
		writeSegment(t, dir, 1, content[:size])
		whole := 0
		for whole < len(ends) && ends[whole] <= size {
			whole++
		}
		atBoundary := size == segmentHeader || slices.Contains(ends, size)

		values, _, damages := readAll(t, dir)
		if want := "123"[:whole]; strings.Join(values, "") != want {
			t.Fatalf("cut at %d: read %q, want %q", size, values, want)
		}
		if atBoundary != (len(damages) == 0) || len(damages) > 1 || !atBoundary && !damages[0].Torn {
			t.Fatalf("cut at %d: damages %v", size, damages)
		}

		next := appendValues(t, openStore(t, dir), "new")[0]
		if values, ids, _ := readAll(t, dir); values[len(values)-1] != "new" || ids[len(ids)-1] != next || next <= uint64(whole) {
			t.Fatalf("cut at %d: after the next run %q with ids %v", size, values, ids)
		}
		left, err := os.ReadFile(filepath.Join(dir, segmentName(1)))
		if err != nil || !bytes.Equal(left, content[:size]) {
			t.Fatalf("cut at %d: the torn segment was changed, %v", size, err)
		}
	}
}

// A file whose length reached the disk before its content ends in zeros.
func TestZeroedTailIsTorn(t *testing.T) {
	content, ends := threeRecords(t)
	for _, from := range []int{0, segmentHeader, ends[0], ends[1]} {
		dir := t.TempDir()
		damaged := bytes.Clone(content)
		clear(damaged[from:])
		writeSegment(t, dir, 1, damaged)
		_, _, damages := readAll(t, dir)
		if len(damages) != 1 || !damages[0].Torn {
			t.Errorf("zeros from %d: damages %v", from, damages)
		}
	}
}

// No flipped bit is read as another record, hides a later one, or goes unseen.
func TestNoFlippedBitIsBelieved(t *testing.T) {
	content, ends := threeRecords(t)
	for i := range content {
		for bit := range 8 {
			damaged := bytes.Clone(content)
			damaged[i] ^= 1 << bit
			dir := t.TempDir()
			writeSegment(t, dir, 1, damaged)
			values, _, damages := readAll(t, dir)
			want := "123"
			hit := slices.IndexFunc(ends, func(end int) bool { return i < end })
			frameStart := segmentHeader
			if hit > 0 {
				frameStart = ends[hit-1]
			}
			switch {
			case i < segmentHeader:
				want = ""
			case i == frameStart+statusOffset:
				if len(damages) == 0 && strings.Join(values, "") == want {
					continue
				}
			default:
				want = want[:hit] + want[hit+1:]
			}
			if got := strings.Join(values, ""); got != want || len(damages) != 1 || damages[0].Torn && i < segmentHeader {
				t.Fatalf("byte %d bit %d: read %q, want %q; damages %v", i, bit, got, want, damages)
			}
		}
	}
}

// A record's bytes are a stranger's. Those that look like a frame must not
// become a record when the frame around them is damaged.
func TestContentNeverPassesForARecord(t *testing.T) {
	forged, _ := threeRecords(t)
	dir := t.TempDir()
	s := openStore(t, dir)
	appendValues(t, s, string(forged), "after")
	path := s.active.Name()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[segmentHeader] ^= 0xff // the outer frame's marker
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	values, ids, damages := readAll(t, dir)
	if !slices.Equal(values, []string{"after"}) || !slices.Equal(ids, []uint64{2}) || len(damages) != 1 {
		t.Errorf("read %q with ids %v, damages %v", values, ids, damages)
	}
}

func TestDamagedSegmentsAreNeverRemoved(t *testing.T) {
	content, ends := threeRecords(t)
	content[ends[1]-1] ^= 1
	dir := t.TempDir()
	writeSegment(t, dir, 1, content)
	s := openStore(t, dir)
	appendValues(t, s, "newer")
	if n, err := s.Drop(context.Background(), 1, 2, 3); err != nil || n != 2 {
		t.Fatalf("dropped %d, %v; want the two readable ones", n, err)
	}
	if _, err := os.Stat(filepath.Join(dir, segmentName(1))); err != nil {
		t.Errorf("the damaged segment is gone: %v", err)
	}
}

func TestOpenReportsDamage(t *testing.T) {
	content, ends := threeRecords(t)
	content[ends[1]-1] ^= 1
	dir := t.TempDir()
	writeSegment(t, dir, 1, content)
	var log bytes.Buffer
	s, err := Open(dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !strings.Contains(log.String(), fmt.Sprintf("byte %d to %d", ends[0], ends[1])) {
		t.Errorf("the log does not say where the damage is: %s", log.String())
	}
	if _, err := NewReader(dir).Get(2); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a record in the damaged stretch: %v", err)
	}
}

func TestANewerFormatIsNamed(t *testing.T) {
	content := appendSegmentHeader(nil, marker{1})
	binary.LittleEndian.PutUint32(content[8:], formatVersion+1)
	binary.LittleEndian.PutUint32(content[20:], castagnoli(content[:20]))
	dir := t.TempDir()
	writeSegment(t, dir, 1, content)
	_, _, damages := readAll(t, dir)
	if len(damages) != 1 || !strings.Contains(damages[0].Error(), "version 2") {
		t.Errorf("damages %v", damages)
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"1", "notes.txt", "00000000000000000000", "99999999999999999999", "+0000000000000000001"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, segmentName(7)), 0o700); err != nil {
		t.Fatal(err)
	}
	appendValues(t, openStore(t, dir), "1")
	if values, _, damages := readAll(t, dir); len(values) != 1 || len(damages) != 0 {
		t.Errorf("read %q, damages %v", values, damages)
	}
}

func TestBodyIsTheInverseOfItself(t *testing.T) {
	field := rapid.Custom(func(t *rapid.T) Field {
		kind := rapid.SampledFrom([]record.Kind{record.Bytes, record.Null, record.Object}).Draw(t, "kind")
		if kind == record.Null {
			return Field{Kind: kind}
		}
		return Field{Kind: kind, Bytes: rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")}
	})
	header := rapid.Custom(func(t *rapid.T) record.Header {
		h := record.Header{Name: rapid.String().Draw(t, "name")}
		if !rapid.Bool().Draw(t, "null") {
			h.Value = rapid.SliceOf(rapid.Byte()).Draw(t, "value")
		}
		return h
	})
	rapid.Check(t, func(t *rapid.T) {
		text := func(label string) string { return rapid.String().Draw(t, label) }
		want := Entry{
			Time: time.Unix(0, rapid.Int64().Draw(t, "time")), Timestamp: rapid.Int64().Draw(t, "timestamp"),
			Pipeline: text("pipeline"), Stage: text("stage"), Code: text("code"), Message: text("message"),
			Topic: text("topic"), Partition: rapid.Int32().Draw(t, "partition"),
			Key: field.Draw(t, "key"), Value: field.Draw(t, "value"),
			Origin: record.Origin{Kind: text("kind"), File: text("file"), Peer: text("peer"), Host: text("host")},
			Offset: rapid.Int64().Draw(t, "offset"), End: rapid.Int64().Draw(t, "end"),
		}
		if headers := rapid.SliceOf(header).Draw(t, "headers"); len(headers) > 0 {
			want.Headers = headers
		}
		body := appendBody(nil, &want)
		got, err := decodeBody(append(body, "a field of a later version"...))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got\n%+v\nwant\n%+v", got, want)
		}
	})
}

func FuzzDecodeBody(f *testing.F) {
	e := entry("value")
	f.Add(appendBody(nil, &e))
	f.Add(bytes.Repeat([]byte{0xff}, 100))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := decodeBody(body)
		if err != nil {
			return
		}
		again, err := decodeBody(appendBody(nil, &e))
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("an accepted body does not survive being written again: %v", err)
		}
	})
}

// Whatever a segment holds, reading ends, and its frames and damages cover it
// without a gap or an overlap.
func FuzzSegment(f *testing.F) {
	content, ends := threeRecords(f)
	f.Add(content)
	f.Add(content[:ends[1]-3])
	f.Add(append(bytes.Clone(content[:ends[0]]), content[ends[1]:]...))
	f.Add([]byte(segmentMagic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		s := &segmentScanner{name: "1", input: bytes.NewReader(content), size: int64(len(content))}
		var damage *Damage
		if err := s.open(1); err != nil {
			if !errors.As(err, &damage) || s.offset != s.size {
				t.Fatalf("opening: %v, at %d of %d", err, s.offset, s.size)
			}
			return
		}
		last := uint64(0)
		for at := s.offset; ; at = s.offset {
			frame, err := s.next()
			switch {
			case errors.Is(err, io.EOF) && at == s.size:
				return
			case errors.As(err, &damage) && damage.From == at && damage.To == s.offset && s.offset > at:
			case err == nil && frame.offset == at && s.offset > at && frame.id > last:
				last = frame.id
			default:
				t.Fatalf("at %d: frame %d, %v", at, frame.id, err)
			}
		}
	})
}
