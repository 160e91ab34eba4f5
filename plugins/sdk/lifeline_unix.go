//go:build unix

package sdk

import "syscall"

// closeOnExec keeps the descriptor from processes that the plugin starts.
func closeOnExec(fd uintptr) { syscall.CloseOnExec(int(fd)) }
