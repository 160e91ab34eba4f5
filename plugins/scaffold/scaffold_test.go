package scaffold

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree is the agent's own tree, which a build carries in part.
func tree() fs.FS { return os.DirFS("../..") }

func project(kind, name string) *Project {
	return &Project{Kind: kind, Name: name, Language: "go", Version: "1.2.3", Source: tree()}
}

// TestModuleList wants a project's go.mod to require what the SDK needs and no
// more; after a change of the SDK's imports, modules.txt gets what is printed.
func TestModuleList(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", `{{if and .Module (not .Module.Main)}}{{.Module.Path}}{{end}}`,
		"../../core/record", "../../core/wire/...", "../../plugins/sdk/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Compact(slices.Sorted(slices.Values(strings.Fields(string(out)))))
	got, err := neededModules()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("modules.txt is not what the SDK needs, which is:\n%s", strings.Join(want, "\n"))
	}
}

func TestEveryRequirementHasItsSums(t *testing.T) {
	sdk, err := goSDK(tree())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range sdk.requires {
		for _, line := range []string{m.Path + " " + m.Version + " h1:", m.Path + " " + m.Version + "/go.mod h1:"} {
			if !strings.Contains(string(sdk.sums), line) {
				t.Errorf("go.sum lacks %s", line)
			}
		}
	}
}

// TestProjectsHoldTheirFiles looks at what an author gets, for every kind.
func TestProjectsHoldTheirFiles(t *testing.T) {
	for _, kind := range Kinds() {
		t.Run(kind, func(t *testing.T) {
			parent := t.TempDir()
			written, err := project(kind, "mask-emails_2").Create(parent)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{".gitignore", "Makefile", "README.md", "go.mod", "go.sum", "main.go", "plugin.go", "plugin_test.go"}
			if !slices.Equal(written, want) {
				t.Errorf("wrote %q, want %q", written, want)
			}
			folder := filepath.Join(parent, "mask-emails_2")
			for _, name := range []string{"main.go", "plugin.go", "plugin_test.go"} {
				if _, err := parser.ParseFile(token.NewFileSet(), filepath.Join(folder, name), nil, 0); err != nil {
					t.Error(err)
				}
			}
			for name, part := range map[string]string{
				"main.go":  `("mask-emails_2", "0.1.0", NewMaskEmails2)`,
				"Makefile": "bin/barnabas-" + kind + "-mask-emails_2",
				"go.mod":   "module barnabas-" + kind + "-mask-emails_2\n",
			} {
				if text, err := os.ReadFile(filepath.Join(folder, name)); err != nil || !strings.Contains(string(text), part) {
					t.Errorf("%s lacks %q: %v", name, part, err)
				}
			}
		})
	}
}

func TestPythonProjectsHoldTheirFiles(t *testing.T) {
	for _, kind := range Kinds() {
		parent := t.TempDir()
		p := project(kind, "mask-emails")
		p.Language = "python"
		written, err := p.Create(parent)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{".gitignore", "Makefile", "README.md", "plugin.py", "requirements.txt", "test_plugin.py"}
		if !slices.Equal(written, want) {
			t.Errorf("wrote %q, want %q", written, want)
		}
		folder := filepath.Join(parent, "mask-emails")
		plugin, err := os.ReadFile(filepath.Join(folder, "plugin.py"))
		if err != nil || !strings.Contains(string(plugin), "serve_"+kind+`("mask-emails", "0.1.0", MaskEmails)`) {
			t.Errorf("plugin.py does not serve its class: %v\n%s", err, plugin)
		}
		for _, name := range []string{"__init__.py", "_serve.py", "plugin_pb2.py", "testing.py", "py.typed", "LICENSE"} {
			if _, err := os.Stat(filepath.Join(folder, "barnabas_plugin", name)); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestCopyHoldsNoTests(t *testing.T) {
	sdk, err := goSDK(tree())
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range sdk.files {
		names[f.name] = true
		if strings.HasSuffix(f.name, "_test.go") || strings.Contains(f.name, "testdata") {
			t.Errorf("the copy holds %s", f.name)
		}
	}
	for _, name := range []string{"sdk/go.mod", "sdk/LICENSE", "sdk/core/wire/v1/plugin.proto", "sdk/plugins/sdk/serve.go", "sdk/plugins/sdk/plugintest/suite.go"} {
		if !names[name] {
			t.Errorf("the copy lacks %s; it holds %q", name, slices.Sorted(maps.Keys(names)))
		}
	}
}

func TestNames(t *testing.T) {
	for name, good := range map[string]bool{
		"upper": true, "mask-emails": true, "a": true, "a1_b2-c3": true, strings.Repeat("a", 48): true,
		"": false, ".": false, "..": false, "../up": false, "/etc": false, "a/b": false, `a\b`: false, "-rf": false, "a--b": false,
		"a-": false, "_a": false, "Upper": false, "1st": false, "ümlaut": false, "a b": false, "a\n": false, "a.b": false, "$(x)": false,
		strings.Repeat("a", 49): false,
	} {
		if err := CheckName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestWrongProjectsWriteNothing(t *testing.T) {
	parent := t.TempDir()
	for _, p := range []*Project{
		project("interceptor", "../up"),
		project("filter", "upper"),
		{Kind: "interceptor", Name: "upper", Language: "cobol", Source: tree()},
	} {
		if _, err := p.Create(parent); err == nil {
			t.Errorf("%s %s in %s was made", p.Kind, p.Name, p.Language)
		}
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestNothingIsOverwritten tries names that are taken, whatever stands there.
func TestNothingIsOverwritten(t *testing.T) {
	parent := t.TempDir()
	taken := map[string]func(path string) error{
		"folder": func(path string) error { return os.Mkdir(path, 0o755) },
		"file":   func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) },
		"link":   func(path string) error { return os.Symlink("nowhere", path) },
	}
	for name, do := range taken {
		path := filepath.Join(parent, name)
		if err := do(path); err != nil {
			t.Fatal(err)
		}
		before, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := project("interceptor", name).Create(parent); err == nil || !strings.Contains(err.Error(), "exists already") {
			t.Errorf("%s: %v, want that it exists already", name, err)
		}
		after, err := os.Lstat(path)
		if err != nil || after.Mode() != before.Mode() || !after.ModTime().Equal(before.ModTime()) {
			t.Errorf("%s has changed: %v, %v", name, after, err)
		}
	}
}

// TestFailureLeavesNothing breaks the source of the SDK.
func TestFailureLeavesNothing(t *testing.T) {
	parent := t.TempDir()
	p := project("interceptor", "upper")
	p.Source = os.DirFS(t.TempDir())
	if _, err := p.Create(parent); err == nil {
		t.Error("a project without SDK was made")
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
