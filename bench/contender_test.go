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
		if !found {
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
