package pluginhost

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ExecCommand is the first argument under which the agent's program, or a
// test's, calls [Exec] and nothing else. It is not meant for people.
const ExecCommand = "__plugin-exec"

// Descriptors of the process that becomes a plugin. The plugin inherits the
// lifeline beside its stdin, stdout and stderr; all others close when it begins.
const (
	lifelineFD    = 3
	reportFD      = 4 // write end: why it did not become the plugin
	programFD     = 5 // the plugin's file
	firstCgroupFD = 6 // files that take the process into a control group
)

// mostFiles bounds the descriptors of a plugin: the agent's own limit is larger
// than a program needs that serves a few connections.
const mostFiles = 4096

// execOrder is what the host tells the process that becomes a plugin.
type execOrder struct {
	Parent  int    `json:"parent"`         // the host's process id
	Script  bool   `json:"script"`         // run by path: its interpreter opens it by name
	Cgroups int    `json:"cgroups"`        // descriptors from firstCgroupFD on
	Data    uint64 `json:"data,omitempty"` // bytes of RLIMIT_DATA; 0: no limit
}

// execFailure is why the process did not become the plugin.
type execFailure struct {
	Step  string        `json:"step"`
	Errno syscall.Errno `json:"errno"`
	Text  string        `json:"text"`
}

// stepExecute is the step in which the kernel refuses the plugin's file itself.
const stepExecute = "execute"

// Exec turns the calling process, which a [Host] has started, into a plugin: it
// gives up what a plugin must not have, and executes the plugin's file. Nothing
// of that can be done to a child from outside without a moment in which the
// plugin runs free, and Go's exec offers no rlimits and no no_new_privs. args are
// those behind [ExecCommand]. It returns only on failure, with the exit code.
func Exec(args []string) int {
	// Privileges and the death signal are a thread's, and execve keeps those of
	// the thread that calls it.
	runtime.LockOSThread()
	failure := becomePlugin(args)
	var errno syscall.Errno
	errors.As(failure.err, &errno)
	report := os.NewFile(reportFD, "report")
	if err := json.NewEncoder(report).Encode(execFailure{Step: failure.step, Errno: errno, Text: failure.err.Error()}); err != nil {
		fmt.Fprintf(os.Stderr, "%s is for the agent itself: %v\n", ExecCommand, failure.err)
	}
	return 2
}

// execStep is a step that failed.
type execStep struct {
	step string
	err  error
}

// becomePlugin does all steps; the last one does not return.
func becomePlugin(args []string) execStep {
	if len(args) < 2 {
		return execStep{"read the order", errors.New("the order or the plugin's arguments are missing")}
	}
	var order execOrder
	if err := json.Unmarshal([]byte(args[0]), &order); err != nil {
		return execStep{"read the order", err}
	}
	for _, one := range []struct {
		name string
		do   func() error
	}{
		{"end with the agent", func() error { return endWith(order.Parent) }},
		{"enter its control group", func() error { return enterCgroups(order.Cgroups) }},
		{"set no_new_privs", func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }},
		{"drop capabilities", dropCapabilities},
		{"close descriptors", closeAboveLifeline},
		{"set limits", func() error { return setLimits(order.Data) }},
	} {
		if err := one.do(); err != nil {
			return execStep{one.name, err}
		}
	}
	path := args[1]
	if !order.Script {
		path = "/proc/self/fd/" + strconv.Itoa(programFD)
	}
	return execStep{stepExecute, syscall.Exec(path, args[1:], os.Environ())}
}

// endWith has the kernel kill the process when the host's thread that started
// it ends, unless the host has ended before.
func endWith(parent int) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if os.Getppid() != parent {
		return errors.New("the agent has ended")
	}
	return nil
}

// enterCgroups moves the process through the files that the host has opened:
// "0" is the writer (cgroups(7)).
func enterCgroups(n int) error {
	for fd := firstCgroupFD; fd < firstCgroupFD+n; fd++ {
		if _, err := unix.Write(fd, []byte("0")); err != nil {
			return err
		}
	}
	return nil
}

// dropCapabilities leaves the thread without any: a plugin of a privileged
// agent does what its user may do, and nothing else. The bounding set and
// no_new_privs keep a program of root, or one with capabilities of its file,
// from getting them at its start.
func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	for capability := uintptr(0); ; capability++ {
		set, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, capability, 0, 0, 0)
		if err != nil {
			break // past the last one
		}
		if set == 0 {
			continue
		}
		// Without CAP_SETPCAP it stays, and no_new_privs makes it worthless.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
			break
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	if data == ([2]unix.CapUserData{}) {
		return nil // a filter of system calls may forbid capset
	}
	data = [2]unix.CapUserData{}
	return unix.Capset(&header, &data[0])
}

// closeAboveLifeline lets every descriptor above the lifeline close when the
// plugin begins, also those that a library of the agent opened without O_CLOEXEC.
func closeAboveLifeline() error {
	err := unix.CloseRange(lifelineFD+1, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC)
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) { // before Linux 5.9, before 5.11
		return err
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err == nil && fd > lifelineFD {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// setLimits bounds what the plugin may take of the machine. RLIMIT_AS would
// kill every Go program, which reserves much more than it uses, and RLIMIT_NPROC
// counts what others of the same user run.
func setLimits(data uint64) error {
	if err := lowerLimit(unix.RLIMIT_CORE, 0); err != nil {
		return err
	}
	if err := lowerLimit(unix.RLIMIT_NOFILE, mostFiles); err != nil {
		return err
	}
	if data == 0 {
		return nil
	}
	return lowerLimit(unix.RLIMIT_DATA, data) // last: it binds this process too
}

// lowerLimit sets both values of a limit, and raises none.
func lowerLimit(resource int, most uint64) error {
	var limit unix.Rlimit
	if err := unix.Prlimit(0, resource, nil, &limit); err != nil {
		return err
	}
	limit.Max = min(limit.Max, most)
	limit.Cur = limit.Max
	return unix.Prlimit(0, resource, &limit, nil)
}
