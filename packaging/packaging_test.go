// Package packaging holds what an installation consists of beside the binaries.
package packaging

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// mostExposed is the most that `systemd-analyze security` may find, in tenths: 2.0.
const mostExposed = "20"

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// analyze runs systemd-analyze, which BARNABAS_REQUIRE_SYSTEMD=1 makes necessary.
func analyze(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("BARNABAS_REQUIRE_SYSTEMD") == "1" {
			t.Fatal("BARNABAS_REQUIRE_SYSTEMD=1, but systemd-analyze is missing: install the package systemd")
		}
		t.Skip("systemd-analyze is missing")
	}
	output, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return string(output)
}

func TestTheUnitIsHardened(t *testing.T) {
	output := analyze(t, "security", "--offline=yes", "--no-pager", "--threshold="+mostExposed, "barnabas.service")
	t.Log(regexp.MustCompile(`Overall exposure.*`).FindString(output))
}

// TestUnitsAreWellFormed verifies the units in a root that has what they name.
func TestUnitsAreWellFormed(t *testing.T) {
	root := t.TempDir()
	units := filepath.Join(root, "usr/lib/systemd/system")
	for folder, mode := range map[string]os.FileMode{units: 0o755, filepath.Join(root, "usr/bin"): 0o755} {
		if err := os.MkdirAll(folder, mode); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{
		filepath.Join(root, "usr/bin/barnabas"):       "#!/bin/sh\n",
		filepath.Join(units, "barnabas.service"):      read(t, "barnabas.service"),
		filepath.Join(units, "barnabas.socket"):       read(t, "barnabas.socket"),
		filepath.Join(units, "sysinit.target"):        "[Unit]\n",
		filepath.Join(units, "network-online.target"): "[Unit]\n",
	}
	for path, text := range files {
		mode := os.FileMode(0o644)
		if filepath.Base(path) == "barnabas" {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, example := range []string{"examples/credentials.conf", "examples/control-groups.conf"} {
		dropIn := filepath.Join(units, "barnabas.service.d", filepath.Base(example))
		if err := os.MkdirAll(filepath.Dir(dropIn), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dropIn, []byte(uncommented(t, example)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	output := analyze(t, "verify", "--man=no", "--recursive-errors=no", "--root="+root,
		"/usr/lib/systemd/system/barnabas.service", "/usr/lib/systemd/system/barnabas.socket")
	if strings.TrimSpace(output) != "" {
		t.Errorf("systemd-analyze verify says:\n%s", output)
	}
}

// uncommented is a drop-in of which everything is in comments, with the settings taken out of them.
func uncommented(t *testing.T, name string) string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(read(t, name)) {
		text, comment := strings.CutPrefix(line, "#")
		if !comment && strings.TrimSpace(line) != "" {
			t.Errorf("%s sets something: %s", name, line)
		}
		if !strings.HasPrefix(text, " ") {
			lines = append(lines, text)
		}
	}
	return strings.Join(lines, "")
}

// TestTheUnitFitsTheAgent holds the unit to what the agent does by itself.
func TestTheUnitFitsTheAgent(t *testing.T) {
	unit := read(t, "barnabas.service")
	settings := map[string]string{}
	for line := range strings.Lines(unit) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			settings[name] = value
		}
	}
	for name, want := range map[string]string{
		"Type": "notify", "KillMode": "mixed", "OOMPolicy": "continue", "Restart": "on-failure",
		"User": "barnabas", "Group": "barnabas", "StateDirectory": "barnabas", "RuntimeDirectory": "barnabas", "WatchdogSec": "30",
	} {
		if settings[name] != want {
			t.Errorf("%s=%s, want %s", name, settings[name], want)
		}
	}
	stop, err := time.ParseDuration(settings["TimeoutStopSec"] + "s")
	if shutdown := 30*time.Second + 5*time.Second; err != nil || stop <= shutdown {
		t.Errorf("TimeoutStopSec=%s is not beyond %s", settings["TimeoutStopSec"], shutdown)
	}
	if strings.Contains(unit, "LoadCredential") {
		t.Error("a fresh installation has no credentials to load")
	}
	if _, prevents := settings["RestartPreventExitStatus"]; prevents {
		t.Error("Go ends with 2 after a panic, and when the watchdog kills it: no code may keep it from being started anew")
	}
	if !strings.HasPrefix(settings["ExecStart"], "/usr/bin/barnabas run ") {
		t.Errorf("ExecStart=%s", settings["ExecStart"])
	}
}

// TestTheInstalledConfigurationIsValid checks agent.hcl with the built agent and plugins.
func TestTheInstalledConfigurationIsValid(t *testing.T) {
	binary, err := filepath.Abs("../bin/barnabas")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); errors.Is(err, os.ErrNotExist) {
		t.Fatal("run make build first")
	}
	config := filepath.Join(t.TempDir(), "agent.hcl")
	text := strings.ReplaceAll(read(t, "agent.hcl"), "/usr/lib/barnabas/plugins", filepath.Join(filepath.Dir(binary), "plugins"))
	for _, one := range []string{text, strings.NewReplacer("# pipeline", "pipeline", "\n#   ", "\n", "\n# }", "\n}").Replace(text)} {
		if err := os.WriteFile(config, []byte(one), 0o600); err != nil {
			t.Fatal(err)
		}
		output, err := exec.CommandContext(t.Context(), binary, "validate", "--config", config).CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s\n%s", err, output, one)
		}
		t.Logf("%s", output)
	}
}
