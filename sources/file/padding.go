package file

import (
	"bytes"
	"fmt"
	"time"
)

// A file may end in NULs that nobody has written: its writer has reserved the room
// and fills it from the front, or a network filesystem knows a size before the bytes.
// They are no line: the file is read up to them, and looked at again when it changes.

const (
	// paddingSample is how much of a file's end tells padding from a hole in front of data.
	paddingSample = 4 << 10
	// paddingWatch is how long padding is looked at after the file's last change, whatever
	// its time says: times are as coarse as the kernel's clock.
	paddingWatch = 2 * time.Second
)

// withoutPadding returns data, which ends at end in the file, without the NULs that
// reach to the file's end.
func (f *file) withoutPadding(data []byte, end int64) (written []byte, padded bool, err error) {
	if len(data) == 0 || data[len(data)-1] != 0 {
		return data, false, nil
	}
	l, err := lookAt(f.fd)
	if err != nil {
		return data, false, err
	}
	if l.size > end {
		var sample [paddingSample]byte
		last := sample[:min(paddingSample, l.size-end)]
		if err := readFull(f.fd, last, l.size-int64(len(last))); err != nil {
			return data, false, fmt.Errorf("look at the end: %w", err)
		}
		if len(bytes.TrimLeft(last, "\x00")) > 0 {
			return data, false, nil // data follows: what is before it was left out, or is meant
		}
	}
	n := len(bytes.TrimRight(data, "\x00"))
	n = min(len(data), (n+f.rules.unit()-1)/f.rules.unit()*f.rules.unit()) // a code unit may end in them
	if len(data)-n < f.rules.unit() {
		return data, false, nil // not even one that is whole
	}
	return data[:n], true, nil
}

// padLocked remembers that all behind the cursor, but for an open line, is padding. At
// the end of reading it is passed over: nobody will write there any more.
func (f *file) padLocked(v *view, padded bool) error {
	f.padded = padded
	switch {
	case !padded || f.scanned > f.cursor:
		return nil
	case v.limit != unlimited:
		f.limit = f.cursor
	case v.final:
		tail := make([]byte, min(guardSize, f.size))
		if err := readFull(f.fd, tail, f.size-int64(len(tail))); err != nil {
			return shortIsNil(err)
		}
		f.cursor, f.scanned, f.tail, f.padded = f.size, f.size, tail, false
	}
	return nil
}

// unseenLocked says that the file has bytes that were not looked at.
func (f *file) unseenLocked(now time.Time) bool {
	return f.size > max(f.cursor, f.scanned) && (!f.padded || now.Sub(f.changed) < paddingWatch)
}
