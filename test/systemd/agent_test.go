// Package systemd runs the agent as systemd does: against a notification socket of
// the test's own here, and, where that is asked for, as the packaged unit in a
// booted Debian. The agent is built with the points at which it can be stopped.
package systemd

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/crashpoint"
	"github.com/barnabas-agent/barnabas/test/process"
)

// period is the WatchdogSec of these tests.
const period = 2 * time.Second

// root returns the folder of the module.
func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// stoppable builds the agent with the points at which it can be stopped.
func stoppable(t testing.TB, path string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags=crashpoints", "-o", path, "./cmd/agent")
	c.Dir = root(t)
	if output, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

// manager is what systemd is to the agent: a socket that takes its notifications.
type manager struct {
	path string

	mu   sync.Mutex
	told []notification
}

type notification struct {
	at        time.Time
	variables []string
}

func newManager(t testing.TB) *manager {
	t.Helper()
	m := &manager{path: filepath.Join(t.TempDir(), "notify")}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		buffer := make([]byte, 64<<10)
		for {
			n, err := socket.Read(buffer)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.told = append(m.told, notification{time.Now(), strings.Split(string(buffer[:n]), "\n")})
			m.mu.Unlock()
		}
	})
	t.Cleanup(func() { socket.Close(); reading.Wait() })
	return m
}

// last returns when a variable came last that begins with prefix.
func (m *manager) last(prefix string) (variable string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range slices.Backward(m.told) {
		for _, v := range one.variables {
			if strings.HasPrefix(v, prefix) {
				return v, one.at
			}
		}
	}
	return "", time.Time{}
}

func (m *manager) has(prefix string) bool {
	_, at := m.last(prefix)
	return !at.IsZero()
}

// longestGap is the longest time without WATCHDOG=1 since READY=1, up to now.
func (m *manager) longestGap() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	var before time.Time
	var longest time.Duration
	for _, one := range m.told {
		ready, pet := slices.Contains(one.variables, "READY=1"), slices.Contains(one.variables, "WATCHDOG=1")
		if pet && !before.IsZero() {
			longest = max(longest, one.at.Sub(before))
		}
		if ready || pet && !before.IsZero() {
			before = one.at
		}
	}
	return max(longest, time.Since(before))
}

// unit is an agent under a manager.
type unit struct {
	*manager
	t       *testing.T
	dir     string
	process *process.Process
}

// startUnit runs the agent with this configuration; stopAt may name a point.
func startUnit(t *testing.T, binary, configuration, stopAt string) *unit {
	t.Helper()
	u := &unit{manager: newManager(t), t: t, dir: t.TempDir()}
	configuration = strings.ReplaceAll(configuration, "%PLUGINS%", filepath.Join(root(t), "bin", "plugins"))
	if err := os.WriteFile(filepath.Join(u.dir, "agent.hcl"), []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(u.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c := exec.Command(binary, "run", "--config", "agent.hcl")
	c.Dir, c.Stdout, c.Stderr = u.dir, log, log
	c.Env = []string{
		"PATH=" + os.Getenv("PATH"), "NOTIFY_SOCKET=" + u.path, fmt.Sprintf("WATCHDOG_USEC=%d", period.Microseconds()),
		crashpoint.StopVariable + "=" + stopAt,
	}
	if u.process, err = process.Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		u.process.Kill()
		if t.Failed() {
			t.Logf("log of the agent:\n%s", u.log())
		}
	})
	return u
}

func (u *unit) log() string {
	text, err := os.ReadFile(filepath.Join(u.dir, "log"))
	if err != nil {
		u.t.Fatal(err)
	}
	return string(text)
}

func (u *unit) append(file, text string) {
	u.t.Helper()
	f, err := os.OpenFile(filepath.Join(u.dir, file), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		u.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		u.t.Fatal(err)
	}
}

func (u *unit) await(what string, within time.Duration, ok func() bool) {
	u.t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			u.t.Fatalf("waited %s for %s", within, what)
		}
	}
}

// keepsAnswering watches for a while that the watchdog is answered.
func (u *unit) keepsAnswering(during time.Duration) {
	u.t.Helper()
	end := time.Now().Add(during)
	u.await("the time to pass", during+time.Minute, func() bool {
		if gap := u.longestGap(); gap >= period {
			u.t.Fatalf("the watchdog was not answered for %s", gap)
		}
		return time.Now().After(end)
	})
}

// get returns the code of a page of the agent.
func (u *unit) get(path string) int {
	u.t.Helper()
	address := regexp.MustCompile(`"http":"([^"]+)"`).FindStringSubmatch(u.log())
	if address == nil {
		u.t.Fatal("the log does not tell the agent's address")
	}
	ctx, cancel := context.WithTimeout(u.t.Context(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address[1]+path, nil)
	if err != nil {
		u.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		u.t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// ends waits for the agent's end and returns its exit code.
func (u *unit) ends(within time.Duration) int {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), within)
	defer cancel()
	state, err := u.process.Wait(ctx)
	if err != nil {
		u.t.Fatalf("the agent did not end within %s", within)
	}
	return state.ExitCode()
}

func (u *unit) signal(s syscall.Signal) {
	u.t.Helper()
	if err := u.process.Signal(s); err != nil {
		u.t.Fatal(err)
	}
}
