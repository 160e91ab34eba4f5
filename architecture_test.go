// Package barnabas_test holds the tree to its architecture: which package may
// import which, and the limits that keep code readable.
package barnabas_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/barnabas-agent/barnabas/"

// importRule limits the direct imports of the packages under a folder.
type importRule struct {
	folder    string   // path below the module, "" for all
	except    []string // folders below it that the rule does not bind
	onlyOwn   []string // of this module, nothing but what is under these folders; nil: anything
	never     []string // nothing under these folders of this module, or these packages of others
	direction string   // what the rule is for
}

func importRules() []importRule {
	return []importRule{
		{
			folder: "core", never: []string{"sources", "plugins", "cmd", "bench", "test"},
			direction: "the core knows neither sources nor plugins nor commands",
		},
		{
			folder: "core/record", onlyOwn: []string{},
			direction: "records stand at the bottom",
		},
		{
			folder: "core/wire", onlyOwn: []string{"core/wire", "core/record"},
			direction: "the protocol is shared by agent and plugins, so it drags nothing else in",
		},
		{
			folder: "sources", never: []string{"core/pipeline", "core/producer", "plugins", "cmd", "bench", "test"},
			direction: "a source satisfies the pipeline's interface without knowing the pipeline",
		},
		{
			folder: "plugins", except: []string{"plugins/sdk"}, onlyOwn: []string{"plugins"},
			direction: "a built-in plugin sees what every plugin author sees",
		},
		{
			folder: "plugins/sdk", onlyOwn: []string{"plugins/sdk", "core/record", "core/wire"},
			direction: "the SDK does not drag the agent into plugins",
		},
		{
			folder: "cmd", onlyOwn: []string{"cmd", "core", "sources", "plugins/sdk/plugintest", "plugins/scaffold"},
			direction: "the agent links no plugin: it runs them, and carries the kit that tests them and the one that makes their projects",
		},
		{
			folder: "plugins/scaffold", onlyOwn: []string{},
			direction: "what makes projects is handed the tree's files",
		},
		{
			folder: "", except: []string{"core/producer", "bench", "test"}, never: []string{"github.com/confluentinc/confluent-kafka-go"},
			direction: "librdkafka is the producer's alone",
		},
		{
			folder: "", except: []string{"core/config"}, never: []string{"github.com/hashicorp/hcl"},
			direction: "HCL is the configuration's alone",
		},
		{
			folder: "", except: []string{"cmd", "sources", "bench", "test"}, never: []string{"sources"},
			direction: "only the composition root knows sources and core together",
		},
	}
}

// TestImportDirections checks direct imports; what a plugin drags in transitively
// is TestPluginsStayLight's.
func TestImportDirections(t *testing.T) {
	for _, p := range packages(t) {
		for _, rule := range importRules() {
			if !under(p.folder(), rule.folder) || underAny(p.folder(), rule.except) {
				continue
			}
			for _, imported := range p.Imports {
				if !rule.allows(imported) {
					t.Errorf("%s imports %s: %s", p.folder(), imported, rule.direction)
				}
			}
		}
	}
}

func (r importRule) allows(imported string) bool {
	own, isOwn := strings.CutPrefix(imported, module)
	if !isOwn {
		return !underAny(imported, r.never)
	}
	if r.onlyOwn != nil && !underAny(own, r.onlyOwn) {
		return false
	}
	return !underAny(own, r.never)
}

func TestSourcesDoNotKnowEachOther(t *testing.T) {
	for _, p := range packages(t) {
		if !under(p.folder(), "sources") {
			continue
		}
		itself := strings.Join(strings.SplitN(p.folder(), "/", 3)[:2], "/")
		for _, imported := range p.Imports {
			own, isOwn := strings.CutPrefix(imported, module)
			if isOwn && under(own, "sources") && !under(own, itself) {
				t.Errorf("%s imports %s: a source does not know another", p.folder(), imported)
			}
		}
	}
}

// A plugin is its author's program: neither librdkafka nor the agent's
// configuration language nor metrics may come with the SDK.
func TestPluginsStayLight(t *testing.T) {
	heavy := []string{"github.com/confluentinc", "github.com/hashicorp/hcl", "github.com/prometheus", "github.com/twmb", "go.etcd.io/bbolt", "github.com/spf13/cobra"}
	for _, p := range packages(t) {
		if !under(p.folder(), "plugins") {
			continue
		}
		for _, dependency := range p.Deps {
			if underAny(dependency, heavy) {
				t.Errorf("%s depends on %s", p.folder(), dependency)
			}
		}
	}
}

func TestRecordsNeedTheStandardLibraryAlone(t *testing.T) {
	for _, p := range packages(t) {
		if p.folder() != "core/record" {
			continue
		}
		for _, dependency := range p.Deps {
			if host, _, _ := strings.Cut(dependency, "/"); strings.Contains(host, ".") {
				t.Errorf("core/record depends on %s", dependency)
			}
		}
	}
}

// The rules themselves must refuse what they are for.
func TestRulesRefuse(t *testing.T) {
	for _, c := range []struct{ from, imported string }{
		{"core/pipeline", module + "sources/file"},
		{"core/admin", module + "plugins/sdk"},
		{"core/record", module + "core/wire"},
		{"core/wire/v1", module + "core/metric"},
		{"sources/file", module + "core/pipeline"},
		{"plugins/interceptors/filter", module + "core/record"},
		{"plugins/sdk", module + "core/pluginhost"},
		{"cmd/agent", "github.com/confluentinc/confluent-kafka-go/v2/kafka"},
		{"cmd/agent", module + "plugins/interceptors/filter"},
		{"cmd/agent", module + "plugins/sdk"},
		{"plugins/scaffold", module + "plugins/sdk"},
		{"plugins/sdk", "github.com/hashicorp/hcl/v2"},
	} {
		refused := slices.ContainsFunc(importRules(), func(r importRule) bool {
			return under(c.from, r.folder) && !underAny(c.from, r.except) && !r.allows(c.imported)
		})
		if !refused {
			t.Errorf("no rule refuses %s in %s", c.imported, c.from)
		}
	}
}

// goPackage is what `go list` says of a package of this module.
type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// folder is the package's path below the module.
func (p goPackage) folder() string { return strings.TrimPrefix(p.ImportPath, module) }

func packages(t *testing.T) []goPackage {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps", "./...")
	output, err := list.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var all []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// under reports whether path is folder or below it; everything is under "".
func under(path, folder string) bool {
	return folder == "" || path == folder || strings.HasPrefix(path, folder+"/")
}

func underAny(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(folder string) bool { return under(path, folder) })
}
