//go:build unix

package plugintest

import (
	"os"
	"os/exec"
	"syscall"
)

// leadGroup makes a process the leader of a process group of its own.
func leadGroup(command *exec.Cmd) { command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killGroup ends a process and what it started.
func killGroup(leader *os.Process) error { return syscall.Kill(-leader.Pid, syscall.SIGKILL) }
