package pluginhost

import (
	"os"
	"path/filepath"
	"testing"
)

// TestDescriptionOfAScriptIsAskedAnew changes what a script runs, and not the script.
func TestDescriptionOfAScriptIsAskedAnew(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	module := filepath.Join(f.dir, "module")
	script := at(f.spec(Interceptor, "trial", nil), f.file("script", "#!/bin/sh\nexec "+module+" \"$@\"\n", 0o755))
	for version, behaviour := range map[string]string{"1.2.3": "barnabas-interceptor-trial", "2.0.0": "barnabas-interceptor-later"} {
		if err := os.Remove(module); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		// The fixture's programs know what to do by the name that they are started by.
		if err := os.WriteFile(module, []byte("#!/bin/sh\nexec "+filepath.Join(f.dir, behaviour)+" \"$@\"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if d, _, err := f.Describe(t.Context(), script); err != nil || d.Version != version {
			t.Errorf("described as %v, %v; want version %s", d, err, version)
		}
	}
}

// TestDescriptionIsAskedForInTheStagesEnvironment has a script find its program by it.
func TestDescriptionIsAskedForInTheStagesEnvironment(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	called := filepath.Join(f.dir, "called")
	spec := at(f.spec(Interceptor, "trial", nil), f.file("script", "#!/bin/sh\necho \"$@\" >>"+called+"\nexec \"$PROGRAM\" \"$@\"\n", 0o755))
	spec.Env["PROGRAM"] = filepath.Join(f.dir, "barnabas-interceptor-trial")
	if _, _, err := f.Describe(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(called); err != nil || string(text) != "describe\n" {
		t.Errorf("the script was called with %q, %v; want describe alone", text, err)
	}
}
