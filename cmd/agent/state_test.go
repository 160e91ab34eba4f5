package main

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/checkpoint"
	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/core/record"
)

// A folder without positions may be the wrong one: that is said, and loudly where
// files would be skipped for it.
func TestFirstStartIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		start config.StartAt
		first bool
		level string // of the line, "" where there is none
	}{
		"first start":               {config.StartAtBeginning, true, "level=INFO"},
		"first start at the end":    {config.StartAtEnd, true, "level=WARN"},
		"a later start at the end":  {config.StartAtEnd, false, ""},
		"a later start from before": {config.StartAtBeginning, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			open := func() *checkpoint.Store {
				s, err := checkpoint.Open(dir, slog.New(slog.DiscardHandler), time.Now)
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			store := open()
			if !c.first {
				if err := store.Commit(t.Context(), []record.Checkpoint{{Key: "k", Value: []byte("v")}}); err != nil {
					t.Fatal(err)
				}
				store.Close()
				store = open()
			}
			defer store.Close()
			var log strings.Builder
			source := config.Source{Kind: "file", File: &config.FileSource{StartAt: c.start}}
			a := &agent{
				config: &config.Config{
					Agent:     config.Agent{DataDir: dir},
					Pipelines: []config.Pipeline{{Name: "p", Sources: []config.Source{source}}},
				},
				log: slog.New(slog.NewTextHandler(&log, nil)), store: store,
			}
			if err := a.tellState(t.Context()); err != nil {
				t.Fatal(err)
			}
			line := ""
			for one := range strings.Lines(log.String()) {
				if strings.Contains(one, "holds no positions") {
					line = one
				}
			}
			if (line == "") != (c.level == "") || !strings.Contains(line, c.level) {
				t.Errorf("said %q, want %q", line, c.level)
			}
		})
	}
}

func TestStateInMemoryIsWarnedOf(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "barnabas-state-")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(dir)
	store, err := checkpoint.Open(dir, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, dev := range []bool{false, true} {
		var log strings.Builder
		a := &agent{
			config: &config.Config{Agent: config.Agent{DataDir: dir}},
			log:    slog.New(slog.NewTextHandler(&log, nil)), store: store, flags: runFlags{dev: dev},
		}
		if err := a.tellState(t.Context()); err != nil {
			t.Fatal(err)
		}
		if warned := strings.Contains(log.String(), "in memory"); warned == dev {
			t.Errorf("with --dev %v: %q", dev, log.String())
		}
	}
}
