package pythontest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/barnabas-agent/barnabas/plugins/sdk/plugintest"
	pythontest "github.com/barnabas-agent/barnabas/test/python"
)

// TestConformance puts the examples through what the agent asks of every plugin.
func TestConformance(t *testing.T) {
	for name, config := range map[string]string{
		"barnabas-interceptor-shout": `{"whisper": "record 7"}`,
		"barnabas-serializer-hex":    `{"digits": "upper"}`,
		"barnabas-partitioner-crc32": `{"salt": "s"}`,
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

// verdict is a test that only remembers how it was ended.
type verdict struct {
	testing.TB
	skipped, failed string
}

func (v *verdict) Helper() {}

func (v *verdict) Skipf(format string, arguments ...any) {
	v.skipped = fmt.Sprintf(format, arguments...)
	runtime.Goexit()
}

func (v *verdict) Fatalf(format string, arguments ...any) {
	v.failed = fmt.Sprintf(format, arguments...)
	runtime.Goexit()
}

func TestMissingPythonSkipsOrFails(t *testing.T) {
	require := func() *verdict {
		v := &verdict{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			pythontest.Require(v)
		}()
		<-done
		return v
	}
	t.Setenv("PATH", t.TempDir())
	t.Setenv(pythontest.RequireVariable, "")
	if v := require(); v.failed != "" || !strings.Contains(v.skipped, "NOT TESTED WITH PYTHON: python3 is missing") {
		t.Errorf("without %s=1: skipped %q, failed %q", pythontest.RequireVariable, v.skipped, v.failed)
	}
	t.Setenv(pythontest.RequireVariable, "1")
	if v := require(); v.skipped != "" || !strings.Contains(v.failed, "python3 is missing") {
		t.Errorf("with %s=1: skipped %q, failed %q", pythontest.RequireVariable, v.skipped, v.failed)
	}
}
