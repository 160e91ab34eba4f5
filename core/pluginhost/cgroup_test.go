package pluginhost

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// mounts of a machine with both versions: version 1 has the memory controller of its own, pids with another one.
const bothVersions = `25 1 0:23 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro
26 25 0:24 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
27 25 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
28 25 0:26 /docker/1 /sys/fs/cgroup/cpu\040pids rw shared:9 - cgroup cgroup rw,cpu,pids
garbage
`

const onlySecond = "31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"

func TestGroupFolderIsTheProcesssOwn(t *testing.T) {
	t.Parallel()
	const first = "12:cpu,pids:/docker/1/agent\n5:memory:/system.slice/a:b.service\n1:name=systemd:/x\n0::/unified.slice\n"
	for name, c := range map[string]struct {
		cgroups, mounts, controller, want string
	}{
		"memory of version 1":           {first, bothVersions, "memory", "/sys/fs/cgroup/memory/system.slice/a:b.service"},
		"below the root of the mount":   {first, bothVersions, "pids", "/sys/fs/cgroup/cpu pids/agent"},
		"version 2 beside it":           {first, bothVersions, "", "/sys/fs/cgroup/unified/unified.slice"},
		"version 2":                     {"0::/system.slice/barnabas.service\n", onlySecond, "", "/sys/fs/cgroup/system.slice/barnabas.service"},
		"its root":                      {"0::/\n", onlySecond, "", "/sys/fs/cgroup"},
		"no such controller":            {first, bothVersions, "hugetlb", ""},
		"not mounted":                   {"5:memory:/x\n", onlySecond, "memory", ""},
		"above the root of the mount":   {"12:cpu,pids:/docker/2\n", bothVersions, "pids", ""},
		"outside the namespace's mount": {"0::/../../x\n", onlySecond, "", "/sys/fs/cgroup/x"},
		"nothing":                       {"", "", "memory", ""},
	} {
		if got := groupFolder(c.cgroups, c.mounts, c.controller); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestSecondVersion plays version 2 on files: which are written, in which order, is the kernel's to judge elsewhere.
func TestSecondVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("cgroup", "0::/own\n")
	write("mountinfo", "31 24 0:27 / "+dir+" rw - cgroup2 cgroup2 rw\n")
	if err := os.Mkdir(filepath.Join(dir, "own"), 0o700); err != nil {
		t.Fatal(err)
	}
	find := func() (hierarchy, error) {
		return findHierarchy(filepath.Join(dir, "cgroup"), filepath.Join(dir, "mountinfo"))
	}
	write("own/cgroup.controllers", "cpu io\n")
	if _, err := find(); err == nil || !strings.Contains(err.Error(), "memory controller") {
		t.Errorf("without the memory controller: %v", err)
	}
	write("own/cgroup.controllers", "cpu memory pids\n")
	h, err := find()
	if err != nil || h.version != 2 || h.memory != filepath.Join(dir, "own") {
		t.Fatalf("found %+v %v", h, err)
	}
	write("own/cgroup.subtree_control", "")
	if err := h.delegate(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "own", "cgroup.subtree_control")); err != nil || !strings.Contains(string(text), "pids") {
		t.Errorf("shared out %q %v", text, err)
	}
}

func TestGroupsOfKilledAgentsAreRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const nobody = 1 << 30 // more than a process id can be
	for name, stays := range map[string]bool{
		groupPrefix + strconv.Itoa(nobody) + "-1":      false,
		groupPrefix + strconv.Itoa(os.Getpid()) + "-1": true,
		groupPrefix + "x-1":                            true,
		"other":                                        true,
	} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		sweepGroups(dir)
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != stays {
			t.Errorf("%s: %v, want that it stays: %v", name, err, stays)
		}
	}
}

func TestMemoryBelowTheLeastIsRefused(t *testing.T) {
	t.Parallel()
	s := &starter{groups: &controlGroups{}}
	if _, err := s.limit(MinMemory - 1); err == nil {
		t.Error("a limit under which no plugin can run was taken")
	}
	if l, err := s.limit(0); err != nil || l != (limits{}) {
		t.Errorf("no limit: %+v %v", l, err)
	}
}

func TestExecIsNotForPeople(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"{}"}, {"x", "/bin/true"}, {`{"parent":1}`, "/bin/true"}} {
		by := exec.Command("/proc/self/exe", append([]string{ExecCommand}, args...)...)
		out, err := by.CombinedOutput()
		var ended *exec.ExitError
		if !errors.As(err, &ended) || ended.ExitCode() != 2 || !strings.Contains(string(out), "is for the agent itself") {
			t.Errorf("%q: %v, it said %q", args, err, out)
		}
	}
}
