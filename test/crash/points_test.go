package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/barnabas-agent/barnabas/core/crashpoint"
	"github.com/barnabas-agent/barnabas/core/quarantine"
	"github.com/barnabas-agent/barnabas/test/ledger"
	"github.com/barnabas-agent/barnabas/test/life"
)

// onlyInLives are the points that an agent passes after a fault of its disk or
// after minutes, or not at all where its sources are files; the lives of the
// stores pass them all.
func onlyInLives() []string {
	return []string{
		"checkpoint.previous.written", "checkpoint.previous.renamed", "checkpoint.rewrite", "checkpoint.rewrite.written",
		"spool.segment.created", "spool.segment.synced", "spool.write", "spool.written", "spool.synced", "spool.free", "spool.freed",
	}
}

// points finds all points in the tree and the folder each lies in.
func points(t *testing.T) map[string]string {
	t.Helper()
	call := regexp.MustCompile(`crashpoint\.At\((.*?)\)`)
	found := map[string]string{}
	for _, top := range []string{"core", "sources", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root(t), top), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, match := range call.FindAllSubmatch(text, -1) {
				name, ok := strings.CutPrefix(string(match[1]), `"`)
				name, ok2 := strings.CutSuffix(name, `"`)
				if !ok || !ok2 {
					return fmt.Errorf("%s: a point without a plain name: %s", path, match[0])
				}
				if other, twice := found[name]; twice {
					return fmt.Errorf("%s: the point %s is also in %s", path, name, other)
				}
				found[name] = filepath.Dir(path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(found) < 15 {
		t.Fatalf("only %d points are found", len(found))
	}
	return found
}

func sortedNames(found map[string]string) []string {
	var names []string
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func killed(s syscall.WaitStatus) bool { return s.Signaled() && s.Signal() == syscall.SIGKILL }

// TestAgentKilledAtEachPoint kills the agent at each point, again at the same
// point in the process that follows, and at its second passage in the third.
func TestAgentKilledAtEachPoint(t *testing.T) {
	binary := build(t, "barnabas", "cmd/agent")
	b := startFakeBroker(t)
	t.Run("points", func(t *testing.T) {
		for _, name := range sortedNames(points(t)) {
			if slices.Contains(onlyInLives(), name) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				killAt(t, newRig(t, b, binary, pointsJob, 3), name)
			})
		}
	})
}

// pointsJob keys the lines, so that those of a file stay in one partition, and
// puts those of poison into the quarantine.
const pointsJob = `
agent {
  data_dir         = "state"
  plugin_dir       = "%PLUGINS%"
  http_listen      = ""
  shutdown_timeout = "10s"
  log_format       = "json"
}
producer { bootstrap_servers = [%BOOTSTRAP%] }
pipeline "main" {
  topic = "%TOPIC%"
  source "file" { include = ["logs/*.log"] }
  interceptor "set" {
    config = { key = "value.split('|', 3)[1].endsWith('77') ? value.split('|', 3)[9] : value.split('|', 3)[0]" }
  }
}
`

func poison(_ string, sequence int64) bool { return sequence%100 == 77 }

func killAt(t *testing.T, r *rig, name string) {
	files := map[string]*ledger.Writer{"a": nil, "b": nil}
	write := func(count int64) {
		for file := range files {
			if files[file] == nil {
				var err error
				if files[file], err = ledger.NewWriter(file, 119); err != nil {
					t.Fatal(err)
				}
			}
			appendLines(t, filepath.Join(r.dir, "logs", file+".log"), files[file], count)
		}
	}
	write(500)
	if status := r.run(); !status.Exited() {
		t.Fatalf("the agent did not end by itself\n%s", r.log())
	}
	durable := files["a"].Written() // what a run has delivered to its end never comes again
	var repeated int64              // lines that may come again
	for kill, passage := range []string{"", "", ":2"} {
		write(500)
		repeated += (files["a"].Written() - durable) * 2
		status := r.run(crashpoint.Variable + "=" + name + passage)
		if !killed(status) && kill < 2 {
			t.Fatalf("the point was not passed: exit code %d\n%s", status.ExitStatus(), r.log())
		}
	}
	write(500)
	if status := r.run(); !status.Exited() {
		t.Fatalf("the agent did not end by itself\n%s", r.log())
	}
	check(t, r, files, repeated)
	checkPoison(t, r, files)
	if status := r.run(); !status.Exited() || status.ExitStatus() != 0 {
		t.Errorf("a start with nothing to do: exit code %d\n%s", status.ExitStatus(), r.log())
	}
	check(t, r, files, repeated) // which has delivered nothing again
}

func appendLines(t testing.TB, path string, w *ledger.Writer, count int64) {
	t.Helper()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := w.Write(out, count); err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, r *rig, files map[string]*ledger.Writer, duplicates int64) {
	t.Helper()
	expected := ledger.Expectation{Files: map[string]int64{}, Dropped: poison}
	for name, w := range files {
		expected.Files[name] = w.Written()
	}
	report, err := ledger.Check(context.Background(), r.topic, expected)
	if err == nil {
		err = report.Err(duplicates)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, r.log())
	}
}

// checkPoison expects each line of poison in the quarantine, once or more.
func checkPoison(t *testing.T, r *rig, files map[string]*ledger.Writer) {
	t.Helper()
	found := map[string]int{}
	for entry, err := range quarantine.NewReader(quarantine.Dir(r.path("state"), "main")).All(0) {
		var damage *quarantine.Damage
		if errors.As(err, &damage) && damage.Torn {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		file, sequence, err := ledger.ParseLine(entry.Value.Bytes)
		if err != nil || !poison(string(file), sequence) {
			t.Fatalf("in the quarantine: %q, %v", entry.Value.Bytes, err)
		}
		found[fmt.Sprintf("%s %d", file, sequence)]++
	}
	for file, w := range files {
		for sequence := range w.Written() {
			if poison(file, sequence) && found[fmt.Sprintf("%s %d", file, sequence)] == 0 {
				t.Errorf("line %d of %s is neither delivered nor in the quarantine", sequence, file)
			}
		}
	}
}

// TestStoresKilledAtEachPoint does the same to the stores alone, which pass what
// the agent passes only in trouble.
func TestStoresKilledAtEachPoint(t *testing.T) {
	binary := build(t, "life", "test/crash/life")
	for _, one := range []struct {
		life, folder string
		check        func(dir string, acknowledged, more int) error
	}{
		{"positions", "core/checkpoint", life.CheckPositions},
		{"quarantine", "core/quarantine", life.CheckQuarantine},
		{"spool", "core/spool", life.CheckSpool},
	} {
		found := points(t)
		for _, name := range sortedNames(found) {
			if found[name] != filepath.Join(root(t), one.folder) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dir, said := t.TempDir(), ""
				for kill := 1; kill <= 6; kill++ {
					var out bytes.Buffer
					c := exec.CommandContext(t.Context(), binary, one.life, dir, "60")
					c.Env = append(os.Environ(), fmt.Sprintf("%s=%s:%d", crashpoint.Variable, name, (kill+1)/2))
					c.Stdout, c.Stderr = &out, os.Stderr
					err := c.Run()
					if c.ProcessState == nil {
						t.Fatal(err)
					}
					if !killed(c.ProcessState.Sys().(syscall.WaitStatus)) {
						if kill <= 2 {
							t.Fatalf("the point was not passed: %v", err)
						}
						break
					}
					said += out.String()
					copied := filepath.Join(t.TempDir(), "copy")
					if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
						t.Fatal(err)
					}
					if err := one.check(copied, life.Acknowledged(said), kill); err != nil {
						t.Fatalf("after kill %d: %v", kill, err)
					}
				}
			})
		}
	}
}
