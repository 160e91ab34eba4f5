package pluginhost

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/wire"
)

// process is one run of a plugin's file, in a process group of its own. It ends
// with the agent in every case: the kernel kills it when the thread that
// started it ends, and its lifeline reaches end of file.
type process struct {
	cmd      *exec.Cmd
	stdout   *os.File      // read end, closed by whoever reads it
	stderr   *os.File      // read end, closed by whoever reads it
	lifeline *os.File      // write end, closed with the process
	group    *controlGroup // removed with the process; nil: none

	exited chan struct{} // closed by wait once the process is reaped and its group killed

	mu     sync.Mutex
	reaped bool   // guarded by mu: the process id may belong to another process
	killed bool   // guarded by mu: SIGKILL was sent before the end was seen
	excess string // set before exited is closed: what it took too much of
}

// starter starts processes of plugins.
type starter struct {
	command []string // ends in Exec
	groups  *controlGroups
}

// start runs the opened file with the given arguments and environment, and with
// at most so much memory; 0: no limit. It returns once the plugin itself runs.
func (s *starter) start(exe *executable, args, env []string, memory int64) (*process, error) {
	limits, err := s.limit(memory)
	if err != nil {
		return nil, fmt.Errorf("start plugin %q: %w", exe.plugin, err)
	}
	p, report, err := s.startExec(exe, args, env, limits)
	if err != nil {
		limits.group.remove()
		return nil, exe.startError(err)
	}
	if failed := readReport(report); failed != nil {
		p.signal(unix.SIGKILL)
		<-p.exited
		closeFiles(p.stdout, p.stderr)
		return nil, failed.explain(exe)
	}
	return p, nil
}

// startExec starts the process that becomes the plugin. On an error nothing is left but the control group.
func (s *starter) startExec(exe *executable, args, env []string, limits limits) (p *process, report *os.File, err error) {
	order, err := json.Marshal(execOrder{Parent: os.Getpid(), Script: !exe.elf, Cgroups: len(limits.group.entrances()), Data: limits.data})
	if err != nil {
		return nil, nil, err
	}
	pipes, err := newPipes()
	if err != nil {
		return nil, nil, err
	}
	self := append(append(slices.Clone(s.command), string(order), exe.path), args...)
	cmd := &exec.Cmd{
		Path: s.command[0],
		Args: self,
		Env: append(env, wire.LifelineVariable+"="+strconv.Itoa(lifelineFD),
			wire.AgentVariable+"="+strconv.Itoa(os.Getpid())),
		Stdout:     pipes.stdoutWrite,
		Stderr:     pipes.stderrWrite,
		ExtraFiles: append([]*os.File{pipes.lifelineRead, pipes.reportWrite, exe.file}, limits.group.entrances()...),
		SysProcAttr: &syscall.SysProcAttr{
			Setpgid:   true,
			Pdeathsig: syscall.SIGKILL,
		},
	}
	p = &process{
		cmd: cmd, stdout: pipes.stdoutRead, stderr: pipes.stderrRead, lifeline: pipes.lifelineWrite,
		group: limits.group, exited: make(chan struct{}),
	}
	started := make(chan error)
	go p.wait(started)
	err = <-started
	pipes.closeChildEnds()
	if err != nil {
		pipes.closeHostEnds()
		return nil, nil, err
	}
	return p, pipes.reportRead, nil
}

// readReport waits until the process has become the plugin, which ends the
// report, or says why it could not. It closes the report.
func readReport(report *os.File) *execFailure {
	defer report.Close()
	// The deadline is for a file system that does not answer.
	if err := report.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return &execFailure{Step: "report", Text: err.Error()}
	}
	const mostReport = 16 << 10
	text, err := io.ReadAll(io.LimitReader(report, mostReport))
	if err != nil {
		return &execFailure{Step: stepExecute, Text: err.Error()}
	}
	if len(text) == 0 {
		return nil
	}
	failed := &execFailure{}
	if err := json.Unmarshal(text, failed); err != nil {
		return &execFailure{Step: "report", Text: err.Error()}
	}
	return failed
}

// explain makes the failure an error about the plugin's file, where it is at fault.
func (f *execFailure) explain(exe *executable) error {
	if f.Step != stepExecute {
		return exe.errorf(Failed, "check the agent's limits of processes, files and memory", "its process can't %s: %s", f.Step, sanitize(f.Text, maxProblem))
	}
	if f.Errno != 0 {
		return exe.startError(f.Errno)
	}
	return exe.startError(errors.New(f.Text))
}

// wait starts the process and reaps it. The death signal comes when the thread
// that started the process ends, not the agent (golang/go#27505), so the thread
// is kept until then.
func (p *process) wait(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	defer close(p.exited)
	awaitExit(p.pid())
	// The zombie still holds the process id, so the group can't be a stranger's.
	_ = unix.Kill(-p.pid(), unix.SIGKILL) // it may be empty
	p.excess = p.group.excess()
	p.mu.Lock()
	p.reaped = true
	p.mu.Unlock()
	// The exit status is read from ProcessState; an error here says nothing more.
	_ = p.cmd.Wait()
	p.lifeline.Close()
	p.group.remove()
	// A grandchild outside the group may hold the pipes open for ever.
	deadline := time.Now().Add(drainDeadline)
	for _, pipe := range []*os.File{p.stdout, p.stderr} {
		_ = pipe.SetReadDeadline(deadline) // it may be closed
	}
}

// awaitExit returns when the child has ended, and leaves it to be reaped.
func awaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// pid is the process id, and the id of its group.
func (p *process) pid() int { return p.cmd.Process.Pid }

// signal sends a signal to the process group, unless the process has been reaped.
func (p *process) signal(s unix.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return
	}
	p.killed = p.killed || s == unix.SIGKILL
	_ = unix.Kill(-p.pid(), s) // it may have ended
}

// endedByItself waits for the end and reports whether it was not the host's SIGKILL.
func (p *process) endedByItself() bool {
	<-p.exited
	p.mu.Lock()
	defer p.mu.Unlock()
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return !p.killed || !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL
}

// status says how the process ended; only after exited is closed.
func (p *process) status() string {
	state := p.cmd.ProcessState
	if state == nil {
		return "an unknown end"
	}
	if p.excess != "" {
		return state.String() + ", " + p.excess
	}
	return state.String()
}

// startError says why the kernel would not execute the file.
func (e *executable) startError(err error) error {
	var failed *Error
	switch {
	case errors.Is(err, unix.ENOEXEC), errors.Is(err, unix.ELIBBAD):
		failed = e.errorf(NotPlugin, "build the plugin for this machine ("+runtime.GOARCH+")", "%s is no program for this machine", e.path)
	case errors.Is(err, fs.ErrPermission):
		failed = e.errorf(NotExecutable, "check its mode, and that its file system is not mounted noexec", "%s may not be executed", e.path)
	case errors.Is(err, fs.ErrNotExist):
		failed = e.errorf(NotPlugin, "install the interpreter or loader that the file names in its first line or header", "the program that %s needs to run is missing", e.path)
	case errors.Is(err, unix.ETXTBSY):
		failed = e.errorf(NotExecutable, "install plugins under another name and rename them into place", "%s is being written to", e.path)
	default:
		failed = e.errorf(Failed, "check the agent's limits of processes, files and memory", "%s can't be started", e.path)
	}
	return failed.because(err)
}

// pipes are the pipes between the agent and a child.
type pipes struct {
	stdoutRead, stdoutWrite     *os.File
	stderrRead, stderrWrite     *os.File
	lifelineRead, lifelineWrite *os.File
	reportRead, reportWrite     *os.File
}

// newPipes makes all, or none.
func newPipes() (p *pipes, err error) {
	p = &pipes{}
	for _, pair := range [][2]**os.File{
		{&p.stdoutRead, &p.stdoutWrite}, {&p.stderrRead, &p.stderrWrite}, {&p.lifelineRead, &p.lifelineWrite},
		{&p.reportRead, &p.reportWrite},
	} {
		if *pair[0], *pair[1], err = os.Pipe(); err != nil {
			p.closeAll()
			return nil, err
		}
	}
	return p, nil
}

// closeChildEnds closes what only the child uses, once it has it.
func (p *pipes) closeChildEnds() {
	closeFiles(p.stdoutWrite, p.stderrWrite, p.lifelineRead, p.reportWrite)
}

// closeHostEnds closes what the process would own, had it started.
func (p *pipes) closeHostEnds() {
	closeFiles(p.stdoutRead, p.stderrRead, p.lifelineWrite, p.reportRead)
}

func (p *pipes) closeAll() {
	p.closeChildEnds()
	p.closeHostEnds()
}

// closeFiles closes what is open; a nil file's Close only returns an error.
func closeFiles(files ...*os.File) {
	for _, f := range files {
		f.Close()
	}
}
