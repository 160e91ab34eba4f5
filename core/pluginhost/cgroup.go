package pluginhost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	groupPrefix   = "barnabas-plugin-" // then the agent's process id, and a number
	agentGroup    = "barnabas-agent"   // the agent's own, where version 2 needs it out of the way
	mostTasks     = 512                // processes and threads of one plugin in a control group
	groupKillTime = time.Second        // for the last processes of a group to end
	groupKillStep = 5 * time.Millisecond
)

// controlGroups makes control groups (cgroups(7)) for plugins below the agent's
// own, of version 1 or 2. It is safe for concurrent use.
type controlGroups struct {
	once  sync.Once
	found hierarchy // set by once
	err   error     // set by once: why there are none

	mu   sync.Mutex
	made int // guarded by mu
}

// hierarchy is where groups can be made. Version 1 has one tree per controller.
type hierarchy struct {
	version int
	memory  string // folder of the agent's own group
	pids    string // likewise; version 2: empty, the same; empty in version 1: there is none
}

// name names the mechanism for the log.
func (h hierarchy) name() string { return "cgroup v" + strconv.Itoa(h.version) }

// find looks once for a place in which groups can be made, and clears it of
// those that agents left who were killed.
func (c *controlGroups) find() (hierarchy, error) {
	c.once.Do(func() {
		if c.found, c.err = findHierarchy("/proc/self/cgroup", "/proc/self/mountinfo"); c.err != nil {
			return
		}
		if c.found.version == 2 {
			c.err = c.found.delegate(os.Getpid())
		} else {
			c.err = unix.Access(c.found.memory, unix.W_OK)
		}
		if c.err != nil {
			c.err = fmt.Errorf("use the control group %s: %w", c.found.memory, c.err)
			return
		}
		sweepGroups(c.found.memory)
		if c.found.pids != "" {
			sweepGroups(c.found.pids)
		}
	})
	return c.found, c.err
}

// make makes the group of one process that may use so many bytes.
func (c *controlGroups) make(memory int64) (*controlGroup, error) {
	where, err := c.find()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.made++
	name := groupPrefix + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(c.made)
	c.mu.Unlock()
	g := &controlGroup{version: where.version}
	limits := map[string]string{"memory.max": strconv.FormatInt(memory, 10), "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": strconv.Itoa(mostTasks)}
	needed := "memory.max"
	if where.version == 1 {
		needed = "memory.limit_in_bytes"
		limits = map[string]string{needed: strconv.FormatInt(memory, 10)}
	}
	if err := g.add(filepath.Join(where.memory, name), limits, needed); err != nil {
		g.remove()
		return nil, err
	}
	if where.version == 1 {
		// The sum with swap can't be set below the memory's limit, so it comes second.
		// Without swap accounting there is no such file.
		_ = writeGroup(g.dirs[0], "memory.memsw.limit_in_bytes", strconv.FormatInt(memory, 10))
		if where.pids != "" {
			// A plugin without a bound on its tasks is still held to its memory.
			_ = g.add(filepath.Join(where.pids, name), map[string]string{"pids.max": strconv.Itoa(mostTasks)}, "pids.max")
		}
	}
	return g, nil
}

// controlGroup holds one process and all that it starts. Its methods do nothing on nil.
type controlGroup struct {
	version int
	dirs    []string   // the memory controller's first
	enter   []*os.File // through which a process enters; closed by remove
}

// add makes a folder of the group, sets what of its limits there is, the needed
// one in any case, and opens its entrance.
func (g *controlGroup) add(dir string, limits map[string]string, needed string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for name, value := range limits {
		if err := writeGroup(dir, name, value); err != nil && name == needed {
			return errors.Join(err, os.Remove(dir))
		}
	}
	entrance, err := os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0)
	if err != nil {
		return errors.Join(err, os.Remove(dir))
	}
	g.dirs, g.enter = append(g.dirs, dir), append(g.enter, entrance)
	return nil
}

// entrances are the files to which a process writes "0" to enter.
func (g *controlGroup) entrances() []*os.File {
	if g == nil {
		return nil
	}
	return g.enter
}

// excess says whether the kernel has killed in the group for want of memory.
func (g *controlGroup) excess() string {
	if g == nil || len(g.dirs) == 0 {
		return ""
	}
	file := "memory.events"
	if g.version == 1 {
		file = "memory.oom_control"
	}
	text, err := os.ReadFile(filepath.Join(g.dirs[0], file))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if n, found := strings.CutPrefix(line, "oom_kill "); found && strings.TrimSpace(n) != "0" {
			return "it used more than memory_max"
		}
	}
	return ""
}

// remove kills what is left in the group, outside the plugin's process group too, and removes it.
func (g *controlGroup) remove() {
	if g == nil {
		return
	}
	closeFiles(g.enter...)
	deadline := time.Now().Add(groupKillTime)
	for _, dir := range g.dirs {
		for killGroup(dir); os.Remove(dir) != nil && time.Now().Before(deadline); killGroup(dir) {
			pauseBriefly()
		}
	}
}

// pauseBriefly gives killed processes the time to end.
func pauseBriefly() {
	timer := time.NewTimer(groupKillStep)
	defer timer.Stop()
	<-timer.C
}

// killGroup kills every process of a group.
func killGroup(dir string) {
	if writeGroup(dir, "cgroup.kill", "1") == nil { // version 2, since Linux 5.14
		return
	}
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
		}
	}
}

// writeGroup sets a file of a group.
func writeGroup(dir, name, value string) error {
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(value)
	return errors.Join(err, file.Close())
}

// sweepGroups removes the groups of agents that were killed. One that still
// holds a process can't be removed.
func sweepGroups(dir string) {
	left, err := filepath.Glob(filepath.Join(dir, groupPrefix+"*"))
	if err != nil {
		return
	}
	for _, one := range left {
		agent, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(one), groupPrefix), "-")
		if pid, err := strconv.Atoi(agent); err == nil && pid > 1 && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			_ = os.Remove(one)
		}
	}
}

// delegate makes the memory controller available to groups below the agent's
// own. A group with processes can't share it out, so the agent then moves into
// a group of its own: possible where nobody else is in the first one, as in a
// systemd unit with Delegate=memory.
func (h hierarchy) delegate(pid int) error {
	if err := h.share(); !errors.Is(err, unix.EBUSY) {
		return err
	}
	own := filepath.Join(h.memory, agentGroup)
	if err := os.Mkdir(own, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	err := writeGroup(own, "cgroup.procs", strconv.Itoa(pid))
	if err == nil {
		if err = h.share(); err == nil {
			return nil
		}
		err = errors.Join(err, writeGroup(h.memory, "cgroup.procs", strconv.Itoa(pid)))
	}
	return errors.Join(err, os.Remove(own))
}

// share turns the memory controller on for groups below, and that of processes where it can be.
func (h hierarchy) share() error {
	if err := writeGroup(h.memory, "cgroup.subtree_control", "+memory"); err != nil {
		return err
	}
	// Without a bound on tasks a plugin is still held to its memory.
	_ = writeGroup(h.memory, "cgroup.subtree_control", "+pids")
	return nil
}
