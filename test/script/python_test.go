package script

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	pythontest "github.com/barnabas-agent/barnabas/test/python"
)

// TestPython drives the agent with the example plugins in Python, installed in $WORK/plugins.
func TestPython(t *testing.T) {
	agent, interpreter, folder := binary(t), pythontest.Require(t), pythontest.Folder(t)
	installed := t.TempDir()
	examples, err := filepath.Glob(filepath.Join(folder, "examples", "barnabas-*"))
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples in %s: %v", folder, err)
	}
	for _, example := range examples {
		pythontest.Install(t, example, installed)
	}
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("testdata", "python"),
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("BARNABAS", agent)
			env.Setenv("PLUGINS", filepath.Join(filepath.Dir(agent), "plugins"))
			env.Setenv("PYTHON", folder)
			env.Setenv("VENV", filepath.Dir(interpreter))
			env.Values[programsKey{}] = &programs{running: map[string]*program{}}
			return os.CopyFS(filepath.Join(env.WorkDir, "plugins"), os.DirFS(installed))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"barnabas": cmdBarnabas,
			"start":    cmdStart,
			"signal":   cmdSignal,
			"ends":     cmdEnds,
			"plugins":  cmdPlugins,
			"await":    cmdAwait,
			"add":      cmdAdd,
			"expand":   cmdExpand,
		},
	})
}
