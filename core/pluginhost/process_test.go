package pluginhost

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// alive reports whether a process exists and is no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestPluginSeesNothingOfTheAgent(t *testing.T) {
	t.Setenv("KAFKA_PASSWORD", "hunter2")
	f := newFixture(t)
	shown := filepath.Join(f.dir, "environment")
	spec := f.spec(Interceptor, "trial", trial{ShowEnv: shown})
	spec.Env["REGION"] = "north"
	f.start(t, spec)
	text, err := os.ReadFile(shown)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "hunter2") {
		t.Error("a variable of the agent reached the plugin")
	}
	for _, want := range []string{"PATH=/usr/local/bin:/usr/bin:/bin", "REGION=north", "GOTRACEBACK=all", "BARNABAS_LIFELINE_FD=3"} {
		if !strings.Contains("\n"+string(text)+"\n", "\n"+want+"\n") {
			t.Errorf("the environment lacks %s", want)
		}
	}
}

func TestGrandchildThatHoldsThePipesDelaysNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	marker := filepath.Join(f.dir, "marker")
	s := f.start(t, f.spec(Interceptor, "trial", trial{Fork: true, Marker: marker}))
	pid, err := os.ReadFile(marker)
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := strconv.Atoi(string(pid))
	if err != nil {
		t.Fatal(err)
	}
	defer kill(t, grandchild, syscall.SIGKILL)
	first, killed := s.Status().PID, time.Now()
	kill(t, first, syscall.SIGKILL)
	eventually(t, 5*time.Second, func() bool {
		status := s.Status()
		return status.State == Ready && status.PID != first
	})
	if took := time.Since(killed); took > 4*time.Second {
		t.Errorf("the new process was ready after %s", took)
	}
	closing := time.Now()
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(closing); took > 4*time.Second {
		t.Errorf("Close took %s", took)
	}
}

func TestRestartsLeakNothing(t *testing.T) {
	f := newFixture(t)
	s := f.start(t, f.spec(Interceptor, "trial", trial{Suffix: "!"}))
	restart := func() {
		i, err := s.bringUp(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i.run.kill()
		i.discard()
	}
	for range 5 {
		restart()
	}
	wantNumbered(t, live(pass(t, s, 0, numbered(5, 10)...)), 50, "!")
	runtime.GC()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for range 50 {
		restart()
	}
	eventually(t, 5*time.Second, func() bool { runtime.GC(); return runtime.NumGoroutine() <= goroutines+2 })
	if n := openFiles(t); n > files+2 {
		t.Errorf("%d open files after 50 restarts, %d before", n, files)
	}
	if left, _ := filepath.Glob(filepath.Join(f.Host.dir, "plugin-dir*")); len(left) > 1 {
		t.Errorf("socket directories left: %v", left)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// hostThatIsKilled is the main of an agent that starts a plugin, says its
// process id, and waits to be killed.
func hostThatIsKilled() {
	host, err := Open(Options{RunDir: os.Args[1], Exec: execSelf(), Logger: discard(), Metrics: newMetrics()})
	if err != nil {
		panic(err)
	}
	s := host.NewStage(Spec{Pipeline: "p", Stage: "s", Kind: Interceptor, Plugin: os.Args[2], Dir: filepath.Dir(os.Args[0])})
	if err := s.Start(context.Background()); err != nil {
		panic(err)
	}
	os.Stdout.WriteString(strconv.Itoa(s.Status().PID) + "\n")
	waitForEver()
}

func TestPluginDiesWithTheAgent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	runDir := shortDir(t)
	agent := exec.Command(filepath.Join(f.dir, "host-that-is-killed"), runDir, "trial")
	agent.Stderr = os.Stderr
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if !alive(pid) {
		t.Fatal("the plugin does not run")
	}
	agent.Process.Kill()
	eventually(t, time.Second, func() bool { return !alive(pid) })
	agent.Wait()

	if left, _ := filepath.Glob(filepath.Join(runDir, hostDirPrefix+"*")); len(left) != 1 {
		t.Fatalf("the killed agent left %v, want its directory", left)
	}
	next, err := Open(Options{RunDir: runDir, Exec: execSelf(), Logger: discard(), Metrics: newMetrics()})
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(runDir, hostDirPrefix+"*")); len(left) != 1 || left[0] != next.dir {
		t.Errorf("the next agent finds %v, want its own directory %s", left, next.dir)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
}

func TestLongRunDirIsReplacedByAShortOne(t *testing.T) {
	t.Parallel()
	host, err := Open(Options{RunDir: filepath.Join(t.TempDir(), strings.Repeat("d", 100)), Exec: execSelf(), Logger: discard(), Metrics: newMetrics()})
	if err != nil {
		t.Fatal(err)
	}
	if len(host.dir) > maxHostDirBytes {
		t.Errorf("%s is too long for sockets", host.dir)
	}
	if info, err := os.Stat(host.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is not private: %v %v", info, err)
	}
	if err := host.Close(); err != nil {
		t.Error(err)
	}
}
