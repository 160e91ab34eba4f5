package pluginhost

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

func crashesInMidBatch(t *testing.T, f *hostileFixture) {
	for behaviour, says := range map[string]string{
		"panics": "the batch is too hot", "segfaults": "SIGSEGV", "exits at work": "exit status 0", "is killed": "signal: killed",
	} {
		t.Run(behaviour, func(t *testing.T) {
			spec := f.once(behaviour)
			spec.Env["HOSTILE_MARKER"] += behaviour
			s := f.start(t, spec)
			wantNumbered(t, live(pass(t, s, 0, numbered(10, 10)...)), 100, "")
			wantRestarts(t, s, 1)
			f.wantLogged(t, says)
		})
	}
}

func hangsAndStops(t *testing.T, f *hostileFixture) {
	for _, behaviour := range []string{"hangs", "stops"} {
		t.Run(behaviour, func(t *testing.T) {
			spec := f.once(behaviour)
			spec.Env["HOSTILE_MARKER"] += behaviour
			spec.Timeout = time.Second
			s := f.start(t, spec)
			began := time.Now()
			wantNumbered(t, live(pass(t, s, 0, numbered(10, 10)...)), 100, "")
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("it took %s with a timeout of 1 s", took)
			}
			wantRestarts(t, s, 1)
			f.wantLogged(t, "was not answered within 1s")
		})
	}
}

func grandchildHoldsThePipes(t *testing.T, f *hostileFixture) {
	spec := f.once("forks")
	s := f.start(t, spec)
	grandchild := readNumber(t, f.marker()+".grandchild")
	defer kill(t, grandchild, syscall.SIGKILL)
	first := s.Status().PID
	kill(t, first, syscall.SIGKILL)
	eventually(t, 10*time.Second, func() bool { return s.Status().State == Ready && s.Status().PID != first })
	defer kill(t, readNumber(t, f.marker()+".grandchild"), syscall.SIGKILL)
	wantNumbered(t, live(pass(t, s, 0, numbered(3, 10)...)), 30, "")
	began := time.Now()
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("Close took %s", took)
	}
}

// readNumber reads a process id that a plugin has written.
func readNumber(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func isSlow(t *testing.T, f *hostileFixture) {
	spec := f.always("is slow") // 100 ms for each batch
	spec.Timeout = 3 * time.Second
	s := f.start(t, spec)
	in, out := make(chan *record.Batch), make(chan *record.Batch, 20)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context(), 0, in, out) }()
	for n, b := range numbered(20, 10) {
		in <- b
		if held := n + 1 - len(out); held > window+2 {
			t.Errorf("the stage took %d batches that it had not handed on", held)
		}
	}
	close(in)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	close(out)
	var got []*record.Batch
	for b := range out {
		got = append(got, b)
	}
	wantNumbered(t, live(got), 200, "")
	wantRestarts(t, s, 0)
}

func floodsStderr(t *testing.T, f *hostileFixture) { floods(t, f, "floods stderr") }

func floodsStdout(t *testing.T, f *hostileFixture) { floods(t, f, "floods stdout") }

func floods(t *testing.T, f *hostileFixture, behaviour string) {
	spec := f.once(behaviour)
	spec.Timeout = 20 * time.Second
	s := f.start(t, spec)
	wantNumbered(t, live(pass(t, s, 0, numbered(10, 10)...)), 100, "")
	wantRestarts(t, s, 0)
	if err := s.Close(context.Background()); err != nil { // so that all is logged
		t.Fatal(err)
	}
	f.wantLogged(t, "prints too much", "fields.pipeline=forged")
	logs := f.logs.String()
	if strings.ContainsAny(logs, "\x1b\r") || strings.Contains(logs, " pipeline=forged") || strings.Contains(logs, "\nlevel=error") {
		t.Error("the plugin forged a part of the log")
	}
	if len(logs) > 4<<20 || strings.Count(logs, "\n") > 2000 {
		t.Errorf("%d bytes and %d lines were logged", len(logs), strings.Count(logs, "\n"))
	}
}

func poisonRecord(t *testing.T, f *hostileFixture) {
	s := f.start(t, f.on("v57", "panics"))
	failed := wantBlamed(t, pass(t, s, 0, numbered(10, 10)...), "v57", codeCrash)
	if !strings.Contains(failed.Message, "the batch is too hot") {
		t.Errorf("the failure %q lacks the crash output", failed.Message)
	}
	if n := s.Status().Restarts; n > 8 {
		t.Errorf("%d restarts to find one record of ten", n)
	}
	if state := s.Status().State; state == Broken {
		t.Errorf("state %s", state)
	}
}

func restartStorm(t *testing.T, f *hostileFixture) {
	path := f.own(t, "interceptor")
	if _, _, err := f.Describe(t.Context(), f.always("")); err != nil { // else the first start is to ask
		t.Fatal(err)
	}
	s := f.start(t, f.once("exits at its second start"))
	kill(t, s.Status().PID, syscall.SIGKILL)
	eventually(t, 30*time.Second, func() bool { return s.Status().State == Broken })
	if last := s.Status().LastError; !strings.Contains(last, "no licence found") {
		t.Errorf("the status does not say why: %q", last)
	}
	if n := strings.Count(f.logs.String(), "does not start"); n > 10 {
		t.Errorf("%d starts before the breaker opened", n)
	}
	if err := os.Remove(f.marker()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := os.Chtimes(path, now, now); err != nil { // a repaired plugin is tried at once
		t.Fatal(err)
	}
	wantNumbered(t, live(pass(t, s, 0, numbered(3, 10)...)), 30, "")
}

func outOfMemoryInGroup(t *testing.T, f *hostileFixture) {
	if _, err := f.starter.groups.find(); err != nil {
		t.Logf("no control group here, RLIMIT_DATA stands in: %v", err)
	}
	outOfMemory(t, f)
	t.Run("by one record", func(t *testing.T) {
		spec := f.on("v57", "takes memory")
		spec.MemoryMax, spec.Timeout = 192<<20, 30*time.Second
		wantBlamed(t, pass(t, f.start(t, spec), 0, numbered(10, 10)...), "v57", codeCrash)
	})
}

func outOfMemoryWithLimit(t *testing.T, f *hostileFixture) {
	f.starter.groups.once.Do(func() { f.starter.groups.err = errors.New("none for this test") })
	outOfMemory(t, f)
	f.wantLogged(t, "RLIMIT_DATA")
}

func outOfMemory(t *testing.T, f *hostileFixture) {
	spec := f.once("takes memory")
	spec.MemoryMax, spec.Timeout = 192<<20, 30*time.Second
	s := f.start(t, spec)
	wantNumbered(t, live(pass(t, s, 0, numbered(10, 10)...)), 100, "")
	wantRestarts(t, s, 1)
	f.wantLogged(t, "memory_max is in force")
	if logs := f.logs.String(); !strings.Contains(logs, "more than memory_max") && !strings.Contains(logs, "out of memory") && !strings.Contains(logs, "cannot allocate memory") {
		t.Error("the log does not say that memory ran out")
	}
}

func leaksSlowly(t *testing.T, f *hostileFixture) {
	spec := f.always("leaks") // 30 MiB for each batch
	spec.MemoryMax, spec.Timeout = 192<<20, 30*time.Second
	s := f.start(t, spec)
	wantNumbered(t, live(pass(t, s, 0, numbered(15, 10)...)), 150, "")
	if n := s.Status().Restarts; n < 2 || n > 8 {
		t.Errorf("%d restarts for 450 MiB in processes of 192 MiB", n)
	}
}

func forkBomb(t *testing.T, f *hostileFixture) {
	spec := f.once("forks a bomb")
	spec.MemoryMax, spec.Timeout = 1<<30, 8*time.Second
	s := f.start(t, spec)
	wantNumbered(t, live(pass(t, s, 0, numbered(10, 10)...)), 100, "")
	wantRestarts(t, s, 1)
	text, err := os.ReadFile(f.marker() + ".children")
	if err != nil {
		t.Fatal(err)
	}
	children := strings.Fields(string(text))
	if where, err := f.starter.groups.find(); err == nil && where.pids != "" && len(children) >= mostTasks {
		t.Errorf("it started %d children in a group of at most %d tasks", len(children), mostTasks)
	}
	if len(children) == 0 {
		t.Error("it started no children")
	}
	for _, child := range children {
		pid, err := strconv.Atoi(child)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, func() bool { return !alive(pid) })
	}
}

// restartsVariable raises the number of restarts for a long run.
const restartsVariable = "BARNABAS_TEST_RESTARTS"

func leaksNothing(t *testing.T, f *hostileFixture) {
	restarts := 50
	if text := os.Getenv(restartsVariable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		restarts = n
	}
	spec := f.always("")
	spec.MemoryMax = 256 << 20
	s := f.NewStage(spec)
	restart := func() {
		i, err := s.bringUp(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pid := i.pid()
		kill(t, pid, syscall.SIGKILL)
		i.discard()
		if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid))); err == nil {
			t.Errorf("process %d is still there", pid)
		}
	}
	for range 5 {
		restart()
	}
	runtime.GC()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for range restarts {
		restart()
	}
	eventually(t, 5*time.Second, func() bool { runtime.GC(); return runtime.NumGoroutine() <= goroutines+2 })
	if n := openFiles(t); n > files+2 {
		t.Errorf("%d open files after %d restarts, %d before", n, restarts, files)
	}
	if left, _ := filepath.Glob(filepath.Join(f.Host.dir, "plugin-dir*")); len(left) > 0 {
		t.Errorf("socket directories left: %v", left)
	}
	if where, err := s.host.starter.groups.find(); err == nil {
		if left, _ := filepath.Glob(filepath.Join(where.memory, groupPrefix+strconv.Itoa(os.Getpid())+"-*")); len(left) > 0 {
			t.Errorf("control groups left: %v", left)
		}
	}
}
