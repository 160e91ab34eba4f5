package pluginhost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/wire"
)

// lifelineFD is the descriptor of the lifeline in the child: the first of exec.Cmd.ExtraFiles.
const lifelineFD = 3

// process is one run of a plugin's file, in a process group of its own. It ends
// with the agent in every case: the kernel kills it when the thread that
// started it ends, and its lifeline reaches end of file.
type process struct {
	cmd      *exec.Cmd
	stdout   *os.File // read end, closed by whoever reads it
	stderr   *os.File // read end, closed by whoever reads it
	lifeline *os.File // write end, closed with the process

	exited chan struct{} // closed by wait once the process is reaped and its group killed

	mu     sync.Mutex
	reaped bool // guarded by mu: the process id may belong to another process
	killed bool // guarded by mu: SIGKILL was sent before the end was seen
}

// startProcess runs the opened file with the given arguments and environment.
func startProcess(exe *executable, args, env []string) (*process, error) {
	pipes, err := newPipes()
	if err != nil {
		return nil, fmt.Errorf("start plugin %q: %w", exe.plugin, err)
	}
	path, release, err := exe.launchPath(pipes.highest())
	if err != nil {
		pipes.closeAll()
		return nil, fmt.Errorf("start plugin %q: %w", exe.plugin, err)
	}
	defer release()
	cmd := &exec.Cmd{
		Path:       path,
		Args:       append([]string{exe.path}, args...),
		Env:        append(env, wire.LifelineVariable+"="+strconv.Itoa(lifelineFD)),
		Stdout:     pipes.stdoutWrite,
		Stderr:     pipes.stderrWrite,
		ExtraFiles: []*os.File{pipes.lifelineRead},
		SysProcAttr: &syscall.SysProcAttr{
			Setpgid:   true,
			Pdeathsig: syscall.SIGKILL,
		},
	}
	p := &process{
		cmd: cmd, stdout: pipes.stdoutRead, stderr: pipes.stderrRead, lifeline: pipes.lifelineWrite,
		exited: make(chan struct{}),
	}
	started := make(chan error)
	go p.wait(started)
	err = <-started
	pipes.closeChildEnds()
	if err != nil {
		pipes.closeHostEnds()
		return nil, exe.startError(err)
	}
	return p, nil
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
	unix.Kill(-p.pid(), unix.SIGKILL)
	p.mu.Lock()
	p.reaped = true
	p.mu.Unlock()
	// The exit status is read from ProcessState; an error here says nothing more.
	_ = p.cmd.Wait()
	p.lifeline.Close()
	// A grandchild outside the group may hold the pipes open for ever.
	deadline := time.Now().Add(drainDeadline)
	p.stdout.SetReadDeadline(deadline)
	p.stderr.SetReadDeadline(deadline)
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
	unix.Kill(-p.pid(), s)
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
	return state.String()
}

// launchPath returns the path to execute. A program is executed through its
// open descriptor, so that what was checked is what runs; the descriptor closes
// on exec. Starting a child moves pipes to descriptors just above the highest
// that it hands over, so the program's is put out of reach of them.
func (e *executable) launchPath(highest int) (path string, release func(), err error) {
	if !e.elf {
		return e.path, func() {}, nil
	}
	const reach = 16
	fd, err := unix.FcntlInt(e.file.Fd(), unix.F_DUPFD_CLOEXEC, highest+reach)
	if err != nil {
		return "", nil, fmt.Errorf("duplicate the descriptor of %s: %w", e.path, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), func() { unix.Close(fd) }, nil
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

// pipes are the three pipes between the agent and a child.
type pipes struct {
	stdoutRead, stdoutWrite     *os.File
	stderrRead, stderrWrite     *os.File
	lifelineRead, lifelineWrite *os.File
}

// newPipes makes all three, or none.
func newPipes() (p *pipes, err error) {
	p = &pipes{}
	for _, pair := range [][2]**os.File{
		{&p.stdoutRead, &p.stdoutWrite}, {&p.stderrRead, &p.stderrWrite}, {&p.lifelineRead, &p.lifelineWrite},
	} {
		if *pair[0], *pair[1], err = os.Pipe(); err != nil {
			p.closeAll()
			return nil, err
		}
	}
	return p, nil
}

// highest is the highest descriptor of the pipes.
func (p *pipes) highest() int {
	highest := 0
	for _, f := range p.files() {
		// Not Fd: it would take the file out of the poller, and deadlines with it.
		raw, err := f.SyscallConn()
		if err != nil {
			continue
		}
		raw.Control(func(fd uintptr) { highest = max(highest, int(fd)) })
	}
	return highest
}

func (p *pipes) files() []*os.File {
	return []*os.File{p.stdoutRead, p.stdoutWrite, p.stderrRead, p.stderrWrite, p.lifelineRead, p.lifelineWrite}
}

// closeChildEnds closes what only the child uses, once it has it.
func (p *pipes) closeChildEnds() {
	closeFiles(p.stdoutWrite, p.stderrWrite, p.lifelineRead)
}

// closeHostEnds closes what the process would own, had it started.
func (p *pipes) closeHostEnds() {
	closeFiles(p.stdoutRead, p.stderrRead, p.lifelineWrite)
}

func (p *pipes) closeAll() { closeFiles(p.files()...) }

// closeFiles closes what is open; a nil file's Close only returns an error.
func closeFiles(files ...*os.File) {
	for _, f := range files {
		f.Close()
	}
}
