package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/core/pluginhost"
)

const configuration = `
producer { bootstrap_servers = ["localhost:9092"] }
pipeline "p" {
  topic        = "main"
  allow_topics = ["side.*", "x"]
  source "file" {
    include  = ["a"]
    max_line = "700KiB"
  }
  interceptor "set" {
    path   = "plugin"
    config = {
      headers = { a = "1" }
    }
  }
  interceptor "bare" { }
}
`

func load(t *testing.T) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.hcl")
	if err := os.WriteFile(path, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := loadConfig(path, config.Options{}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPluginErrorsAreAtTheirPlace(t *testing.T) {
	c := load(t)
	p := &c.Pipelines[0]
	set, bare := p.Stages()[0], p.Stages()[1]
	wrong := func(pointer string) *pluginhost.Error {
		return &pluginhost.Error{Reason: pluginhost.ConfigRefused, Problem: "-", Config: []pluginhost.ConfigError{{Pointer: pointer, Message: "no"}}}
	}
	for _, one := range []struct {
		name  string
		stage *config.Stage
		err   error
		place string // line:column
		text  string
	}{
		{"of its file", set, &pluginhost.Error{Problem: "there is no file", Hint: "install it"}, "11:14", `plugin "set": there is no file`},
		{"of a file that is not named", bare, &pluginhost.Error{Problem: "there is no file"}, "16:15", "there is no file"},
		{"of a member", set, wrong("/headers/a"), "13:19", `plugin "set" refuses this: no`},
		{"of a member that is missing", set, wrong("/key"), "12:14", "refuses this"},
		{"of the whole", set, wrong(""), "12:14", "refuses this"},
		{"of a config that is not written", bare, wrong("/key"), "16:3", "refuses this"},
		{"wrapped", set, fmt.Errorf("start: %w", wrong("/headers")), "13:7", "refuses this"},
		{"of something else", set, errors.New("no memory"), "10:15", `plugin "set" of pipeline "p": no memory`},
	} {
		found := pluginDiagnostics(p, one.stage, one.err)
		if len(found) != 1 {
			t.Fatalf("%s: %d diagnostics", one.name, len(found))
		}
		if at := fmt.Sprintf("%d:%d", found[0].Line, found[0].Column); at != one.place || !strings.Contains(found[0].Message, one.text) {
			t.Errorf("%s: at %s: %s", one.name, at, found[0].Message)
		}
	}
}

func TestEveryConfigErrorIsShown(t *testing.T) {
	c := load(t)
	p := &c.Pipelines[0]
	err := &pluginhost.Error{Config: []pluginhost.ConfigError{{Pointer: "/headers/a", Message: "first"}, {Pointer: "", Message: "second"}}}
	var shown strings.Builder
	refused := show(pluginDiagnostics(p, p.Stages()[0], err), &shown)
	if code := exitCode(refused); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
	first, second := strings.Index(shown.String(), "first"), strings.Index(shown.String(), "second")
	if first < 0 || second < 0 || second > first {
		t.Errorf("not in the order of lines: %s", shown.String())
	}
}

func TestTopicsAnInterceptorMayChoose(t *testing.T) {
	allowed := allowTopic(&load(t).Pipelines[0])
	for topic, want := range map[string]bool{"main": true, "side.a": true, "side": false, "x": true, "xx": false, "": false, "other": false} {
		if allowed(topic) != want {
			t.Errorf("%q allowed: %v", topic, !want)
		}
	}
}

func TestLongestLineFitsABlock(t *testing.T) {
	c := pipelineConfig(load(t), &load(t).Pipelines[0], 3)
	if c.MaxBlock <= 700<<10 || c.Lanes != 3 || c.Topic != "main" {
		t.Errorf("%+v", c)
	}
}
