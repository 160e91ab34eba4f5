package pythontest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/barnabas-agent/barnabas/plugins/sdk/plugintest"
	pythontest "github.com/barnabas-agent/barnabas/test/python"
)

// TestConformance puts the examples through what the agent asks of every plugin.
func TestConformance(t *testing.T) {
	for name, config := range map[string]string{
		"barnabas-interceptor-shout": `{"whisper": "record 7"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plugin := pythontest.Install(t, filepath.Join(pythontest.Folder(t), "examples", name), t.TempDir())
			plugintest.RunProcess(t, plugin, config)
		})
	}
}

// TestUnits runs the package's and the examples' own tests.
func TestUnits(t *testing.T) {
	interpreter, folder := pythontest.Require(t), pythontest.Folder(t)
	for _, tests := range []string{"tests", "examples"} {
		command := exec.CommandContext(t.Context(), interpreter, "-B", "-W", "error", "-m", "unittest", "discover", "--start-directory", tests)
		command.Dir = folder
		command.Env = append(os.Environ(), "PYTHONPATH="+folder)
		if printed, err := command.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", tests, err, printed)
		}
	}
}
