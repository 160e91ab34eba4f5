package pluginhost

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// debugged starts a plugin of the fixture as an author would under a debugger
// and returns its address.
func (f *fixture) debugged(t *testing.T) (pid int, address string) {
	t.Helper()
	c := exec.Command(filepath.Join(f.dir, "barnabas-interceptor-trial"), "debug")
	c.Env = append(os.Environ(), "TMPDIR="+shortDir(t))
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Signal(syscall.SIGTERM)
		if err := c.Wait(); err != nil {
			t.Errorf("the plugin under the debugger: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address = regexp.MustCompile(`unix://\S+socket`).FindString(line)
	if address == "" {
		t.Fatalf("no address in %q", line)
	}
	return c.Process.Pid, address
}

func TestAttachedPluginHasNoDeadlineAndIsNeverEnded(t *testing.T) {
	f := newFixture(t)
	pid, address := f.debugged(t)
	for range 2 { // one agent after the other
		spec := f.spec(Interceptor, "trial", trial{Suffix: "!", Nap: 300})
		spec.Timeout, spec.Attach = 100*time.Millisecond, address
		s := f.NewStage(spec)
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantNumbered(t, live(pass(t, s, 0, numbered(3, 10)...)), 30, "!")
		if status := s.Status(); status.PID != pid || status.State != Ready || status.Restarts != 0 {
			t.Errorf("status %+v, want process %d", status, pid)
		}
		if err := s.Reload(t.Context()); err == nil {
			t.Error("an attached plugin was reloaded")
		}
		if err := s.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if !alive(pid) {
			t.Fatal("the agent ended the plugin")
		}
	}
}

func TestNothingToAttachTo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, address := range []string{"unix:///nonexistent/socket", "relative", "localhost:1234"} {
		spec := f.spec(Interceptor, "trial", trial{})
		spec.Attach = address
		var refused *Error
		if err := f.NewStage(spec).Start(t.Context()); !errors.As(err, &refused) || refused.Hint == "" {
			t.Errorf("attach to %s: %v", address, err)
		}
	}
}
