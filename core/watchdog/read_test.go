package watchdog

import "syscall"

// readOne blocks until a byte or the end comes.
func readOne(fd int) {
	var one [1]byte
	for {
		if _, err := syscall.Read(fd, one[:]); err != syscall.EINTR {
			return
		}
	}
}
