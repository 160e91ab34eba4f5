package sdk_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestPluginsStaySmall holds what a plugin's author imports: of this module the
// SDK, the protocol and records, and nothing that needs cgo or HCL.
func TestPluginsStaySmall(t *testing.T) {
	const module = "github.com/barnabas-agent/barnabas/"
	out, err := exec.Command("go", "list", "-deps", "-f",
		`{{if not .Standard}}{{.ImportPath}} {{len .CgoFiles}}{{end}}`, module+"plugins/sdk", module+"core/wire").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		path, cgo, _ := strings.Cut(strings.TrimSpace(line), " ")
		if cgo != "0" {
			t.Errorf("%s needs cgo", path)
		}
		if strings.Contains(path, "hashicorp/hcl") || strings.Contains(path, "confluent") {
			t.Errorf("a plugin would link %s", path)
		}
		if own, ok := strings.CutPrefix(path, module); ok && !strings.HasPrefix(own, "plugins/sdk") &&
			!strings.HasPrefix(own, "core/wire") && own != "core/record" {
			t.Errorf("the SDK imports %s", own)
		}
	}
}
