package stdin_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// unread returns how many bytes wait in a pipe.
func unread(t *testing.T, f *os.File) int {
	t.Helper()
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCINQ)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
