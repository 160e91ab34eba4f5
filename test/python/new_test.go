package pythontest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	pythontest "github.com/barnabas-agent/barnabas/test/python"
)

// TestNewPlugin makes a project of each kind, and builds, tests and checks it
// with its own Makefile, in an environment whose packages are installed.
func TestNewPlugin(t *testing.T) {
	venv := filepath.Dir(filepath.Dir(pythontest.Require(t)))
	agent, err := filepath.Abs("../../bin/barnabas")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(agent); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	for _, kind := range []string{"interceptor", "serializer", "partitioner"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			run(t, folder, agent, "plugin", "new", kind, "greet", "--lang", "python")
			project := filepath.Join(folder, "greet")
			run(t, project, "make", "VENV="+venv, "BARNABAS="+agent, "--old-file="+filepath.Join(venv, "complete"), "build", "test", "check")
		})
	}
}

func run(t *testing.T, folder, name string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Dir = folder
	if printed, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, printed)
	}
}
