package main

import (
	"os"
	"testing"

	"github.com/barnabas-agent/barnabas/plugins/sdk/plugintest"
)

// TestMain makes the test's binary the plugin itself when it is started as one:
// without the flags of a test.
func TestMain(m *testing.M) {
	if len(os.Args) == 1 || os.Args[1] == "describe" {
		main()
	}
	os.Exit(m.Run())
}

// TestConformance puts the plugin, here and as a process, through what the agent
// asks of every plugin.
func TestConformance(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for i, config := range []string{
		`{"format": "syslog"}`,
		`{"format": "json"}`,
		`{"format": "syslog", "on_failure": "fail", "timezone": "Europe/Berlin"}`,
		`{"format": "json", "on_failure": "fail"}`,
	} {
		t.Run("in process", func(t *testing.T) { plugintest.Run(t, newParse, config) })
		if i == 0 { // one configuration is enough to see the process at work
			t.Run("as a process", func(t *testing.T) { plugintest.RunProcess(t, binary, config) })
		}
	}
}
