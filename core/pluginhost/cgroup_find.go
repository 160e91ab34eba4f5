package pluginhost

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// findHierarchy returns the folders of the agent's own control groups by two
// files of /proc. Where the memory controller is in a tree of version 1, it is not in that of version 2.
func findHierarchy(cgroupFile, mountFile string) (hierarchy, error) {
	paths, err := os.ReadFile(cgroupFile)
	if err != nil {
		return hierarchy{}, err
	}
	mounts, err := os.ReadFile(mountFile)
	if err != nil {
		return hierarchy{}, err
	}
	h := hierarchy{version: 1}
	if h.memory = groupFolder(string(paths), string(mounts), "memory"); h.memory != "" {
		h.pids = groupFolder(string(paths), string(mounts), "pids")
		return h, nil
	}
	h = hierarchy{version: 2, memory: groupFolder(string(paths), string(mounts), "")}
	if h.memory == "" {
		return hierarchy{}, errors.New("no control group of this process is mounted")
	}
	controllers, err := os.ReadFile(filepath.Join(h.memory, "cgroup.controllers"))
	if err != nil {
		return hierarchy{}, err
	}
	if !slices.Contains(strings.Fields(string(controllers)), "memory") {
		return hierarchy{}, fmt.Errorf("the control group %s does not have the memory controller", h.memory)
	}
	return h, nil
}

// groupFolder returns the mounted folder of the process's group in the tree of a
// controller of version 1, or of version 2 ("").
func groupFolder(cgroups, mounts, controller string) string {
	group := ownGroup(cgroups, controller)
	if group == "" {
		return ""
	}
	for line := range strings.Lines(mounts) {
		root, at, found := groupMount(line, controller)
		if !found {
			continue
		}
		below, err := filepath.Rel(root, group)
		if err == nil && filepath.IsLocal(below) {
			return filepath.Join(at, below)
		}
	}
	return ""
}

// ownGroup reads /proc/self/cgroup: "ID:CONTROLLER,…:PATH", version 2 as "0::PATH".
func ownGroup(cgroups, controller string) string {
	for line := range strings.Lines(cgroups) {
		parts := strings.SplitN(strings.TrimRight(line, "\n"), ":", 3)
		if len(parts) != 3 || (controller == "") != (parts[0] == "0") {
			continue
		}
		if controller == "" || slices.Contains(strings.Split(parts[1], ","), controller) {
			return parts[2]
		}
	}
	return ""
}

// groupMount reads a line of /proc/self/mountinfo (proc_pid_mountinfo(5)): the
// root of the mount in its tree, and where it is mounted.
func groupMount(line, controller string) (root, at string, found bool) {
	before, after, separated := strings.Cut(strings.TrimRight(line, "\n"), " - ")
	fields, tree := strings.Fields(before), strings.Fields(after)
	if !separated || len(fields) < 5 || len(tree) < 3 {
		return "", "", false
	}
	if controller == "" {
		found = tree[0] == "cgroup2"
	} else {
		found = tree[0] == "cgroup" && slices.Contains(strings.Split(tree[2], ","), controller)
	}
	space := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`)
	return space.Replace(fields[3]), space.Replace(fields[4]), found
}
