package pluginhost

import "time"

// State is where the process of a stage's instance stands.
type State string

// The states, in the order of a process's life.
const (
	Stopped  State = "stopped"
	Starting State = "starting"
	Ready    State = "ready"
	Backoff  State = "backoff" // it broke; the next one starts after a pause
	Broken   State = "broken"  // it breaks again and again; the lanes wait, the next one is tried every minute
)

// weight orders states by how much they need somebody's attention.
func (s State) weight() int {
	switch s {
	case Broken:
		return 4
	case Backoff:
		return 3
	case Starting:
		return 2
	case Stopped:
		return 1
	default:
		return 0
	}
}

// InstanceStatus is a snapshot of one of a stage's processes.
type InstanceStatus struct {
	State     State     `json:"state"`
	PID       int       `json:"pid"` // 0 while no process runs
	Since     time.Time `json:"since"`
	Restarts  int       `json:"restarts"`
	LastError string    `json:"last_error"`
}

// Status is a snapshot of a stage for people. State, Since and LastError are
// those of the instance that is worst off, PID the first instance's, and
// Restarts the sum.
type Status struct {
	Pipeline string `json:"pipeline"`
	Stage    string `json:"stage"`
	Kind     Kind   `json:"kind"`
	Plugin   string `json:"plugin"`
	Version  string `json:"version"`
	InstanceStatus
	Instances []InstanceStatus `json:"instances"`
}

// Status returns a snapshot. It is safe for concurrent use.
func (s *Stage) Status() Status {
	st := Status{
		Pipeline: s.spec.Pipeline, Stage: s.spec.Stage, Kind: s.spec.Kind, Plugin: s.spec.Plugin,
		Version: s.describedAs().GetVersion(),
	}
	for _, v := range s.supervisors {
		st.Instances = append(st.Instances, v.snapshot())
	}
	st.InstanceStatus = st.Instances[0]
	st.Restarts = 0
	for _, one := range st.Instances {
		if one.State.weight() > st.State.weight() {
			st.State, st.Since, st.LastError = one.State, one.Since, one.LastError
		}
		st.Restarts += one.Restarts
	}
	return st
}
