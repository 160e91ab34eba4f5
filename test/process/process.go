// Package process starts other programs for tests and benchmarks so that none
// of them outlives the program that started it.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is a running program in a process group of its own. It is killed when
// the program that started it dies, however that happens. All methods may be
// called concurrently.
type Process struct {
	pid   int
	name  string
	ended chan struct{}    // closed by the goroutine that awaits the program
	state *os.ProcessState // valid once ended is closed
}

// Start runs the command. It takes the command over: the caller neither waits
// for it nor changes it any more.
func Start(command *exec.Cmd) (*Process, error) {
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Setpgid = true
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &Process{name: command.Path, ended: make(chan struct{})}
	started := make(chan error)
	go p.run(command, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Path, err)
	}
	return p, nil
}

// run starts and awaits the command on one OS thread, because the kernel sends
// the death signal when the thread that forked ends, not when the process does.
func (p *Process) run(command *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := command.Start(); err != nil {
		started <- err
		return
	}
	p.pid = command.Process.Pid
	started <- nil
	_ = command.Wait() // how it ended is in the state
	p.state = command.ProcessState
	close(p.ended)
}

// Pid is the process id, which is also the id of its process group.
func (p *Process) Pid() int { return p.pid }

// Ended is closed when the process is gone and its output is read to the end.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Running says whether the process has not ended yet; a stopped one runs.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Signal sends the signal to the process alone. It fails when the process has ended.
func (p *Process) Signal(signal syscall.Signal) error {
	return p.send(p.pid, signal)
}

// SignalGroup sends the signal to the process and to all of its group.
func (p *Process) SignalGroup(signal syscall.Signal) error {
	return p.send(-p.pid, signal)
}

func (p *Process) send(target int, signal syscall.Signal) error {
	if !p.Running() {
		return fmt.Errorf("signal %s (pid %d): %w", p.name, p.pid, os.ErrProcessDone)
	}
	if err := syscall.Kill(target, signal); err != nil {
		return fmt.Errorf("signal %s (pid %d): %w", p.name, p.pid, err)
	}
	return nil
}

// Kill ends the whole group at once with SIGKILL and waits until the process
// is gone. It does nothing when the process has ended.
func (p *Process) Kill() {
	_ = p.SignalGroup(syscall.SIGKILL) // fails only when there is nothing to kill
	<-p.ended
}

// Stop asks the process to end with SIGTERM and waits until it is gone. After
// the timeout it kills the group and returns an error.
func (p *Process) Stop(timeout time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
			<-p.ended
			return nil
		}
		return err
	}
	_ = p.Signal(syscall.SIGCONT) // a stopped process takes no SIGTERM
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if _, err := p.Wait(ctx); err != nil {
		p.Kill()
		return fmt.Errorf("%s (pid %d) did not end within %s of SIGTERM", p.name, p.pid, timeout)
	}
	return nil
}

// Wait waits until the process is gone and returns how it ended.
func (p *Process) Wait(ctx context.Context) (*os.ProcessState, error) {
	select {
	case <-p.ended:
		return p.state, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for %s (pid %d): %w", p.name, p.pid, ctx.Err())
	}
}
