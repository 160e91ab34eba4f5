package config_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/barnabas-agent/barnabas/core/config"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

// TestLoad loads each archive of testdata/load in a folder of its own and
// compares everything that is said, and what is understood, with the archive's
// files "diagnostics" and "config.json". The archive's comment may name what is
// loaded ("load: DIRECTORY") and options ("option: NAME"); a file "environment"
// holds NAME=value lines.
func TestLoad(t *testing.T) {
	archives, err := filepath.Glob("testdata/load/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := loadArchive(t, archive)
			if *update {
				rewrite(t, name, archive, got)
				return
			}
			for _, f := range archive.Files {
				if want, isExpected := got[f.Name]; isExpected && want != string(f.Data) {
					t.Errorf("%s: got\n%s\nwant\n%s", f.Name, want, f.Data)
				}
			}
		})
	}
}

// loadArchive returns the expectation files that the archive's configuration
// should have.
func loadArchive(t *testing.T, archive *txtar.Archive) map[string]string {
	folder := t.TempDir()
	environment := map[string]string{}
	for _, f := range archive.Files {
		switch f.Name {
		case "diagnostics", "config.json":
		case "environment":
			for line := range strings.Lines(string(f.Data)) {
				name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
				environment[name] = strings.ReplaceAll(value, "$FOLDER", folder)
			}
		default:
			path := filepath.Join(folder, f.Name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	comment := string(archive.Comment)
	load := "agent.hcl"
	for line := range strings.Lines(comment) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "load: "); ok {
			load = name
		}
	}
	c, diagnostics := config.Load(filepath.Join(folder, load), config.Options{
		LookupEnv:               func(name string) (string, bool) { v, ok := environment[name]; return v, ok },
		Hostname:                func() (string, error) { return "host.example", nil },
		AllowMissingCredentials: strings.Contains(comment, "option: AllowMissingCredentials"),
		IgnoreSecurity:          strings.Contains(comment, "option: IgnoreSecurity"),
		AllowUnavailable:        strings.Contains(comment, "option: AllowUnavailable"),
		HasGSSAPI:               strings.Contains(comment, "option: HasGSSAPI"),
	})
	var text bytes.Buffer
	if err := diagnostics.Write(&text); err != nil {
		t.Fatal(err)
	}
	dump, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	portable := func(s string) string { return strings.ReplaceAll(s, folder, "$FOLDER") }
	return map[string]string{"diagnostics": portable(text.String()), "config.json": portable(string(dump)) + "\n"}
}

// rewrite puts what was got into the expectation files of an archive: the
// diagnostics always, the configuration where the archive has one.
func rewrite(t *testing.T, name string, archive *txtar.Archive, got map[string]string) {
	has := map[string]bool{}
	for i, f := range archive.Files {
		has[f.Name] = true
		if data, isExpected := got[f.Name]; isExpected {
			archive.Files[i].Data = []byte(data)
		}
	}
	if !has["diagnostics"] {
		archive.Files = append(archive.Files, txtar.File{Name: "diagnostics", Data: []byte(got["diagnostics"])})
	}
	if err := os.WriteFile(name, txtar.Format(archive), 0o600); err != nil {
		t.Fatal(err)
	}
}
