package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/wire"
)

var _ runner.Runner = (*run)(nil)

// run is one process under go-plugin. go-plugin gets the handshake's line and
// nothing else of the output: it would parse stderr with a parser that a line
// can crash, and stop reading a stdout whose lines are long. It learns of the
// end from the process, not from its pipes, which a grandchild may hold open.
type run struct {
	exe     *executable
	starter *starter
	memory  int64 // most bytes of memory; 0: no limit
	output  *output

	env []string // go-plugin's variables last; set by prepare
	dir string   // the socket's, made by go-plugin; set by prepare

	handshakeRead  *io.PipeReader
	handshakeWrite *io.PipeWriter
	drains         sync.WaitGroup // the goroutines that read the pipes

	started atomic.Pointer[process] // set by Start, nil before and when it failed

	mu       sync.Mutex
	line     string // guarded by mu: the first line of stdout
	startErr error  // guarded by mu: why the process could not be started
}

// newRun returns a run that has not started anything.
func newRun(s *starter, exe *executable, spec *Spec, out *output) *run {
	r := &run{exe: exe, starter: s, memory: spec.MemoryMax, output: out, env: environment(spec)}
	r.env = append(r.env, wire.LogLevelVariable+"="+leastLevel(out.logger))
	r.handshakeRead, r.handshakeWrite = io.Pipe()
	return r
}

// prepare takes what go-plugin adds: its variables and the socket's directory.
func (r *run) prepare(_ hclog.Logger, cmd *exec.Cmd, dir string) (runner.Runner, error) {
	r.env, r.dir = append(r.env, cmd.Env...), dir
	return r, nil
}

// environment is what a plugin finds: a fixed minimum and what the
// configuration adds, and nothing of the agent's own.
func environment(spec *Spec) []string {
	env := []string{
		"PATH=/usr/local/bin:/usr/bin:/bin",
		"LANG=C.UTF-8",
		"TMPDIR=/tmp",
		"GOTRACEBACK=all",
		"GOMAXPROCS=" + strconv.Itoa(runtime.GOMAXPROCS(0)),
	}
	if spec.MemoryMax > 0 {
		env = append(env, "GOMEMLIMIT="+strconv.FormatInt(spec.MemoryMax/100*goMemoryShare, 10))
	}
	for name, value := range spec.Env {
		env = append(env, name+"="+value)
	}
	slices.Sort(env[len(env)-len(spec.Env):])
	return env
}

// leastLevel names the least level that the logger keeps, so that a plugin does
// not format what nobody reads.
func leastLevel(logger *slog.Logger) string {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn} {
		if logger.Enabled(context.Background(), level) {
			return strings.ToLower(level.String())
		}
	}
	return "error"
}

// Start starts the process and the goroutines that read its output.
func (r *run) Start(context.Context) error {
	p, err := r.starter.start(r.exe, nil, r.env, r.memory)
	if err != nil {
		r.mu.Lock()
		r.startErr = err
		r.mu.Unlock()
		return err
	}
	r.started.Store(p)
	r.drains.Go(func() { r.output.drain(p.stderr, p.stderr, true) })
	r.drains.Go(func() { r.drainStdout(p.stdout) })
	return nil
}

// drainStdout hands the first line to go-plugin and logs the rest.
func (r *run) drainStdout(stdout *os.File) {
	line, rest, err := readHandshake(stdout)
	r.mu.Lock()
	r.line = line
	r.mu.Unlock()
	if line != "" {
		// A closed reader only means that nobody waits for the line any more.
		_, _ = r.handshakeWrite.Write([]byte(line + "\n"))
	}
	r.handshakeWrite.Close()
	if err != nil {
		stdout.Close()
		return
	}
	r.output.drain(stdout, rest, false)
}

// finish frees what the run holds, once the process has ended.
func (r *run) finish() error {
	r.handshakeRead.Close()
	if p := r.started.Load(); p != nil {
		<-p.exited
		r.drains.Wait()
	}
	return os.RemoveAll(r.dir)
}

// handshake returns the first line of stdout, if it has been printed.
func (r *run) handshake() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.line
}

// failure says why the process could not be started.
func (r *run) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.startErr
}

// Diagnose has nothing to add: the host explains a failed start itself.
func (r *run) Diagnose(context.Context) string { return "" }

// Stdout is the handshake's line.
func (r *run) Stdout() io.ReadCloser { return r.handshakeRead }

// Stderr is empty for go-plugin.
func (r *run) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name is the plugin's file.
func (r *run) Name() string { return r.exe.path }

// Wait returns when the process has ended.
func (r *run) Wait(context.Context) error {
	<-r.started.Load().exited
	return nil
}

// Kill ends the process group.
func (r *run) Kill(context.Context) error {
	r.kill()
	return nil
}

// ID is the process id.
func (r *run) ID() string {
	pid := r.pid()
	if pid == 0 {
		return ""
	}
	return strconv.Itoa(pid)
}

// pid is the process id, which is the process group's too; 0 before the start.
func (r *run) pid() int {
	if p := r.started.Load(); p != nil {
		return p.pid()
	}
	return 0
}

// kill ends the process group, if there is one.
func (r *run) kill() {
	if p := r.started.Load(); p != nil {
		p.signal(unix.SIGKILL)
	}
}

// PluginToHost takes a unix socket in the run's own directory only: a plugin
// must not send the agent to another server.
func (r *run) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" {
		return "", "", fmt.Errorf("it listens on %q, want a unix socket", sanitize(network, 16))
	}
	if filepath.Dir(filepath.Clean(address)) != r.dir {
		return "", "", errors.New("its socket is not in the directory that PLUGIN_UNIX_SOCKET_DIR names")
	}
	return network, address, nil
}

// HostToPlugin passes addresses on: both ends see the same files.
func (r *run) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// endedByItself reports whether the process was started and ended without the
// host's doing. It has been killed or has ended.
func (r *run) endedByItself() bool {
	p := r.started.Load()
	return p != nil && p.endedByItself()
}
