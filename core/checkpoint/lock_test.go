package checkpoint

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// lockHolderDir makes the test binary a second agent that takes the lock of a directory.
const lockHolderDir = "BARNABAS_TEST_LOCK_HOLDER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockHolderDir); dir != "" {
		holdLock(dir)
		return
	}
	os.Exit(m.Run())
}

// holdLock says "held" once it has the lock, and keeps it until stdin ends.
func holdLock(dir string) {
	if _, err := LockDirectory(dir); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("held")
	bufio.NewReader(os.Stdin).ReadString('\n')
}

func TestSecondAgentNamesTheHolder(t *testing.T) {
	dir := t.TempDir()
	first := exec.Command(os.Args[0])
	first.Env = append(os.Environ(), lockHolderDir+"="+dir)
	stdin, err := first.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := first.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stdin.Close(); first.Wait() }()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "held\n" {
		t.Fatalf("first agent: %q, %v", line, err)
	}

	begin := time.Now()
	_, err = LockDirectory(dir)
	var held *HeldError
	if !errors.As(err, &held) || held.PID != first.Process.Pid || !strings.Contains(err.Error(), fmt.Sprint(first.Process.Pid)) {
		t.Fatalf("error %v, holder %d", err, first.Process.Pid)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("it took %v", took)
	}

	if err := first.Process.Kill(); err != nil { // the lock ends with the process
		t.Fatal(err)
	}
	first.Wait()
	lock, err := LockDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestLockHoldsInsideOneProcess(t *testing.T) {
	dir := t.TempDir()
	lock, err := LockDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	var held *HeldError
	if _, err := LockDirectory(dir); !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Fatalf("second lock: %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := LockDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
}

func TestLockFileThatIsALinkIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc/hostname", dir+"/lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := LockDirectory(dir); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Fatalf("error %v", err)
	}
}
