// Package ledger writes numbered lines and finds out what became of them in a
// topic: which are missing, which are there more than once, whether the lines of
// one file are in order, and what is there that nobody wrote.
package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// A line is, without its newline,
//
//	<file>|<sequence, 12 digits>|<CRC-32C, 8 hexadecimal digits>|<padding>
//
// with the checksum of all bytes but its own. The padding makes the line as wide
// as wanted; it differs from line to line, so that bytes of two lines put
// together don't pass for one.
const (
	sequenceDigits = 12
	checksumDigits = 8
	separator      = '|'
	padding        = "GET /catalogue/shelves/7/books/2187?view=full HTTP/1.1 status=200 agent=probe/4.2 "
)

// Why bytes are not a line of a ledger.
var (
	errForm     = errors.New("not a line of a ledger")
	errChecksum = errors.New("the checksum does not fit")
)

// overhead is the width of a line whose file has no name and that has no padding.
const overhead = sequenceDigits + checksumDigits + 3

// AppendLine appends one line, without a newline, that is width bytes long, or
// longer if file needs it. The name of the file must not hold '|' or a newline.
func AppendLine(dst []byte, file string, sequence int64, width int) []byte {
	start := len(dst)
	var sumBytes [checksumDigits / 2]byte
	dst = append(dst, file...)
	dst = fmt.Appendf(append(dst, separator), "%0*d|", sequenceDigits, sequence)
	sum := len(dst)
	dst = append(dst, "00000000|"...)
	for at := int(sequence % int64(len(padding))); len(dst)-start < width; at = 0 {
		dst = append(dst, padding[at:min(len(padding), at+width-(len(dst)-start))]...)
	}
	binary.BigEndian.PutUint32(sumBytes[:], checksum(dst[start:sum], dst[sum+checksumDigits:]))
	hex.Encode(dst[sum:], sumBytes[:])
	return dst
}

// ParseLine returns the file and the sequence number of a line. Its error says
// why the bytes are not a whole line.
func ParseLine(line []byte) (file []byte, sequence int64, err error) {
	name := bytes.IndexByte(line, separator)
	if name < 0 || len(line) < name+overhead {
		return nil, 0, errForm
	}
	number := line[name+1 : name+1+sequenceDigits]
	sum := name + 1 + sequenceDigits + 1
	rest := sum + checksumDigits
	if line[sum-1] != separator || line[rest] != separator {
		return nil, 0, errForm
	}
	sequence, ok := parseDigits(number, 10)
	wanted, ok2 := parseDigits(line[sum:rest], 16)
	if !ok || !ok2 {
		return nil, 0, errForm
	}
	if int64(checksum(line[:sum], line[rest:])) != wanted {
		return nil, 0, errChecksum
	}
	return line[:name], sequence, nil
}

func checksum(before, after []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // made once, by the package
	return crc32.Update(crc32.Checksum(before, table), table, after)
}

// parseDigits reads a number of digits alone: no sign, no space, no capitals.
func parseDigits(text []byte, base int64) (int64, bool) {
	var value int64
	for _, c := range text {
		digit := strings.IndexByte("0123456789abcdef"[:base], c)
		if digit < 0 {
			return 0, false
		}
		value = value*base + int64(digit)
	}
	return value, true
}

// writeSize is about how many bytes a Writer hands over at once.
const writeSize = 256 << 10

// Writer writes the lines of one file, numbered from 0. It may be used by one
// goroutine at a time.
type Writer struct {
	file    string
	width   int
	written int64
	buffer  []byte
}

// NewWriter makes a Writer of lines that are width bytes long without their
// newlines. The width must have room for the name, the numbers and the
// separators.
func NewWriter(file string, width int) (*Writer, error) {
	if strings.ContainsAny(file, "|\n") {
		return nil, fmt.Errorf("the file name %q holds a separator", file)
	}
	if least := len(file) + overhead; width < least {
		return nil, fmt.Errorf("a line of file %q needs %d bytes, not %d", file, least, width)
	}
	return &Writer{file: file, width: width}, nil
}

// File is the name that the lines begin with.
func (w *Writer) File() string { return w.file }

// Written is the number of lines that out has taken: what may be expected in the
// topic.
func (w *Writer) Written() int64 { return w.written }

// Write writes the next count lines to out, each with a newline. After an error
// the Writer knows how many whole lines were taken, and a part of one more may
// have been.
func (w *Writer) Write(out io.Writer, count int64) error {
	for left := count; left > 0; {
		lines := min(left, max(1, int64(writeSize/(w.width+1))))
		w.buffer = w.buffer[:0]
		for i := range lines {
			w.buffer = append(AppendLine(w.buffer, w.file, w.written+i, w.width), '\n')
		}
		n, err := out.Write(w.buffer)
		taken := int64(n / (w.width + 1))
		w.written += taken
		left -= taken
		if err != nil {
			return fmt.Errorf("write lines of %s: %w", w.file, err)
		}
		if taken < lines {
			return fmt.Errorf("write lines of %s: %w", w.file, io.ErrShortWrite)
		}
	}
	return nil
}
