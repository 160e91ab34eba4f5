package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/test/ledger"
)

func TestAgentsAreConfiguredAsTheirTitlesSay(t *testing.T) {
	for _, c := range comparisons() {
		stages, found := strings.CutPrefix(c.variant.title, "agent, ")
		if !found || c.variant.connections > 0 {
			continue
		}
		folder := t.TempDir()
		b := &bench{options: options{bin: folder}, file: filepath.Join(folder, "records.log")}
		if err := os.WriteFile(b.file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		command, err := c.variant.command(b, folder, "127.0.0.1:1,127.0.0.1:2", "bench")
		if err != nil {
			t.Fatal(err)
		}
		loaded, problems := config.Load(command.Args[len(command.Args)-1], config.Options{})
		if len(problems) > 0 {
			t.Errorf("%s: %v", c.name, problems)
			continue
		}
		var want, got []string
		if stages != "no plugins" {
			want = strings.Split(strings.ReplaceAll(stages, " (key)", ""), ", ")
		}
		for _, stage := range loaded.Pipelines[0].Stages() {
			got = append(got, stage.Plugin)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s runs %v, not %v", c.name, got, want)
		}
		if servers := loaded.Producers[0].BootstrapServers; len(servers) != 2 {
			t.Errorf("%s: bootstrap servers %q", c.name, servers)
		}
	}
}

func TestKeyIsTheSequenceNumber(t *testing.T) {
	line := ledger.AppendLine(nil, ledgerFile, 123_456_789_012, 200)
	if key := string(line[keyFrom:keyTo]); key != "123456789012" {
		t.Fatalf("the key of %q is %q", line, key)
	}
}

func TestSocketsAreConfigured(t *testing.T) {
	for _, c := range socketComparisons() {
		b := &bench{options: options{bin: t.TempDir()}, address: "127.0.0.1:5140"}
		command, err := c.variant.command(b, t.TempDir(), "127.0.0.1:1", "bench")
		if err != nil {
			t.Fatal(err)
		}
		loaded, problems := config.Load(command.Args[len(command.Args)-1], config.Options{})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if s := loaded.Pipelines[0].Sources[0].Socket; s == nil || s.Listen.Address != b.address || !strings.Contains(c.variant.title, string(s.Spool.Sync)) {
			t.Errorf("%s: %+v", c.variant.title, s)
		}
	}
}

func TestPartsOfAFileAreWholeLines(t *testing.T) {
	text := []byte("a\nbb\nccc\n")
	for place, want := range []int{0, 2, 2, 5, 5, 5, 9, 9, 9, 9} {
		if got := lineStart(text, place); got != want {
			t.Errorf("behind %d: %d, expected %d", place, got, want)
		}
	}
}
