package process_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/barnabas-agent/barnabas/test/process"
)

// parentVariable makes the test binary a program that starts another, prints its
// process id, and waits to be killed.
const parentVariable = "BARNABAS_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentVariable) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	child, err := process.Start(exec.Command("sleep", "600"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(child.Pid())
	<-child.Ended()
}

// awaitGone waits until no process has the id; a zombie counts as gone.
func awaitGone(t *testing.T, pid int) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(10 * time.Second)
	for {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("process %d is still there: %s", pid, state)
		}
	}
}

func TestProgramDiesWithItsParent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(self)
	parent.Env = append(os.Environ(), parentVariable+"=1")
	output, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(child, 0); err != nil {
		t.Fatalf("the child does not run: %v", err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, child)
	_ = parent.Wait() // killed
}

func TestStopEndsCleanlyEvenWhenPaused(t *testing.T) {
	p, err := process.Start(exec.Command("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.01; done"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	state, err := p.Wait(context.Background())
	// The trap may not be set yet: then the signal itself ends the shell.
	if err != nil || p.Running() || state.ExitCode() != 7 && state.ExitCode() != -1 {
		t.Fatalf("%v, %v", state, err)
	}
	if err := p.Stop(time.Second); err != nil {
		t.Fatalf("stopping what has ended: %v", err)
	}
	if err := p.Signal(syscall.SIGTERM); err == nil {
		t.Fatal("a signal to what has ended is taken")
	}
}

func TestStopKillsTheGroupOfWhatDoesNotEnd(t *testing.T) {
	command := exec.Command("sh", "-c", "trap '' TERM; sleep 600 & echo $!; wait")
	output, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	command.Stdout = feed
	p, err := process.Start(command)
	if err != nil {
		t.Fatal(err)
	}
	feed.Close()
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(50 * time.Millisecond); err == nil {
		t.Fatal("a program that ignores SIGTERM is said to have ended by it")
	}
	awaitGone(t, p.Pid())
	awaitGone(t, grandchild)
}

func TestMissingProgramIsAnError(t *testing.T) {
	if _, err := process.Start(exec.Command("/no/such/program")); err == nil {
		t.Fatal("started")
	}
}
