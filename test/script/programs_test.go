package script

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/barnabas-agent/barnabas/test/process"
)

// programs are the processes that a scenario has started.
type programs struct {
	running map[string]*program
}

type programsKey struct{}

// program is a process whose output goes to NAME.out and NAME.err.
type program struct {
	*process.Process
	out, err string // files
}

func started(ts *testscript.TestScript, name string) *program {
	p := ts.Value(programsKey{}).(*programs).running[name]
	if p == nil {
		ts.Fatalf("no program %s was started", name)
	}
	return p
}

// command makes a command of the scenario's environment; the agent is found by its name.
func command(ts *testscript.TestScript, name string, args []string) *exec.Cmd {
	path := ts.Getenv("BARNABAS")
	if name != "barnabas" {
		for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
			if candidate := filepath.Join(dir, name); exists(candidate) {
				path = candidate
				break
			}
		}
	}
	c := exec.Command(path, args...)
	c.Args[0] = name
	c.Dir = ts.MkAbs(".")
	c.Env = []string{
		"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "TMPDIR=" + ts.Getenv("TMPDIR"),
		"CREDENTIALS_DIRECTORY=" + ts.Getenv("CREDENTIALS_DIRECTORY"), "TOKEN=" + ts.Getenv("TOKEN"),
	}
	return c
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// cmdBarnabas runs a command of the agent that ends by itself: with that code, within that time.
func cmdBarnabas(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, "barnabas CODE TIME [args...]")
	want, within := number(ts, args[0]), duration(ts, args[1])
	c := command(ts, "barnabas", args[2:])
	c.Stdout, c.Stderr = ts.Stdout(), ts.Stderr()
	p, err := process.Start(c)
	ts.Check(err)
	check(ts, p, "barnabas "+strings.Join(args[2:], " "), want, within)
}

// check awaits a process's end and compares its exit code.
func check(ts *testscript.TestScript, p *process.Process, name string, want int, within time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	state, err := p.Wait(ctx)
	if err != nil {
		p.Kill()
		ts.Fatalf("%s did not end within %s", name, within)
	}
	if code := state.ExitCode(); code != want {
		ts.Fatalf("%s ended with code %d, not %d (%s)", name, code, want, state)
	}
}

// cmdStart starts a program under a name; it is killed at the scenario's end.
func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, "start NAME PROGRAM [args...]")
	all := ts.Value(programsKey{}).(*programs)
	p := &program{out: ts.MkAbs(args[0] + ".out"), err: ts.MkAbs(args[0] + ".err")}
	out, err := os.Create(p.out)
	ts.Check(err)
	defer out.Close()
	errs, err := os.Create(p.err)
	ts.Check(err)
	defer errs.Close()
	c := command(ts, args[1], args[2:])
	c.Stdout, c.Stderr = out, errs
	p.Process, err = process.Start(c)
	ts.Check(err)
	ts.Defer(p.Kill)
	all.running[args[0]] = p
	ts.Setenv(strings.ToUpper(args[0])+"_PID", strconv.Itoa(p.Pid()))
}

// cmdSignal sends a signal to a program.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, "signal NAME SIGNAL")
	ts.Check(started(ts, args[0]).Signal(signalNamed(ts, args[1])))
}

func signalNamed(ts *testscript.TestScript, name string) syscall.Signal {
	signals := map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL,
		"STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
	}
	s, known := signals[name]
	if !known {
		ts.Fatalf("unknown signal %s", name)
	}
	return s
}

// cmdPlugins sends a signal to every plugin of an agent, or counts them.
func cmdPlugins(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, "plugins NAME SIGNAL")
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", started(ts, args[0]).Pid()))
	ts.Check(err)
	n := 0
	for _, file := range children {
		list, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended has no children
		}
		for pid := range strings.FieldsSeq(string(list)) {
			n++
			if err := syscall.Kill(number(ts, pid), signalNamed(ts, args[1])); err != nil && !errors.Is(err, syscall.ESRCH) {
				ts.Check(err)
			}
		}
	}
	if n == 0 {
		ts.Fatalf("%s has no plugins", args[0])
	}
}

// cmdEnds awaits the end of a program with that code, within that time.
func cmdEnds(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, "ends NAME CODE TIME")
	p := started(ts, args[0])
	check(ts, p.Process, args[0], number(ts, args[1]), duration(ts, args[2]))
	if leftovers := group(p.Pid()); leftovers != "" {
		ts.Fatalf("%s left processes behind: %s", args[0], leftovers)
	}
}

// group lists the processes of a group that has lost its leader.
func group(leader int) string {
	if err := syscall.Kill(-leader, 0); err != nil {
		return ""
	}
	return fmt.Sprintf("some of group %d", leader)
}

// cmdAwait waits until a file matches a regular expression.
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, "await FILE REGEXP TIME")
	expression, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	path := ts.MkAbs(args[0])
	var text []byte
	poll(ts, duration(ts, args[2]), func() bool {
		var err error
		text, err = os.ReadFile(path)
		return err == nil && expression.Match(text)
	}, func() string { return fmt.Sprintf("%s to match %s; it is:\n%s", args[0], args[1], tail(text)) })
}

func tail(text []byte) []byte {
	const most = 4 << 10
	return text[max(0, len(text)-most):]
}

// poll waits until a condition holds.
func poll(ts *testscript.TestScript, timeout time.Duration, holds func() bool, what func() string) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			ts.Fatalf("waited %s for %s", timeout, what())
		}
	}
}

// cmdPort sets $NAME to a port that is free now.
func cmdPort(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, "port NAME")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
	ts.Check(listener.Close())
}

func number(ts *testscript.TestScript, text string) int {
	n, err := strconv.Atoi(text)
	ts.Check(err)
	return n
}

func duration(ts *testscript.TestScript, text string) time.Duration {
	d, err := time.ParseDuration(text)
	ts.Check(err)
	return d
}

func unquote(ts *testscript.TestScript, text string) string {
	quoted, err := strconv.Unquote(`"` + string(bytes.ReplaceAll([]byte(text), []byte(`"`), []byte(`\"`))) + `"`)
	ts.Check(err)
	return quoted
}
