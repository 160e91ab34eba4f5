// Package quarantine keeps records that could not be delivered, with the exact
// bytes and the reason, until a person decides about them. A record is durable
// here before its position moves past it.
//
// Each pipeline has a directory (0700) of segment files (0600) whose names are
// the id of their first record in 20 digits. A segment is appended to only by
// the process that made it, so what a crash leaves behind is never touched
// again; the one thing that changes in place is a record's status byte. All
// integers are little-endian.
//
//	segment header, 24 bytes
//	  0   8  magic "BARNABQ\x00"
//	  8   4  format version, 1
//	 12   8  marker: random per segment, so that no record's content can pass for a frame
//	 20   4  CRC-32C of bytes 0 to 19
//
//	frame, one per record
//	  0   8  the segment's marker
//	  8   1  status: 0x0f live, 0xf0 dropped; not part of a checksum
//	  9   3  zero
//	 12   4  length of the body
//	 16   8  id: ascending
//	 24   4  CRC-32C of the body
//	 28   4  CRC-32C of bytes 0 to 7 and 9 to 27
//	 32   n  body, see codec.go
package quarantine

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// Entry is one record in the quarantine. What Append takes is borrowed until it
// returns; what a Reader gives belongs to the caller.
type Entry struct {
	ID   uint64    // unique in its pipeline for ever; set by Append
	Time time.Time // when the record was given up

	Pipeline string
	Stage    string // the stage that refused it; "producer" for the broker
	Code     string // stable code of the plugin or broker
	Message  string // for people; not trusted: it may hold what a plugin wrote

	Topic     string
	Partition int32 // record.PartitionAny: not chosen yet
	Key       Field
	Value     Field
	Headers   []record.Header
	Timestamp int64 // milliseconds since the Unix epoch

	Origin record.Origin
	Offset int64 // where the record begins in its stream
	End    int64 // the stream's position behind it
}

// Field is a key or value: its bytes and what they are.
type Field struct {
	Kind  record.Kind
	Bytes []byte // nil for record.Null
}

// FromBatch makes the entry for a row that a stage or the broker refused. It
// borrows the batch's memory.
func FromBatch(pipeline string, b *record.Batch, f record.Failure, now time.Time) Entry {
	row := int(f.Row)
	return Entry{
		Time:      now,
		Pipeline:  pipeline,
		Stage:     f.Stage,
		Code:      f.Code,
		Message:   f.Message,
		Topic:     b.Topic(row),
		Partition: b.Partition(row),
		Key:       Field{Kind: b.Key.Kind(row), Bytes: b.Key.Bytes(row)},
		Value:     Field{Kind: b.Value.Kind(row), Bytes: b.Value.Bytes(row)},
		Headers:   b.RowHeaders(row),
		Timestamp: b.Timestamps[row],
		Origin:    b.RunOf(row).Stream.Origin(),
		Offset:    b.Offsets[row],
		End:       b.Ends[row],
	}
}

// folder holds the quarantine of all pipelines, below the data directory.
const folder = "quarantine"

// Dir returns the directory of a pipeline's quarantine. Whatever the pipeline
// is called, it is one folder below dataDir/quarantine: bytes outside letters,
// digits, '_', '-' and an inner '.' are written as %XX.
func Dir(dataDir, pipeline string) string {
	var name strings.Builder
	for i := range len(pipeline) {
		c := pipeline[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '.' && i > 0:
			name.WriteByte(c)
		default:
			fmt.Fprintf(&name, "%%%02X", c)
		}
	}
	return filepath.Join(dataDir, folder, name.String())
}

// Pipelines returns the names of the pipelines that have a quarantine in
// dataDir, sorted as their folders are. Those that are configured no more are
// among them.
func Pipelines(dataDir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dataDir, folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the quarantine: %w", err)
	}
	var names []string
	for _, entry := range entries {
		name, err := url.PathUnescape(entry.Name())
		if err == nil && entry.IsDir() && filepath.Base(Dir(dataDir, name)) == entry.Name() {
			names = append(names, name)
		}
	}
	return names, nil
}
