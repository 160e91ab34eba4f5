//go:build !unix

package plugintest

import (
	"os"
	"os/exec"
)

// leadGroup has nothing to do where there are no process groups.
func leadGroup(*exec.Cmd) {}

// killGroup ends a process.
func killGroup(leader *os.Process) error { return leader.Kill() }
