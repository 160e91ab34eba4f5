// Package seeded proves that the tests can fail: it builds the tree with one
// known bug at a time, each of which an agent in the field has or had, and runs
// the tests that must find it.
package seeded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bug is a change of the tree and the tests that must fail with it.
type bug struct {
	name     string
	file     string
	old, new string // of the file; old is in it once
	also     *bug   // a change of another file that belongs to it
	packages string
	run      string // pattern of the tests
}

func bugs() []bug {
	return []bug{
		{
			name: "position moved by any later report",
			file: "core/pipeline/tracker.go",
			old:  "	case r.older != nil:\n		r.older.behind = r.behind\n		t.unlink(r)\n",
			new:  "	case r.older != nil:\n		t.unlink(r)\n		r.stream.Delivered(r.behind)\n",

			packages: "./core/pipeline",
			run:      "Tracker|Position|Resolved|Order",
		},
		{
			name: "position moved at enqueue",
			file: "core/pipeline/lane.go",
			old:  "	crashpoint.At(\"pipeline.send\")\n",
			new:  "	crashpoint.At(\"pipeline.send\")\n	l.tracker.resolve(f, live)\n",

			packages: "./core/pipeline",
			run:      "Resolved|Position|Stop|Hard|Delivered|Accepted",
		},
		{
			name: "rotated file released by a timer",
			file: "sources/file/discover.go",
			old:  "	if !f.isDone(now) {\n",
			new:  "	if !f.isDone(now) && now.Sub(f.changed) < 20*time.Millisecond {\n",

			also: &bug{
				file: "sources/file/rest.go",
				old:  "func (f *file) mayLeaveLocked() bool {\n",
				new:  "func (f *file) mayLeaveLocked() bool {\n	if f.leaving == leavesGone {\n		return true\n	}\n",
			},
			packages: "./sources/file",
			run:      "Rotat|Held|Deleted|Model",
		},
		{
			name: "position of the read cursor saved instead of the delivered one",
			file: "sources/file/file.go",
			old:  "	s, err := f.stateLocked()\n	if err != nil {\n		return nil, false // the position stays",
			new:  "	f.content.delivered.Store(f.cursor)\n	s, err := f.stateLocked()\n	if err != nil {\n		return nil, false // the position stays",

			packages: "./sources/file",
			run:      "TestModel$",
		},
		{
			name: "inode alone as identity",
			file: "sources/file/identity.go",
			old:  "	case saved.identity != found.identity:\n",
			new:  "	case saved.identity.inode == found.identity.inode:\n		return decision{position: saved.position, resumed: true, reason: \"it is the inode\"}\n	case saved.identity != found.identity:\n",

			packages: "./sources/file",
			run:      "Decide|Identity|Inode|Reused|Truncat",
		},
		{
			name: "no directory fsync for positions",
			file: "core/checkpoint/store.go",
			old:  "		err = syncDir(s.dir)\n		crashpoint.At(\"checkpoint.install.synced\")\n",
			new:  "		crashpoint.At(\"checkpoint.install.synced\")\n",

			packages: "./test/powerloss",
			run:      "Positions.*AtEveryStep",
		},
		{
			name: "name of the folder of positions not durable",
			file: "core/checkpoint/files.go",
			old:  "	return syncDir(parent)\n",
			new:  "	return nil\n",

			packages: "./test/powerloss",
			run:      "Positions.*AtEveryStep",
		},
		{
			name: "no file fsync for positions",
			file: "core/checkpoint/store.go",
			old:  "Timeout: time.Second, OpenFile: openOwn}",
			new:  "Timeout: time.Second, OpenFile: openOwn, NoSync: true}",

			packages: "./test/powerloss",
			run:      "Positions.*AtEveryStep",
		},
		{
			name: "failed fsync of positions believed later",
			file: "core/checkpoint/store.go",
			old:  "	if s.stale {\n",
			new:  "	if false {\n",

			packages: "./test/powerloss",
			run:      "AfterSyncsThatFailed",
		},
		{
			name: "no directory fsync for the quarantine",
			file: "core/quarantine/store.go",
			old:  "	err = syncDir(s.dir)\n	crashpoint.At(\"quarantine.segment.synced\")\n",
			new:  "	crashpoint.At(\"quarantine.segment.synced\")\n",

			packages: "./test/powerloss",
			run:      "Quarantine",
		},
		{
			name: "failed fsync of the quarantine believed later",
			file: "core/quarantine/store.go",
			old:  "		return errors.Join(fmt.Errorf(\"write to the quarantine: %w\", err), s.abandonLocked())\n",
			new:  "		if s.active != nil && s.active.Sync() == nil {\n			return nil\n		}\n		return err\n",

			packages: "./test/powerloss",
			run:      "Quarantine.*Failed",
		},
		{
			name: "no directory fsync for the spool",
			file: "core/spool/directory.go",
			old:  "		err = dir.Sync()\n		crashpoint.At(\"spool.segment.synced\")\n",
			new:  "		crashpoint.At(\"spool.segment.synced\")\n",

			packages: "./test/powerloss",
			run:      "SpoolSurvives",
		},
		{
			name: "spool acknowledged before its sync",
			file: "core/spool/writer.go",
			old:  "	if s.config.NoSync {\n",
			new:  "	if true {\n",

			packages: "./test/powerloss",
			run:      "SpoolSurvives",
		},
		{
			name: "failed fsync of the spool believed later",
			file: "core/spool/writer.go",
			old:  "		return errors.Join(fmt.Errorf(\"sync: %w\", err), s.abandon())\n",
			new:  "		return fmt.Errorf(\"sync: %w\", err)\n",

			packages: "./test/powerloss",
			run:      "SpoolSurvives.*AfterSyncsThatFailed",
		},
		{
			name: "spool's position moved by any delivery",
			file: "core/spool/progress.go",
			old:  "		least = min(least, s.bound)\n",
			new:  "		_ = s.bound\n",

			packages: "./core/spool",
			run:      "Model|Contract",
		},
	}
}

func TestEachSeededBugIsFound(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bugs() {
		t.Run(b.name, func(t *testing.T) {
			overlay, err := b.overlay(root, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			output, found := b.test(t, root, overlay)
			if !found {
				t.Errorf("the tests %s of %s do not find it:\n%s", b.run, b.packages, output)
				return
			}
			t.Logf("found after %s: %s", time.Since(begin).Round(time.Second), firstFailure(output))
		})
	}
}

// overlay writes the changed files and the list that the go command takes.
func (b *bug) overlay(root, dir string) (string, error) {
	replaced := map[string]string{}
	for ; b != nil; b = b.also {
		path := filepath.Join(root, b.file)
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if n := strings.Count(string(text), b.old); n != 1 {
			return "", fmt.Errorf("the bug no longer applies: its place is %d times in %s: put it where the code has moved to", n, b.file)
		}
		replaced[path] = filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(replaced[path], []byte(strings.Replace(string(text), b.old, b.new, 1)), 0o600); err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": replaced})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o600)
}

// test runs the tests with the bug and reports whether they failed by themselves.
func (b bug) test(t *testing.T, root, overlay string) (output string, found bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	arguments := []string{"test", "-count=1", "-timeout=120s", "-failfast", "-run=" + b.run, b.packages}
	if b.modelled(t, root) {
		arguments = append(arguments, "-rapid.nofailfile") // which would be for the bug, not for the tree
	}
	c := exec.CommandContext(ctx, "go", arguments...)
	c.Dir = root
	// By the environment it also reaches what tests build.
	c.Env = append(os.Environ(), "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	all, err := c.CombinedOutput()
	output = string(all)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if strings.Contains(output, "build failed") || strings.Contains(output, "setup failed") {
		t.Fatalf("the bug does not build:\n%s", output)
	}
	return output, err != nil && (strings.Contains(output, "--- FAIL") || strings.Contains(output, "panic:"))
}

// modelled reports that the tests have rapid's flags.
func (b bug) modelled(t *testing.T, root string) bool {
	t.Helper()
	c := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.TestImports}} {{.XTestImports}}", b.packages)
	c.Dir = root
	output, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(output), "pgregory.net/rapid")
}

func firstFailure(output string) string {
	for line := range strings.Lines(output) {
		if name, failed := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: "); failed {
			return name
		}
	}
	return "a panic"
}
