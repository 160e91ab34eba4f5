package config_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/barnabas-agent/barnabas/core/config"
)

// load writes an agent.hcl into a folder of its own and loads it.
func load(t *testing.T, text string, options config.Options) (*config.Config, config.Diagnostics) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.hcl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(path, options)
}

// mustLoad is load for a configuration without fault.
func mustLoad(t *testing.T, text string) *config.Config {
	t.Helper()
	c, diagnostics := load(t, text, config.Options{})
	if len(diagnostics) > 0 {
		t.Fatalf("diagnostics: %v", diagnostics)
	}
	return c
}

const pipelineWithSet = `producer {}
pipeline "a" {
  topic = "a"
  source "file" { include = ["a.log"] }
  interceptor "set" {
    config = {
      key      = "value"
      headers  = { "x/y~z" = "1", b = upper }
      patterns = ["email", "ipv4"]
    }
  }
  partitioner "murmur2" {}
}
`

func TestExampleConfigurationOfTheTree(t *testing.T) {
	c, diagnostics := config.Load("../../agent.hcl", config.Options{})
	if len(diagnostics) > 0 {
		t.Fatalf("agent.hcl: %v", diagnostics)
	}
	stages := c.Pipelines[0].Stages()
	names := make([]string, len(stages))
	for i, s := range stages {
		names[i] = filepath.Base(s.Path)
	}
	want := "[barnabas-interceptor-filter barnabas-interceptor-set barnabas-serializer-json barnabas-partitioner-murmur2]"
	if fmt.Sprint(names) != want {
		t.Errorf("stages %v, want %v", names, want)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Pipelines[0].Sources[0].File.Include[0], filepath.Join(root, "logs/*.log"); got != want {
		t.Errorf("include %q, want %q", got, want)
	}
}

func TestLoadWithoutPathLooksInTheWorkingDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	if got := config.DefaultPath(); got != "/etc/barnabas/agent.hcl" {
		t.Errorf("without agent.hcl: %q", got)
	}
	if err := os.WriteFile("agent.hcl", []byte(`pipeline "a" {}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, diagnostics := config.Load("", config.Options{})
	if len(diagnostics) == 0 || diagnostics[0].File != "agent.hcl" {
		t.Errorf("diagnostics: %v", diagnostics)
	}
}

func TestAFileMayHaveAnyNameAndBeAPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("producer {}\npipeline \"a\" {\n topic = \"a\"\n source \"file\" { include = [\"/a.log\"] }\n}\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c, diagnostics := config.Load(fmt.Sprintf("/dev/fd/%d", r.Fd()), config.Options{})
	if len(diagnostics) > 0 || len(c.Pipelines) != 1 {
		t.Errorf("pipelines %d, diagnostics %v", len(c.Pipelines), diagnostics)
	}
}

func TestConfigDiagnosticFindsTheMember(t *testing.T) {
	text := strings.Replace(pipelineWithSet, "upper", `"2"`, 1)
	c := mustLoad(t, text)
	stage := &c.Pipelines[0].Interceptors[0]
	for _, test := range []struct {
		pointer      string
		line, column int
	}{
		{"", 6, 14},
		{"/key", 7, 7},
		{"/headers", 8, 7},
		{"/headers/x~1y~0z", 8, 20},
		{"/headers/b", 8, 35},
		{"/headers/absent", 8, 7},
		{"/patterns/1", 9, 28},
		{"/patterns/9", 9, 7},
		{"/absent", 6, 14},
		{"no pointer", 6, 14},
	} {
		d := stage.ConfigDiagnostic(test.pointer, "is wrong", "do better")
		if d.Line != test.line || d.Column != test.column || d.Snippet == "" || d.Hint != "do better" || d.Severity != config.Error {
			t.Errorf("%q: at %d:%d, want %d:%d: %+v", test.pointer, d.Line, d.Column, test.line, test.column, d)
		}
	}
	if d := c.Pipelines[0].Partitioner.ConfigDiagnostic("/x", "m", ""); d.Line != 12 {
		t.Errorf("a stage without config: at line %d, want the block's", d.Line)
	}
}

func TestPlacesOfAStage(t *testing.T) {
	c := mustLoad(t, "producer {}\npipeline \"a\" {\n  topic = \"a\"\n  source \"file\" { include = [\"a\"] }\n"+
		"  interceptor \"one\" {}\n  interceptor \"two\" { path = \"/x\" }\n}\n")
	one, two := c.Pipelines[0].Interceptors[0], c.Pipelines[0].Interceptors[1]
	for _, test := range []struct {
		name         string
		place        config.Place
		line, column int
	}{
		{"block", one.Places.Block(), 5, 3},
		{"label", one.Label(), 5, 15},
		{"path left out", one.Places.At("path"), 5, 15},
		{"path", two.Places.At("path"), 6, 30},
		{"attribute left out", two.Places.At("timeout"), 6, 3},
	} {
		d := test.place.Warning("m", "")
		if d.Line != test.line || d.Column != test.column {
			t.Errorf("%s: %d:%d, want %d:%d", test.name, d.Line, d.Column, test.line, test.column)
		}
	}
	if d := (config.Place{}).Error("m", "h"); d.Line != 1 || d.Column != 1 {
		t.Errorf("the zero Place: %v", d)
	}
}

func TestPropertyDiagnosticFindsTheProperty(t *testing.T) {
	c := mustLoad(t, "producer {\n  config = {\n    \"client.rack\" = \"a\"\n    foo = \"b\"\n  }\n}\n"+
		"pipeline \"a\" {\n  topic = \"a\"\n  source \"file\" { include = [\"a\"] }\n}\n")
	if d := c.Producers[0].PropertyDiagnostic("foo", "no such property", ""); d.Line != 4 || d.Column != 5 {
		t.Errorf("at %d:%d", d.Line, d.Column)
	}
}

func TestUseDevBroker(t *testing.T) {
	c, diagnostics := load(t, "producer {\n  sasl {\n    mechanism = \"PLAIN\"\n    username = \"u\"\n    password = credential(\"x\")\n  }\n  tls {}\n}\n"+
		"pipeline \"a\" {\n  topic = \"a\"\n  source \"file\" { include = [\"a\"] }\n}\n", config.Options{IgnoreSecurity: true})
	if len(diagnostics) > 0 {
		t.Fatalf("diagnostics: %v", diagnostics)
	}
	c.UseDevBroker([]string{"127.0.0.1:5"}, "/state")
	p := c.Producer("default")
	if p.TLS != nil || p.SASL != nil || p.BootstrapServers[0] != "127.0.0.1:5" || c.Agent.DataDir != "/state" {
		t.Errorf("producer %+v, agent %+v", p, c.Agent)
	}
}

func TestSpecialCharactersOfTheFolderAreNoGlob(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "a[b]{c}*")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "agent.hcl")
	if err := os.WriteFile(path, []byte("producer {}\npipeline \"a\" {\n  topic = \"a\"\n  source \"file\" { include = [\"*.log\"] }\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, diagnostics := config.Load(path, config.Options{})
	if len(diagnostics) > 0 {
		t.Fatalf("diagnostics: %v", diagnostics)
	}
	if got := c.Pipelines[0].Sources[0].File.Include[0]; !strings.HasSuffix(got, `/a\[b\]\{c\}\*/*.log`) {
		t.Errorf("include %q", got)
	}
}

func TestSecretsReachOnlyTheirUser(t *testing.T) {
	const secret = "s3cr3t-hunter2"
	c := mustLoad(t, `producer {
  sasl {
    mechanism = "PLAIN"
    username  = "`+secret+`"
    password  = "`+secret+`"
  }
  config = { "sasl.oauthbearer.client.secret" = "`+secret+`" }
}
pipeline "a" {
  topic = "a"
  source "file" { include = ["a.log"] }
  interceptor "redact" {
    config = { deep = { list = [{ salt = "`+secret+`" }] } }
    env    = { TOKEN = "`+secret+`" }
  }
}
`)
	stage := c.Pipelines[0].Interceptors[0]
	if got := c.Producers[0].SASL.Password.Reveal(); got != secret {
		t.Errorf("password %q", got)
	}
	if got := string(stage.Config.JSON()); got != `{"deep":{"list":[{"salt":"`+secret+`"}]}}` {
		t.Errorf("config %s", got)
	}
	if got := stage.Env["TOKEN"].Reveal(); got != secret {
		t.Errorf("env %q", got)
	}
	for name, text := range dumps(t, c) {
		if strings.Contains(text, secret) {
			t.Errorf("%s shows the secret: %s", name, text)
		}
	}
}

// dumps prints a configuration in every way that a log or an error might.
func dumps(t *testing.T, c *config.Config) map[string]string {
	t.Helper()
	stage := c.Pipelines[0].Interceptors[0]
	sasl := c.Producers[0].SASL
	texts := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		hidden := struct{ inner any }{*sasl}
		texts[verb] = fmt.Sprintf(verb+verb+verb+verb+verb, c, *sasl, sasl.Password, stage, hidden)
	}
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	texts["json"] = string(asJSON)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "password", sasl.Password, "config", stage.Config, "all", c)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "password", sasl.Password, "config", stage.Config, "all", c)
	texts["slog"] = log.String()
	return texts
}

func TestTheEmptySecretIsSeenToBeEmpty(t *testing.T) {
	if s := (config.Secret{}); !s.IsEmpty() || s.String() != "" || s.Reveal() != "" {
		t.Errorf("zero secret: %q", s)
	}
	if s := config.NewSecret("x"); s.IsEmpty() || s.String() == "" {
		t.Errorf("secret: %q", s)
	}
}

func TestTextThatCanNotBeParsedSafelyIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"nesting":   "a = " + strings.Repeat("(", 200_000),
		"objects":   "a = " + strings.Repeat("{a=", 200_000),
		"templates": "a = " + strings.Repeat("\"${", 200_000),
		"operators": "a = " + strings.Repeat("!", 500_000) + "true",
		"sums":      "a = 1" + strings.Repeat("+1", 500_000),
		"number":    "agent { shutdown_timeout = \"${1e999999999}\" }",
		"size":      strings.Repeat("#", 2<<20),
	} {
		if _, diagnostics := load(t, text, config.Options{}); !diagnostics.HasErrors() {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "512": 512, "1B": 1, "1kB": 1000, "1KB": 1000, "1KiB": 1024, "32MiB": 32 << 20,
		"1MB": 1_000_000, "2 GiB": 2 << 30, "1GB": 1e9, "1TB": 1e12, "1TiB": 1 << 40, "9223372036854775807": 1<<63 - 1,
	} {
		if got, err := config.ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
		if got, err := config.ParseSize(config.FormatSize(want)); err != nil || got != want {
			t.Errorf("%d formatted as %q is read as %d, %v", want, config.FormatSize(want), got, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "+1", "1.5MiB", "1e3", "0x10", "32M", "32mib", "1XB", "1 MiB x", "9223372036854775808", "9223372036854775807KiB", " 1"} {
		if got, err := config.ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d", text, got)
		}
	}
}

func TestPluginConfigNumbersFitIntegers(t *testing.T) {
	c := mustLoad(t, "producer {}\npipeline \"a\" {\n  topic = \"a\"\n  source \"file\" { include = [\"a\"] }\n"+
		"  interceptor \"x\" { config = { a = 12345678, b = 0.1, c = -3, d = 9007199254740993, e = 1e300 } }\n}\n")
	want := `{"a":12345678,"b":0.1,"c":-3,"d":9007199254740993,"e":1e+300}`
	if got := string(c.Pipelines[0].Interceptors[0].Config.JSON()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestErrorsBeyondTheBoundAreNotForgotten(t *testing.T) {
	warnings := "producer \"p\" { enable_idempotence = false }\n"
	_, diagnostics := load(t, strings.Repeat(warnings, 1100)+"pipeline \"a\" { send = 1 }\n", config.Options{})
	if !diagnostics.HasErrors() || len(diagnostics) > 1100 {
		t.Errorf("%d diagnostics, errors: %v", len(diagnostics), diagnostics.HasErrors())
	}
}

func TestWhatAPluginSaysIsShownWithoutItsSecrets(t *testing.T) {
	const secret = "s3cr3t \"hunter2\""
	c, diagnostics := load(t, "producer {}\npipeline \"a\" {\n  topic = \"a\"\n  source \"file\" { include = [\"a\"] }\n"+
		"  interceptor \"x\" {\n    config = { salt = env(\"S\"), n = 1 }\n    env = { TOKEN = env(\"S\"), TZ = \"UTC\" }\n  }\n}\n",
		config.Options{LookupEnv: func(string) (string, bool) { return secret, true }})
	if len(diagnostics) > 0 {
		t.Fatalf("diagnostics: %v", diagnostics)
	}
	stage := &c.Pipelines[0].Interceptors[0]
	d := stage.ConfigDiagnostic("/salt", fmt.Sprintf("%q is too short", secret), "it printed:\nsalt "+secret+"\nin UTC")
	if strings.Contains(d.Text(), "hunter2") || !strings.Contains(d.Text(), "in UTC") {
		t.Error(d.Text())
	}
	if !strings.Contains(d.Text(), "  hint: it printed:\n        salt (secret)\n") {
		t.Errorf("the hint's lines: %s", d.Text())
	}
}

func TestACredentialMayDecideAboutAWholeObject(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "which"), []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const object = `credential("which") == "one" ? { a = "first", n = 1 } : { a = "second", n = 1 }`
	c, diagnostics := load(t, "producer { config = "+object+" }\npipeline \"a\" {\n  topic = \"a\"\n  source \"file\" { include = [\"a\"] }\n"+
		"  interceptor \"x\" {\n    config = "+object+"\n    env = "+object+"\n  }\n}\n",
		config.Options{LookupEnv: func(string) (string, bool) { return folder, true }})
	if len(diagnostics) > 0 {
		t.Fatalf("diagnostics: %v", diagnostics)
	}
	stage := &c.Pipelines[0].Interceptors[0]
	if got := string(stage.Config.JSON()); got != `{"a":"first","n":1}` {
		t.Errorf("config %s", got)
	}
	if got := stage.WithoutSecrets("the first"); got != "the (secret)" || strings.Contains(stage.Config.String(), "first") {
		t.Errorf("shown: %q, %s", got, stage.Config)
	}
}
