package pluginhost

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// isRefusal reports whether err is an [*Error] for the reason.
func isRefusal(err error, reason Reason) bool {
	var failed *Error
	return errors.As(err, &failed) && failed.Reason == reason && failed.Hint != ""
}

// counterValue reads a counter.
func counterValue(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func speaksSomethingElse(t *testing.T, f *hostileFixture) {
	f.wantRefused(t, f.always("speaks another protocol"), ProtocolVersion, "version 9")
	f.wantRefused(t, f.always("has another cookie"), NotPlugin, "ended before its handshake")
	f.wantRefused(t, f.always("speaks net/rpc"), Failed, "netrpc")
	f.wantRefused(t, f.always("describes a terminal"), Failed, "not printable")
}

func versionSkew(t *testing.T, f *hostileFixture) {
	f.wantRefused(t, f.always("describes another protocol"), ProtocolVersion, "speaks versions [9]")
}

func startsSlowly(t *testing.T, f *hostileFixture) {
	f.wantRefused(t, f.always("starts slowly"), StartTimeout, "did not get ready in time")
}

func printsBanner(t *testing.T, f *hostileFixture) {
	f.wantRefused(t, f.always("prints a banner"), NotPlugin, "welcome to")
}

func readsStdin(t *testing.T, f *hostileFixture) {
	f.start(t, f.once("reads stdin"))
	if got, err := os.ReadFile(f.marker()); err != nil || len(got) > 0 {
		t.Errorf("the plugin read %q %v from its stdin", got, err)
	}
}

// checksumOf is the attribute for a file.
func checksumOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func wrongChecksum(t *testing.T, f *hostileFixture) {
	path := f.own(t, "interceptor")
	spec := f.once("exits at its second start") // makes the marker when it is started
	spec.Checksum = checksumOf(t, path)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString("\x00"); err != nil {
		t.Fatal(err)
	}
	file.Close()
	f.wantRefused(t, spec, WrongChecksum, spec.Checksum)
	if _, err := os.Stat(f.marker()); err == nil {
		t.Error("the wrong file was run")
	}
}

func checksumAtEveryStart(t *testing.T, f *hostileFixture) {
	spec := f.always("")
	spec.Checksum = checksumOf(t, f.binary)
	s := f.start(t, spec)
	for n := range 3 {
		kill(t, s.Status().PID, syscall.SIGKILL)
		eventually(t, 10*time.Second, func() bool { return s.Status().State == Ready && s.Status().Restarts == n+1 })
	}
	wantNumbered(t, live(pass(t, s, 0, numbered(3, 10)...)), 30, "")
}

func fileReplaced(t *testing.T, f *hostileFixture) {
	path := f.own(t, "interceptor")
	spec := f.always("")
	spec.Checksum = checksumOf(t, path)
	s := f.start(t, spec)
	if _, err := os.OpenFile(path, os.O_WRONLY, 0); !errors.Is(err, unix.ETXTBSY) {
		t.Errorf("writing into the running file: %v, want ETXTBSY", err)
	}
	ran := filepath.Join(f.dir, "ran")
	other := f.file("other", "#!/bin/sh\ntouch "+ran+"\n", 0o700)
	aside := filepath.Join(f.dir, "aside")
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	wantNumbered(t, live(pass(t, s, 0, numbered(3, 10)...)), 30, "")
	wantRestarts(t, s, 0)
	kill(t, s.Status().PID, syscall.SIGKILL)
	eventually(t, 10*time.Second, func() bool { return strings.Contains(s.Status().LastError, "not the configured "+spec.Checksum) })
	if state := s.Status().State; state == Ready {
		t.Errorf("state %s", state)
	}
	f.wantLogged(t, "level=ERROR msg=\"a new process of the plugin does not start", "it was not run")
	if err := os.Rename(aside, path); err != nil {
		t.Fatal(err)
	}
	wantNumbered(t, live(pass(t, s, 0, numbered(3, 10)...)), 30, "")
	if _, err := os.Stat(ran); err == nil {
		t.Error("the file with another checksum was run")
	}
}

func agentKilled(t *testing.T, f *hostileFixture) {
	agent := exec.Command(filepath.Join(f.dir, "host-that-is-killed"), shortDir(t), "hostile")
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
	if err != nil || !alive(pid) {
		t.Fatalf("the plugin %q does not run: %v", line, err)
	}
	kill(t, pid, syscall.SIGSTOP) // a process that can't notice the end of its lifeline
	agent.Process.Kill()
	eventually(t, time.Second, func() bool { return !alive(pid) })
	agent.Wait()
}

func noZombie(t *testing.T, f *hostileFixture) {
	s := f.start(t, f.always(""))
	pid := s.Status().PID
	kill(t, pid, syscall.SIGKILL)
	eventually(t, 10*time.Second, func() bool {
		_, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid)))
		return errors.Is(err, os.ErrNotExist)
	})
}

// shown reads what the plugin has written of itself.
func (f *hostileFixture) shown(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func seesNothingOfTheAgent(t *testing.T, f *hostileFixture) {
	// What a library of the agent opened without O_CLOEXEC.
	var leak [2]int
	if err := unix.Pipe2(leak[:], 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak[0])
	defer unix.Close(leak[1])
	spec := f.once("shows itself")
	spec.MemoryMax = 256 << 20
	s := f.start(t, spec)

	known := []string{"PATH", "LANG", "TMPDIR", "GOTRACEBACK", "GOMAXPROCS", "GOMEMLIMIT", "HOSTILE", "HOSTILE_MARKER",
		"BARNABAS_LIFELINE_FD", "BARNABAS_PLUGIN_LOG_LEVEL", "BARNABAS_PLUGIN_COOKIE", "BARNABAS_AGENT_PID",
		"PLUGIN_UNIX_SOCKET_DIR", "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_MIN_PORT", "PLUGIN_MAX_PORT", "PLUGIN_MULTIPLEX_GRPC"}
	for line := range strings.Lines(f.shown(t, "environment")) {
		if name, _, _ := strings.Cut(line, "="); !slices.Contains(known, name) {
			t.Errorf("the environment holds %s", line)
		}
	}
	for line := range strings.Lines(f.shown(t, "files")) {
		fd, target, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, _ := strconv.Atoi(fd)
		switch {
		case n == 0 && target == "/dev/null", n >= 1 && n <= 3 && strings.HasPrefix(target, "pipe:"):
		case n > 3 && (strings.HasPrefix(target, "anon_inode:") || strings.HasPrefix(target, "/proc/") ||
			strings.HasPrefix(target, "/sys/fs/cgroup/") || strings.HasPrefix(target, "socket:") || target == ""):
		case n > 3 && strings.HasPrefix(target, "pipe:"):
			if isPipe(t, leak[0], target) {
				t.Errorf("a descriptor of the agent reached the plugin: %s", line)
			}
		default:
			t.Errorf("descriptor %s is %s", fd, target)
		}
	}
	for _, want := range []string{"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(f.shown(t, "status"), want) {
			t.Errorf("the process lacks %q", want)
		}
	}
	if limits := strings.Join(strings.Fields(f.shown(t, "limits")), " "); !strings.Contains(limits, "Max core file size 0 0") || !strings.Contains(limits, "Max open files "+strconv.Itoa(mostFiles)) {
		t.Errorf("limits %s", limits)
	}
	pid := strconv.Itoa(s.Status().PID)
	if group := f.shown(t, "group"); group != pid+" "+pid {
		t.Errorf("group and process %s, want %s for both", group, pid)
	}
}

// isPipe reports whether a link of /proc is that of a pipe.
func isPipe(t *testing.T, fd int, target string) bool {
	t.Helper()
	own, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		t.Fatal(err)
	}
	return own == target
}

func noCertificates(t *testing.T, f *hostileFixture) {
	f.start(t, f.once("shows itself"))
	if env := f.shown(t, "environment"); strings.Contains(env, "PLUGIN_CLIENT_CERT") {
		t.Error("the connection depends on certificates, and so on clocks")
	}
}

func anotherProcessServes(t *testing.T, f *hostileFixture) {
	f.wantRefused(t, f.always("lets another process serve"), Failed, "not of the plugin's process group")
}

// dialsAPlugin is the main of a process of the agent's user that finds a
// plugin's socket and asks the plugin to describe itself.
func dialsAPlugin() {
	conn, err := grpc.NewClient("unix:"+os.Args[1], wire.NewTransport().DialOptions(wire.SocketCredentials(nil))...)
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := wirev1.NewPluginClient(conn).Describe(ctx, &wirev1.DescribeRequest{}); err != nil {
		os.Stdout.WriteString("refused: " + err.Error())
		return
	}
	os.Stdout.WriteString("answered")
}

func anotherProcessDials(t *testing.T, f *hostileFixture) {
	s := f.start(t, f.spec(Interceptor, "trial", trial{Suffix: "!"}))
	sockets, err := filepath.Glob(filepath.Join(f.Host.dir, "plugin-dir*", "plugin*"))
	if err != nil || len(sockets) != 1 {
		t.Fatalf("sockets %v %v", sockets, err)
	}
	if info, err := os.Stat(filepath.Dir(sockets[0])); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's directory: %v %v", info.Mode(), err)
	}
	said, err := exec.CommandContext(t.Context(), filepath.Join(f.dir, "dials-a-plugin"), sockets[0]).Output()
	if err != nil || !strings.HasPrefix(string(said), "refused: ") {
		t.Errorf("another process of the same user: %q %v", said, err)
	}
	wantNumbered(t, live(pass(t, s, 0, numbered(3, 10)...)), 30, "!")
}
