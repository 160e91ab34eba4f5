// Package endtoend drives the real agent, with real plugin processes, against a
// broker, and checks what arrives with a ledger. It runs the binaries that
// `make build` makes.
package endtoend

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/test/process"
)

// root returns the folder of the module.
func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// binary returns the agent's binary.
func binary(t testing.TB) string {
	t.Helper()
	path := filepath.Join(root(t), "bin", "barnabas")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	return path
}

// agent is a configured agent and its latest process.
type agent struct {
	t       testing.TB
	dir     string // holds the configuration, the logs that are tailed, and the state
	config  string
	logFile string // of the latest process
	starts  int
	process *process.Process
}

// newAgent writes the configuration, in which %DIR% is the test's folder and
// %PLUGINS% the built plugins'.
func newAgent(t testing.TB, configuration string) *agent {
	t.Helper()
	dir := t.TempDir()
	a := &agent{t: t, dir: dir, config: filepath.Join(dir, "agent.hcl")}
	configuration = strings.NewReplacer("%DIR%", dir, "%PLUGINS%", filepath.Join(root(t), "bin", "plugins")).Replace(configuration)
	if err := os.WriteFile(a.config, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// start runs the agent. It is killed at the end of the test if it still runs.
func (a *agent) start() {
	a.t.Helper()
	a.starts++
	a.logFile = filepath.Join(a.dir, fmt.Sprintf("agent-%d.log", a.starts))
	out, err := os.Create(a.logFile)
	if err != nil {
		a.t.Fatal(err)
	}
	defer out.Close()
	command := exec.Command(binary(a.t), "run", "--config", a.config)
	command.Dir, command.Stdout, command.Stderr = a.dir, out, out
	a.process, err = process.Start(command)
	if err != nil {
		a.t.Fatal(err)
	}
	running := a.process
	a.t.Cleanup(func() {
		running.Kill()
		if a.t.Failed() {
			a.t.Logf("log of the agent, its end:\n%s", a.tail(40))
		}
	})
}

// tail returns the last lines of the latest process's log.
func (a *agent) tail(lines int) string {
	text, err := os.ReadFile(a.logFile)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// waitLog waits for a line in the latest process's log and returns it.
func (a *agent) waitLog(pattern string, timeout time.Duration) string {
	a.t.Helper()
	expression := regexp.MustCompile(pattern)
	var found string
	a.waitFor("a log line "+pattern, timeout, func() bool {
		text, err := os.ReadFile(a.logFile)
		if err != nil {
			a.t.Fatal(err)
		}
		lines := bufio.NewScanner(bytes.NewReader(text))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if expression.Match(lines.Bytes()) {
				found = lines.Text()
				return true
			}
		}
		return false
	})
	return found
}

// waitFor waits until a condition holds.
func (a *agent) waitFor(what string, timeout time.Duration, holds func() bool) {
	a.t.Helper()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			a.t.Fatalf("waited %s for %s", timeout, what)
		}
	}
}

// stop ends the agent with SIGTERM and returns its exit code.
func (a *agent) stop(timeout time.Duration) int {
	a.t.Helper()
	if err := a.process.Signal(syscall.SIGTERM); err != nil {
		a.t.Fatal(err)
	}
	return a.wait(timeout)
}

// wait waits until the agent has ended and returns its exit code.
func (a *agent) wait(timeout time.Duration) int {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	state, err := a.process.Wait(ctx)
	if err != nil {
		a.t.Fatalf("the agent did not end within %s: %v", timeout, err)
	}
	return state.ExitCode()
}

// kill ends the agent with SIGKILL, and only it: its plugins have to notice.
func (a *agent) kill() {
	a.t.Helper()
	if err := a.process.Signal(syscall.SIGKILL); err != nil {
		a.t.Fatal(err)
	}
	<-a.process.Ended()
}

// command runs another command of the agent's binary and returns its output and exit code.
func (a *agent) command(args ...string) (stdout, stderr string, code int) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, binary(a.t), args...)
	c.Dir = a.dir
	var out, err bytes.Buffer
	c.Stdout, c.Stderr = &out, &err
	if failed := c.Run(); failed != nil && c.ProcessState == nil {
		a.t.Fatal(failed)
	}
	return out.String(), err.String(), c.ProcessState.ExitCode()
}

// plugins returns the agent's plugin processes by the name of their binary.
func (a *agent) plugins() map[string]int {
	a.t.Helper()
	found := make(map[string]int)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		a.t.Fatal(err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// Processes come and go: what can't be read is none of ours.
		if parent(pid) != a.process.Pid() {
			continue
		}
		arguments, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err != nil || len(arguments) == 0 {
			continue
		}
		name, _, _ := bytes.Cut(arguments, []byte{0})
		found[filepath.Base(string(name))] = pid
	}
	return found
}

// parent returns the parent of a process, 0 when it is gone.
func parent(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if value, is := strings.CutPrefix(line, "PPid:"); is {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err == nil {
				return n
			}
		}
	}
	return 0
}

// residentBytes returns a process's peak resident memory.
func residentBytes(t testing.TB, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, is := strings.CutPrefix(line, "VmHWM:"); is {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmHWM in the status")
	return 0
}
