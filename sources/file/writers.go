package file

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// quietWhenFinal is how long a rotated file must not change before its last
	// line counts as complete, where it can't be known whether somebody writes to it.
	quietWhenFinal = 5 * time.Second
	// quietWhenIdle is the same for a file that a process has open for writing. It
	// is also how long a delivered file without a name is kept open where
	// writers can't be known; with a known writer it is kept.
	quietWhenIdle = time.Minute
)

// writers says who may add to a file.
type writers uint8

const (
	writersUnknown writers = iota // the file is another user's, or its filesystem can't tell
	writersNone
	writersSome
)

// writersOf asks who may add to the file.
func writersOf(fd int) writers {
	w, give := leaseOf(fd)
	give()
	return w
}

// leaseOf asks for a read lease, which the kernel grants only while no process has the
// file open for writing (fcntl(2), F_SETLEASE), and with writersNone holds it until
// give is called: a process that opens the file to write waits for that.
func leaseOf(fd int) (w writers, give func()) {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return writersSome, func() {}
	case err != nil:
		return writersUnknown, func() {}
	}
	return writersNone, func() { _, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK) } // fails only without a lease
}

// isFinal reports that the last line of a rotated file, which did not change for
// the time quiet, is complete though nothing ends it.
func isFinal(w writers, quiet time.Duration) bool {
	switch w {
	case writersNone:
		return true
	case writersSome:
		return quiet >= quietWhenIdle
	default:
		return quiet >= quietWhenFinal
	}
}

// isAbandoned reports that nothing more will come in a file without a name.
func isAbandoned(w writers, quiet time.Duration) bool {
	switch w {
	case writersNone:
		return true
	case writersSome:
		return false
	default:
		return quiet >= quietWhenIdle
	}
}
