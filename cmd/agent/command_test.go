package main

import (
	"context"
	"io"
	"strings"
	"testing"
)

// execute runs a command line in this process.
func execute(args ...string) (stdout, stderr string, err error) {
	var out, errs strings.Builder
	root := newRoot(&out, &errs)
	root.SetArgs(args)
	err = root.ExecuteContext(context.Background())
	return out.String(), errs.String(), err
}

func TestWrongUsageHasItsExitCode(t *testing.T) {
	for _, line := range []string{"", "nonsense", "plugin", "plugin nonsense", "run x", "run --nonsense", "status --json=maybe", "version x",
		"quarantine show", "quarantine show a b", "quarantine show x", "quarantine replay", "top", "help nonsense", "plugin describe"} {
		_, _, err := execute(strings.Fields(line)...)
		if code := exitCode(err); code != exitUsage {
			t.Errorf("barnabas %s: code %d: %v", line, code, err)
		}
	}
}

// A command that is announced as not available yet must not be there.
func TestAnnouncedCommandsAreMissing(t *testing.T) {
	for _, c := range allCommands(newRoot(io.Discard, io.Discard)) {
		for _, name := range announced()[c.CommandPath()] {
			for _, sub := range c.Commands() {
				if sub.Name() == name {
					t.Errorf("%s %s is there and said not to be available yet", c.CommandPath(), name)
				}
			}
		}
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	for _, c := range allCommands(newRoot(io.Discard, io.Discard)) {
		path := strings.Fields(c.CommandPath())[1:]
		out, _, err := execute(append(path, "--help")...)
		if err != nil || !strings.Contains(out, "Usage:") || c.Short == "" {
			t.Errorf("%s --help: %v: %s", c.CommandPath(), err, out)
		}
	}
}
