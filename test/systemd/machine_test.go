package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/test/process"
)

// release is the Debian that is booted: the one whose libraries the agent is built with in CI.
const release = "bookworm"

// need returns the path of a program, or says how to get it.
func need(t *testing.T, program, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is missing: apt-get install %s", program, debianPackage)
	}
	return path
}

// debian returns a root of Debian with systemd, made once and kept in the cache.
func debian(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = "/var/cache"
	}
	cache = filepath.Join(cache, "barnabas-test")
	root := filepath.Join(cache, "debian-"+release+"-python3")
	if _, err := os.Stat(root); err == nil {
		return root
	}
	debootstrap := need(t, "debootstrap", "debootstrap")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	making, err := os.MkdirTemp(cache, "making-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(making) })
	t.Logf("making %s, once", root)
	run(t, 8*time.Minute, debootstrap, "--variant=minbase", "--include=systemd,dbus,python3", release, filepath.Join(making, "root"))
	if err := os.Rename(filepath.Join(making, "root"), root); err != nil {
		t.Fatal(err)
	}
	return root
}

// run runs a program to its end and returns what it wrote.
func run(t *testing.T, within time.Duration, program string, args ...string) string {
	t.Helper()
	output, err := try(t.Context(), within, program, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, output)
	}
	return output
}

func try(ctx context.Context, within time.Duration, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	output, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	return strings.TrimSpace(string(output)), err
}

// machine is a booted Debian in a container with a network of its own.
type machine struct {
	t      *testing.T
	root   string
	leader int // its init, as seen from here
}

// boot boots a copy of the root, in which install has put what is to be there.
func boot(t *testing.T, install func(root string)) *machine {
	t.Helper()
	m := &machine{t: t, root: filepath.Join(t.TempDir(), "root")}
	run(t, time.Minute, "cp", "-a", "--reflink=auto", debian(t), m.root)
	install(m.root)
	console, err := os.Create(filepath.Join(filepath.Dir(m.root), "console"))
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	// Processes of a namespace end with its first one, and that with unshare, however this test ends.
	c := exec.Command(need(t, "unshare", "util-linux"), "--pid", "--fork", "--kill-child", "--mount-proc",
		need(t, "systemd-nspawn", "systemd-container"), "--quiet", "--directory="+m.root, "--machine=barnabas-test",
		"--boot", "--register=no", "--keep-unit", "--private-network", "--link-journal=no", "--resolv-conf=off", "--timezone=off")
	// Control groups of version 2, also where the host's are of version 1.
	c.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	c.Stdout, c.Stderr = console, console
	container, err := process.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		container.Kill()
		if m.leader != 0 {
			await(t, "the container's end", 20*time.Second, func() bool { return errors.Is(unix.Kill(m.leader, 0), unix.ESRCH) })
		}
	})
	await(t, "the container", 20*time.Second, func() bool {
		m.leader = initOf(container.Pid())
		return m.leader != 0
	})
	var state string
	await(t, "the boot", time.Minute, func() bool {
		state, _ = m.try("systemctl", "is-system-running")
		return state == "running" || state == "degraded"
	})
	t.Logf("booted, %s: %s", state, m.sh("systemctl", "--version")[:12])
	return m
}

// initOf returns the init of a container among the descendants of a process, 0 while there is none.
func initOf(pid int) int {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	for field := range strings.FieldsSeq(string(children)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return 0
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child))
		if err == nil && strings.TrimSpace(string(comm)) == "systemd" {
			return child
		}
		if found := initOf(child); found != 0 {
			return found
		}
	}
	return 0
}

// try runs a program inside.
func (m *machine) try(program string, args ...string) (string, error) {
	return try(context.Background(), 2*time.Minute, "nsenter", append([]string{
		"--target", strconv.Itoa(m.leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--",
		"env", "-i", "PATH=/usr/bin:/usr/sbin", "LANG=C", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=", program,
	}, args...)...)
}

// sh is try for what must work.
func (m *machine) sh(program string, args ...string) string {
	m.t.Helper()
	output, err := m.try(program, args...)
	if err != nil {
		m.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, output)
	}
	return output
}

// show is a property of the service.
func (m *machine) show(property string) string {
	m.t.Helper()
	return m.sh("systemctl", "show", "--value", "--property="+property, "barnabas.service")
}

func (m *machine) journal() string {
	m.t.Helper()
	return m.sh("journalctl", "--no-pager", "--output=cat", "--unit=barnabas.service")
}

// write writes a file inside.
func (m *machine) write(path, text string, mode os.FileMode) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		m.t.Fatal(err)
	}
}

// dropIn replaces a drop-in of the service; without settings it is removed.
func (m *machine) dropIn(name, settings string) {
	m.t.Helper()
	path := "/etc/systemd/system/barnabas.service.d/" + name + ".conf"
	if settings == "" {
		m.sh("rm", "-f", path)
	} else {
		m.write(path, settings, 0o644)
	}
	m.sh("systemctl", "daemon-reload")
}

// inside runs f on a thread that is in the container's network.
func (m *machine) inside(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		result <- func() error {
			network, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", m.leader))
			if err != nil {
				return err
			}
			defer network.Close()
			if err := unix.Setns(int(network.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter the container's network: %w", err)
			}
			return f()
		}()
	}()
	return <-result
}

// dial connects to an address of the container.
func (m *machine) dial(ctx context.Context, network, address string) (connection net.Conn, err error) {
	err = m.inside(func() (err error) {
		connection, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return connection, err
}

// listen listens on an address of the container.
func (m *machine) listen(network, address string) (listener net.Listener, err error) {
	err = m.inside(func() (err error) {
		listener, err = net.Listen(network, address)
		return err
	})
	return listener, err
}

// processes are the command lines of the service's user.
func (m *machine) processes() []string {
	m.t.Helper()
	var found []string
	list := m.sh("sh", "-c", `for p in /proc/[0-9]*; do [ "$(stat -c %U $p 2>/dev/null)" = barnabas ] && tr '\0' ' ' <$p/cmdline && echo; done; true`)
	for line := range strings.Lines(list) {
		if line = strings.TrimSpace(line); line != "" {
			found = append(found, line)
		}
	}
	return found
}

func await(t *testing.T, what string, within time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %s for %s", within, what)
		}
	}
}

// copyFile copies a program into the root.
func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(to, mode); err != nil {
		t.Fatal(err)
	}
}
