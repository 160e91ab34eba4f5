package plugintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-plugin/runner"

	"github.com/barnabas-agent/barnabas/core/wire"
)

var _ runner.Runner = (*run)(nil)

// run is one process under go-plugin. Like the agent it reads all that the
// process writes, gives go-plugin the handshake's line alone, and counts the rest.
type run struct {
	command  *exec.Cmd
	folder   string   // of the socket, made by go-plugin
	lifeline *os.File // this end, owned; closing it tells the plugin that the agent is gone

	handshake *io.PipeReader
	tell      *io.PipeWriter

	exited chan struct{} // closed once the process has ended and its output has been read
	once   sync.Once     // guards the end of the lifeline

	mu     sync.Mutex
	killed bool // guarded by mu: the process did not end by itself
}

// newRun returns a run that has not started anything. What the process writes
// behind the handshake's line goes to stdout and stderr.
func newRun(command *exec.Cmd, folder string, stdout, stderr io.Writer) (*run, error) {
	plugins, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	command.ExtraFiles = []*os.File{plugins}
	command.Env = append(command.Env, wire.LifelineVariable+"=3")
	leadGroup(command)
	command.WaitDelay = time.Second // a child of the plugin may hold the pipes open
	r := &run{command: command, folder: folder, lifeline: ours, exited: make(chan struct{})}
	r.handshake, r.tell = io.Pipe()
	command.Stdout, command.Stderr = &firstLine{to: r.tell, rest: stdout}, stderr
	return r, nil
}

// Start starts the process and the goroutine that waits for it.
func (r *run) Start(context.Context) error {
	err := r.command.Start()
	r.command.ExtraFiles[0].Close() // the child has its own
	if err != nil {
		r.tell.Close()
		close(r.exited)
		return err
	}
	go func() {
		defer close(r.exited)
		_ = r.command.Wait() // how it ended is in ProcessState
		r.tell.Close()
	}()
	return nil
}

// Wait returns when the process has ended.
func (r *run) Wait(context.Context) error {
	<-r.exited
	return nil
}

// Kill ends the process and what it started.
func (r *run) Kill(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.exited:
		return nil
	default:
	}
	if r.command.Process == nil {
		return nil
	}
	r.killed = true
	return killGroup(r.command.Process)
}

// wasKilled reports whether Kill had to end the process.
func (r *run) wasKilled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.killed
}

// cutLifeline tells the plugin that the agent is gone.
func (r *run) cutLifeline() {
	r.once.Do(func() { _ = r.lifeline.Close() })
}

// end ends the process, if it still runs, and frees what the run holds.
func (r *run) end() {
	_ = r.Kill(context.Background())
	if r.command.Process != nil {
		<-r.exited
	}
	r.cutLifeline()
	_ = r.handshake.Close()
	_ = os.RemoveAll(r.folder)
}

// cpu is the processor time that the process has used so far.
func (r *run) cpu() (time.Duration, error) { return processorTime(r.command.Process.Pid) }

// processorTime reads user and system time of a process from Linux's /proc/PID/stat
// (proc(5)): fields 14 and 15, in hundredths of a second, the kernel's USER_HZ.
func processorTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read the processor time of a process: %w", err)
	}
	// The name before the last ")" may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const user, system = 14 - 3, 15 - 3
	if len(fields) <= system {
		return 0, errors.New("read the processor time of a process: too few fields in its stat")
	}
	var ticks time.Duration
	for _, field := range []string{fields[user], fields[system]} {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the processor time of a process: %w", err)
		}
		ticks += time.Duration(n)
	}
	return ticks * 10 * time.Millisecond, nil
}

// Diagnose has nothing to add: the error shows what the process wrote.
func (*run) Diagnose(context.Context) string { return "" }

// Stdout is the handshake's line.
func (r *run) Stdout() io.ReadCloser { return r.handshake }

// Stderr is empty for go-plugin.
func (*run) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name is the plugin's file.
func (r *run) Name() string { return r.command.Path }

// ID is the process id.
func (r *run) ID() string {
	if r.command.Process == nil {
		return ""
	}
	return strconv.Itoa(r.command.Process.Pid)
}

// PluginToHost takes a unix socket in the folder that was made for it, as the agent does.
func (r *run) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" || filepath.Dir(filepath.Clean(address)) != filepath.Clean(r.folder) {
		return "", "", fmt.Errorf("it listens at %q, want a unix socket in the folder that PLUGIN_UNIX_SOCKET_DIR names", network+" "+address)
	}
	return network, address, nil
}

// HostToPlugin passes addresses on.
func (*run) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// firstLine gives the first line to one reader and the rest to another. One
// goroutine, that of exec.Cmd, writes to it.
type firstLine struct {
	to    *io.PipeWriter
	rest  io.Writer
	begun []byte
	done  bool
}

// maxHandshake bounds the handshake's line in bytes.
const maxHandshake = 4 << 10

// Write never fails: a plugin's output is read whatever becomes of it.
func (f *firstLine) Write(b []byte) (int, error) {
	if f.done {
		return f.rest.Write(b)
	}
	f.begun = append(f.begun, b...)
	end := bytes.IndexByte(f.begun, '\n') + 1
	switch {
	case end > 0:
	case len(f.begun) < maxHandshake:
		return len(b), nil
	default:
		end = maxHandshake
	}
	f.done = true
	_, _ = f.to.Write(f.begun[:end]) // go-plugin may have given up
	_ = f.to.Close()
	_, _ = f.rest.Write(f.begun[end:])
	f.begun = nil
	return len(b), nil
}

// tail counts what a process writes and keeps the end of it. It is safe for concurrent use.
type tail struct {
	mu    sync.Mutex
	kept  []byte // guarded by mu
	total int64  // guarded by mu: bytes
}

var _ io.Writer = (*tail)(nil)

// tailLength is how many bytes are kept.
const tailLength = 4 << 10

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total += int64(len(b))
	t.kept = append(t.kept, b...)
	if len(t.kept) > tailLength {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-tailLength:]...)
	}
	return len(b), nil
}

// bytes is how many bytes were written.
func (t *tail) bytes() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total
}

// String begins on a line of its own, and is empty for a silent process.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) == 0 {
		return ""
	}
	return "\nit wrote: " + strings.TrimSpace(string(t.kept))
}
