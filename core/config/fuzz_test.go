package config_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/barnabas-agent/barnabas/core/config"
)

// FuzzLoad loads arbitrary text. Nothing may panic or hang, and whatever is said
// must have a place in the text and fit a line.
func FuzzLoad(f *testing.F) {
	archives, err := filepath.Glob("testdata/load/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range archives {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if strings.HasSuffix(file.Name, ".hcl") {
				f.Add(string(file.Data))
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, diagnostics := loadText(t, text)
		lines := strings.Count(text, "\n") + 1
		for _, d := range diagnostics {
			if d.Line < 1 || d.Line > lines || d.Column < 1 || d.Message == "" || strings.ContainsAny(d.Error(), "\n\x1b") || strings.Contains(d.Hint, "\x1b") {
				t.Errorf("%#v", d)
			}
		}
	})
}

// FuzzSecrets breaks a configuration around its secrets: whatever a slip of the
// hand makes of it, no secret is shown.
func FuzzSecrets(f *testing.F) {
	for _, s := range []string{"", "{", "}", "\"", "=", ",", "\n", "<<EOT\n", "${", "#", "/*", "[", "(", "a = ", " x ", "''", "%{", "\\", "?", ":", "null"} {
		for _, at := range []uint16{0, 20, 40, 61, 90, 140} {
			f.Add(at, uint8(0), s)
			f.Add(at, uint8(6), s)
		}
	}
	const secret = "hunter2swordfish"
	pieces := []string{"producer {\n  config = {}\n  sasl {\n    mechanism = \"X\"\n    username = \"u\"\n    password = \"", "\"\n    api_token = \"",
		"\"\n  }\n  tls {\n    key_password = ", "\n    ca_file = 1\n  }\n}\nagent { token = [\"", "\"] }\npipeline \"a\" {\n" +
			"  interceptor \"x\" {\n    config = { salt = \"", "\" }, on_error = 1\n    env = { A = \"", "\" }\n  }\n}\n"}
	f.Fuzz(func(t *testing.T, at uint16, remove uint8, insert string) {
		if strings.Contains(secret, insert) && insert != "" || strings.Contains(insert, "hunter") {
			return
		}
		text := strings.Join(pieces, secret)
		from := int(at) % len(text)
		to := min(len(text), from+int(remove)%8)
		if touchesName(text, from, to, secret) {
			return
		}
		text = text[:from] + insert + text[to:]
		if regexp.MustCompile(`[\w.-]` + secret + `|(env|file|credential)\s*\(\s*"?` + secret).MatchString(text) {
			return // part of a name or the name of a variable or file, so none
		}
		_, diagnostics := loadText(t, text)
		for _, d := range diagnostics {
			if strings.Contains(d.Text(), secret) {
				t.Errorf("%s\nof\n%s", d.Text(), text)
			}
		}
	})
}

// touchesName says that a change would reach into a secret or into the name
// that makes it one: what is left is no secret any more.
func touchesName(text string, from, to int, secret string) bool {
	for _, name := range []string{secret, "password", "api_token", "key_password", "token", "salt", "env = {", "A = ", "sasl {", "tls {"} {
		for start := 0; ; {
			i := strings.Index(text[start:], name)
			if i < 0 {
				break
			}
			start += i
			inside := from < start+len(name) && (to > start || from > start)
			before := to == start && name != secret
			if inside || before {
				return true
			}
			start += len(name)
		}
	}
	return false
}

func loadText(t *testing.T, text string) (*config.Config, config.Diagnostics) {
	path := filepath.Join(t.TempDir(), "agent.hcl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(path, config.Options{
		LookupEnv: func(string) (string, bool) { return "", false },
		Hostname:  func() (string, error) { return "host", nil },
	})
}
