package file

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/record"
)

const (
	// firstAverage is the record length assumed of a file that was not read yet.
	firstAverage = 200
	// minRoom is the least room in a batch that is worth a read.
	minRoom = 512
	// holeBlock is the usual size of a filesystem's blocks, between which holes lie.
	holeBlock = 4096
)

// outcome is how one turn of a file ended.
type outcome uint8

const (
	drained  outcome = iota // no complete line is left, as far as is known
	more                    // there may be more
	noRoom                  // the next line needs more room than was left
	replaced                // the bytes before the cursor are gone: the file must begin anew
	paused                  // there is more to do before anything is read: others have their turn
)

// view is what a fill needs to know of a file, taken under its lock.
type view struct {
	content   *content
	cursor    int64
	position  int64 // of the next record: the cursor, unless the file is compressed
	situation situation
	scanned   int64
	limit     int64
	guard     []byte // owned by the tailer between fills
	final     bool
	idleAt    int64
}

// isIdle says that the file has not grown for so long that what is held is complete.
func (v *view) isIdle() bool { return v.idleAt > 0 }

// view returns false if the file is closed or its content is gone. Else the tailer
// reads until pause.
func (f *file) view() (v view, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reading = f.readableLocked()
	return view{f.content, f.cursor, f.positionLocked(), f.situation, f.scanned, f.limit, f.tail, f.final, f.idleAt}, f.reading
}

// fill reads complete lines from the cursor on straight into the free room of the
// batch's first block and appends them. The one system call also reads the bytes
// before the cursor, so content that was replaced meanwhile is never taken for a
// continuation. Only the file's tailer calls it.
func (f *file) fill(b *record.Batch, v *view, r *rules, now time.Time) (outcome, error) {
	room := f.room(b)
	if int64(room) > v.limit-v.cursor {
		room = int(v.limit - v.cursor)
	}
	if v.scanned > v.cursor && !v.final {
		if result, err := f.probe(b, v, r); result != more || err != nil {
			return result, err
		}
	}
	block := b.Value.Blocks[0]
	target := block[len(block) : len(block)+room]
	n, err := readGuarded(f.fd, v.guard, target, v.cursor)
	if err != nil {
		return drained, err
	}
	if n < 0 || n < room && f.shrank(v.cursor+int64(n)) {
		return replaced, nil
	}
	end := v.cursor+int64(n) >= v.limit
	data, padded, err := f.withoutPadding(target[:n], v.cursor+int64(n))
	if err != nil {
		return drained, err
	}
	lines := splitter{batch: b, stream: v.content, maxLine: r.maxLine, timestamp: now.UnixMilli(), base: len(block), position: v.cursor}
	lines.split(data)
	if (end || v.final && (n < room || padded)) && b.Rows() < record.MaxRows && lines.used < len(data) {
		lines.last(data)
	}
	if lines.used > 0 {
		b.Value.Blocks[0] = block[:len(block)+lines.used]
		f.average = max(1, (3*f.average+lines.used/lines.count)/4)
	}
	if err := f.advance(v, data, &lines, padded); err != nil {
		return drained, err
	}
	switch {
	case padded && b.Rows() < record.MaxRows, end && lines.used == n:
		return drained, nil
	case n == room && lines.used == 0 && room <= r.maxLine:
		return noRoom, nil
	case n == room || b.Rows() == record.MaxRows:
		return more, nil
	default:
		return drained, nil
	}
}

// skipHole moves the cursor of a file that begins with a hole behind it, and returns
// the bytes skipped: a writer without append goes on at its old offset after a
// truncation, and what stands before that was never written. Only the file's
// tailer calls it.
func (f *file) skipHole() (skipped int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cursor > 0 || f.truncated || f.closed {
		return 0, nil
	}
	data, err := unix.Seek(f.fd, 0, unix.SEEK_DATA)
	if err != nil || data <= 0 || data >= f.limit {
		return 0, nil // an empty file, all hole, or a filesystem that doesn't know
	}
	var block [holeBlock]byte // holes end where a block begins, not where the writer went on
	n, err := pread(f.fd, block[:], data)
	if err != nil {
		return 0, err
	}
	data += int64(n - len(bytes.TrimLeft(block[:n], "\x00")))
	f.cursor, f.scanned = data, data
	f.tail = make([]byte, min(guardSize, data)) // as a hole reads
	f.size = max(f.size, data)
	return data, nil
}

// room is how much of the batch's block a fill may use: not more than its rows
// will take, so that little is read twice.
func (f *file) room(b *record.Batch) int {
	block := b.Value.Blocks[0]
	free := cap(block) - len(block)
	rows := record.MaxRows - b.Rows()
	if rows == record.MaxRows {
		return free // a line may need all of it
	}
	return min(free, max(minRoom, rows*f.average*5/4))
}

// probe looks for the end of a line whose beginning was read before, behind the
// part that is known to have none, and whether that is still what was read. The
// line's end, if it is there, is more to read.
func (f *file) probe(b *record.Batch, v *view, r *rules) (outcome, error) {
	block := b.Value.Blocks[0]
	scratch := block[len(block):cap(block)]
	newline := r.newline()
	for v.scanned-v.cursor < int64(r.window()) && v.scanned < v.limit {
		n, err := readGuarded(f.fd, f.ahead, scratch, v.scanned)
		if err != nil {
			return drained, err
		}
		if n < 0 {
			return replaced, nil
		}
		if n == 0 {
			return drained, nil
		}
		if bytes.IndexByte(scratch[:n], newline) >= 0 {
			return more, nil
		}
		v.scanned += int64(n)
		f.ahead = lastOf(f.ahead, scratch[:n])
		f.mu.Lock()
		f.scanned = v.scanned
		f.size = max(f.size, v.scanned)
		f.mu.Unlock()
	}
	return more, nil
}

// lastOf returns the last guardSize bytes of guard and data, in the memory of guard.
func lastOf(guard, data []byte) []byte {
	if len(data) >= guardSize {
		return append(guard[:0], data[len(data)-guardSize:]...)
	}
	guard = append(guard, data...)
	return append(guard[:0], guard[max(0, len(guard)-guardSize):]...)
}

// shrank reports that the file, which a read found to end at end, was longer
// before: what the read returned is new content.
func (f *file) shrank(end int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if end >= f.size {
		return false
	}
	if l, err := lookAt(f.fd); err == nil { // a read may end early for another reason
		f.measureLocked(l.size)
	}
	return f.truncated
}

// advance moves the cursor over what lines used of data.
func (f *file) advance(v *view, data []byte, lines *splitter, padded bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if lines.count > 0 {
		f.content.append(nil, v.cursor+int64(lines.used), v.cursor, v.situation)
	}
	f.situation = situation{}
	f.moveLocked(v, data, lines.used, lines.open)
	return f.padLocked(v, padded)
}

// moveLocked moves the cursor over so many bytes of data. With open, nothing in the
// rest ends a line.
func (f *file) moveLocked(v *view, data []byte, used int, open bool) {
	f.cursor = v.cursor + int64(used)
	f.tail = lastOf(f.tail, data[:used])
	f.scanned = f.cursor
	if open {
		f.scanned = v.cursor + int64(len(data))
		f.ahead = lastOf(append(f.ahead[:0], f.tail...), data[used:])
	}
	f.size = max(f.size, v.cursor+int64(len(data)))
}

// splitter cuts data, which stands in block 0 from base on, into records.
type splitter struct {
	batch     *record.Batch
	stream    record.Stream
	maxLine   int
	timestamp int64
	base      int   // of data in the block
	position  int64 // of data in the file
	used      int
	count     int
	open      bool // what is left has no "\n"
}

// split appends the complete lines of data, without their "\n", and pieces of
// maxLine bytes of lines that are longer.
func (s *splitter) split(data []byte) {
	for s.batch.Rows() < record.MaxRows {
		rest := data[s.used:]
		window := rest[:min(len(rest), s.maxLine+1)]
		length := bytes.IndexByte(window, '\n')
		switch {
		case length >= 0:
			s.append(length, length+1)
		case len(window) > s.maxLine:
			s.append(s.maxLine, s.maxLine)
		default:
			s.open = true
			return
		}
	}
}

// last appends what follows the last "\n", which nothing will end.
func (s *splitter) last(data []byte) {
	s.append(len(data)-s.used, len(data)-s.used)
}

func (s *splitter) append(length, advance int) {
	span := record.Span{Offset: uint32(s.base + s.used), Length: uint32(length)}
	start := s.position + int64(s.used)
	s.batch.Append(s.stream, span, s.timestamp, start, start+int64(advance))
	s.used += advance
	s.count++
}

// readGuarded reads into target from offset on and compares the bytes before it
// with guard. It returns -1 when they differ or are gone, which may be the first
// sign of a truncation.
func readGuarded(fd int, guard, target []byte, offset int64) (int, error) {
	var before [guardSize]byte
	buffers := [2][]byte{before[:len(guard)], target}
	for {
		n, err := unix.Preadv(fd, buffers[:], offset-int64(len(guard)))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read at %d: %w", offset, err)
		}
		if n < len(guard) || !bytes.Equal(before[:len(guard)], guard) {
			return -1, nil
		}
		return n - len(guard), nil
	}
}

func pread(fd int, b []byte, offset int64) (int, error) {
	for {
		n, err := unix.Pread(fd, b, offset)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read at %d: %w", offset, err)
		}
		return n, nil
	}
}
