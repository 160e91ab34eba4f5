package pluginhost

import (
	"fmt"
	"strings"
)

const (
	// MinMemory is the least that a process can be limited to, in bytes: a Go
	// program maps more than half of it before it does anything.
	MinMemory = 128 << 20
	// goMemoryShare is the part of memory_max, in percent, that a plugin in Go
	// may use before it collects garbage as hard as it must (GOMEMLIMIT).
	goMemoryShare = 80
)

// limits is what holds one process to its memory.
type limits struct {
	group *controlGroup // nil: none
	data  uint64        // bytes of RLIMIT_DATA; 0: none
}

// limit makes what holds a process to so many bytes of memory; 0: nothing. A
// control group counts what is used, by the process and all that it starts;
// where the agent may make none, RLIMIT_DATA counts the private memory that each
// of them maps.
func (s *starter) limit(memory int64) (limits, error) {
	switch {
	case memory <= 0:
		return limits{}, nil
	case memory < MinMemory:
		return limits{}, fmt.Errorf("memory_max is %d bytes, and must be %d at least", memory, int64(MinMemory))
	}
	group, err := s.groups.make(memory)
	if err != nil {
		return limits{data: uint64(memory)}, nil // mechanism says why there is no group
	}
	return limits{group: group}, nil
}

// mechanism says what holds processes to memory_max.
func (s *starter) mechanism() string {
	hierarchy, err := s.groups.find()
	if err != nil {
		return "RLIMIT_DATA, since there is no control group: " + strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return hierarchy.name()
}
