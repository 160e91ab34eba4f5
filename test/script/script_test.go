// Package script drives the agent's binary with real plugin processes as its
// users do: each file of testdata is a scenario. It runs the binaries that
// `make build` makes; no Kafka is needed.
package script

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
	"github.com/barnabas-agent/barnabas/test/process"
)

// TestMain is also the main of the programs that scenarios run: a broker in a
// process of its own, and a plugin that behaves badly when it is told to.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"broker":                        serveBroker,
		"barnabas-interceptor-moody":    func() { sdk.ServeInterceptor("moody", "0.1.0", func() sdk.Interceptor { return &moody{} }) },
		"barnabas-interceptor-herald":   func() { sdk.ServeInterceptor("herald", "0.1.0", func() sdk.Interceptor { return &herald{} }) },
		"barnabas-interceptor-starting": startSlowly,
	})
}

func TestScripts(t *testing.T) {
	agent := binary(t)
	caches := goCaches(t)
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("BARNABAS", agent)
			env.Setenv("PLUGINS", filepath.Join(filepath.Dir(agent), "plugins"))
			env.Setenv("ROOT", filepath.Dir(filepath.Dir(agent)))
			env.Setenv("BIN", filepath.SplitList(env.Getenv("PATH"))[0])
			env.Vars = append(env.Vars, caches...)
			env.Values[programsKey{}] = &programs{running: map[string]*program{}}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"barnabas": cmdBarnabas,
			"start":    cmdStart,
			"signal":   cmdSignal,
			"ends":     cmdEnds,
			"plugins":  cmdPlugins,
			"await":    cmdAwait,
			"http":     cmdHTTP,
			"add":      cmdAdd,
			"expand":   cmdExpand,
			"records":  cmdRecords,
			"port":     cmdPort,
			"readme":   cmdReadme,
			"refused":  cmdRefused,
			"include":  cmdInclude,
		},
	})
}

// goCaches returns the variables that let scenarios build as an author does who
// has built something before, and is offline now.
func goCaches(t *testing.T) []string {
	t.Helper()
	variables := []string{"GOPROXY=off", "GOFLAGS=-mod=mod", "GOTOOLCHAIN=local"}
	for _, name := range []string{"GOMODCACHE", "GOCACHE"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatalf("go env %s: %v", name, err)
		}
		variables = append(variables, name+"="+strings.TrimSpace(string(value)))
	}
	return variables
}

// binary returns the agent's binary.
func binary(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "bin", "barnabas")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	return path
}

// arguments takes the arguments of a command that has no negation.
func arguments(ts *testscript.TestScript, neg bool, args []string, usage string) {
	least := 0
	for word := range strings.FieldsSeq(usage) {
		if word == strings.ToUpper(word) {
			least++
		}
	}
	if neg || len(args) < least {
		ts.Fatalf("usage: %s", usage)
	}
}

// cmdAdd appends a text, in which \n and \xHH stand for themselves, to a file.
func cmdAdd(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, "add FILE TEXT")
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	_, err = fmt.Fprint(file, unquote(ts, args[1]))
	ts.Check(err)
	ts.Check(file.Close())
}

// cmdExpand replaces $NAME and ${NAME} in a file, for names that the environment has; FROM by TO besides.
func cmdExpand(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, "expand FILE [from to]...")
	text := ts.ReadFile(args[0])
	for i := 1; i+1 < len(args); i += 2 {
		if !strings.Contains(text, args[i]) {
			ts.Fatalf("%s does not hold %q", args[0], args[i])
		}
		text = strings.ReplaceAll(text, args[i], args[i+1])
	}
	for _, name := range []string{"PLUGINS", "BOOTSTRAP", "PORT", "WORK", "BIN"} {
		if value := ts.Getenv(name); value != "" {
			text = strings.ReplaceAll(text, "$"+name, value)
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// cmdReadme writes the README's configuration to a file.
func cmdReadme(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, "readme FILE")
	text := ts.ReadFile(filepath.Join(ts.Getenv("ROOT"), "README.md"))
	_, rest, found := strings.Cut(text, "```hcl\n")
	block, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		ts.Fatalf("the README holds no configuration")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(block), 0o600))
}

// cmdInclude sets an environment variable to a file that the first include of a
// configuration matches, as someone who reads it would.
func cmdInclude(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, "include NAME FILE")
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		_, list, found := strings.Cut(line, "include = [\"")
		if !found || strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		glob, rest, closed := strings.Cut(list, "\"]")
		if !closed || strings.Contains(glob, "\"") || strings.Count(glob, "*") > 1 || strings.TrimSpace(rest) != "" {
			ts.Fatalf("the first include is not one line with one path and at most one *: %s", line)
		}
		ts.Setenv(args[0], strings.ReplaceAll(glob, "*", "app"))
		return
	}
	ts.Fatalf("%s has no include", args[1])
}

// cmdRefused writes case.hcl from base.hcl, with PLUGIN replaced, and has both
// commands refuse it: in time, with code 2 and the same words at the same place.
func cmdRefused(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, "refused PLUGIN LINE:COLUMN MESSAGE HINT")
	ts.Check(os.WriteFile(ts.MkAbs("case.hcl"), []byte(strings.ReplaceAll(ts.ReadFile("base.hcl"), "PLUGIN", args[0])), 0o600))
	var said [2]string
	for i, name := range []string{"validate", "run"} {
		c := command(ts, "barnabas", []string{name, "--config", "case.hcl"})
		var stderr strings.Builder
		c.Stderr = &stderr
		begun := time.Now()
		p, err := process.Start(c)
		ts.Check(err)
		check(ts, p, name, 2, 15*time.Second)
		ts.Logf("%s: %s\n%s", name, time.Since(begun).Round(time.Millisecond), stderr.String())
		if i == 0 && exists(ts.MkAbs("state")) {
			ts.Fatalf("validate has made data_dir")
		}
		said[i] = diagnostic(stderr.String())
		if !regexp.MustCompile(`(?s)^case\.hcl:` + args[1] + `: [^\n]*` + args[2] + `.*\n  hint: .*` + args[3]).MatchString(said[i]) {
			ts.Fatalf("%s says:\n%s", name, stderr.String())
		}
		if strings.ContainsAny(stderr.String(), "\x1b\x07") {
			ts.Fatalf("%s writes escape sequences", name)
		}
	}
	if said[0] != said[1] {
		ts.Fatalf("validate says:\n%s\nand run:\n%s", said[0], said[1])
	}
	ts.Check(os.RemoveAll(ts.MkAbs("state")))
}

// diagnostic is what stands from the first line that names the file on.
func diagnostic(stderr string) string {
	at := strings.Index("\n"+stderr, "\ncase.hcl:")
	if at < 0 {
		return ""
	}
	return stderr[at:]
}
