package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of processor time in /proc, fixed at 100 a second in the
// interface of Linux.
const clockTick = 10 * time.Millisecond

func processors() int { return runtime.NumCPU() }

// usage is what a process has used so far.
type usage struct {
	name string
	cpu  time.Duration // user and system
	peak int64         // bytes of resident memory, at most
}

// tree measures the process and all its descendants, by process id.
func tree(root int) (map[int]usage, error) {
	children, err := parents()
	if err != nil {
		return nil, err
	}
	found := make(map[int]usage)
	for left := []int{root}; len(left) > 0; left = left[1:] {
		pid := left[0]
		left = append(left, children[pid]...)
		used, err := measure(pid)
		if errors.Is(err, fs.ErrNotExist) && pid != root {
			continue // ended since it was listed
		}
		if err != nil {
			return nil, fmt.Errorf("measure process %d: %w", pid, err)
		}
		found[pid] = used
	}
	return found, nil
}

// parents lists the children of every process on the machine.
func parents() (map[int][]int, error) {
	paths, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	children := make(map[int][]int)
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		fields, err := stat(pid)
		if err != nil {
			continue // ended since it was listed
		}
		parent, err := strconv.Atoi(fields[statParent])
		if err != nil {
			return nil, fmt.Errorf("parent of process %d: %w", pid, err)
		}
		children[parent] = append(children[parent], pid)
	}
	return children, nil
}

// Places in /proc/PID/stat behind the name of the program; proc(5) counts them
// from 1 and from the very first field, two before.
const (
	statParent = 4 - 3
	statUser   = 14 - 3
	statSystem = 15 - 3
)

// stat returns the fields of /proc/PID/stat behind the program's name, which may
// hold spaces and parentheses itself.
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) <= statSystem {
		return nil, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	return fields, nil
}

func measure(pid int) (usage, error) {
	fields, err := stat(pid)
	if err != nil {
		return usage{}, err
	}
	var used usage
	for _, i := range []int{statUser, statSystem} {
		ticks, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return usage{}, err
		}
		used.cpu += time.Duration(ticks) * clockTick
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return usage{}, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch name {
		case "VmHWM":
			kilobytes, err := strconv.ParseInt(strings.TrimSuffix(value, " kB"), 10, 64)
			if err != nil {
				return usage{}, err
			}
			used.peak = kilobytes << 10
		case "Name":
			used.name = value
		}
	}
	if arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil {
		program, _, _ := bytes.Cut(arguments, []byte{0})
		used.name = filepath.Base(string(program)) // the name above is cut at 15 bytes
	}
	return used, nil
}
