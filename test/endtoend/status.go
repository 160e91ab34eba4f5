package endtoend

import (
	"encoding/json"
	"path/filepath"

	"github.com/barnabas-agent/barnabas/core/admin"
)

// status is what the agent says of itself.
type status struct{ admin.Status }

// status asks the agent; nil while it doesn't answer.
func (a *agent) status() *status {
	a.t.Helper()
	out, _, code := a.command("status", "--json", "--data-dir", filepath.Join(a.dir, "state"))
	if code != 0 {
		return nil
	}
	s := &status{}
	if err := json.Unmarshal([]byte(out), &s.Status); err != nil {
		a.t.Fatalf("status --json prints no JSON: %v", err)
	}
	return s
}

func (s *status) lag() (n int64) {
	for _, p := range s.Pipelines {
		for _, source := range p.Sources {
			n += source.LagBytes
		}
	}
	return n
}

func (s *status) inflight() (n int64) {
	for _, p := range s.Pipelines {
		n += p.InflightRecords
	}
	return n
}

func (s *status) files() (n int) {
	for _, p := range s.Pipelines {
		for _, source := range p.Sources {
			n += len(source.Files)
		}
	}
	return n
}

// unread returns how many bytes of the files have not been read.
func (s *status) unread() (n int64) {
	for _, p := range s.Pipelines {
		for _, source := range p.Sources {
			for _, f := range source.Files {
				n += f.Size - f.Read
			}
		}
	}
	return n
}

// read returns how many bytes of the files have been read.
func (s *status) read() (n int64) {
	for _, p := range s.Pipelines {
		for _, source := range p.Sources {
			for _, f := range source.Files {
				n += f.Read
			}
		}
	}
	return n
}
