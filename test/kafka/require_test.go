package kafkatest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	kafkatest "github.com/barnabas-agent/barnabas/test/kafka"
	"github.com/barnabas-agent/barnabas/test/kafka/broker"
)

// verdict is a test that only remembers how it was ended.
type verdict struct {
	testing.TB
	skipped, failed string
}

func (v *verdict) Helper() {}

func (v *verdict) Skipf(format string, arguments ...any) {
	v.skipped = fmt.Sprintf(format, arguments...)
	runtime.Goexit()
}

func (v *verdict) Fatalf(format string, arguments ...any) {
	v.failed = fmt.Sprintf(format, arguments...)
	runtime.Goexit()
}

func require(t *testing.T) *verdict {
	v := &verdict{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		kafkatest.Require(v)
	}()
	<-done
	return v
}

// script puts a program into a new folder, which becomes all of PATH.
func script(t *testing.T, name, text string) {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder)
	t.Setenv("JAVA_HOME", "")
	t.Setenv(broker.JarsVariable, filepath.Join(folder, "jars"))
}

func TestMissingProgramsSkipOrFail(t *testing.T) {
	cases := []struct{ name, program, text, want string }{
		{"no Java", "other", "", "java 17 or newer"},
		{"old Java", "java", `echo 'openjdk version "11.0.2" 2019-01-15' >&2`, "is 11"},
		{"very old Java", "java", `echo 'java version "1.8.0_402"' >&2`, "is 1"},
		{"no Maven", "java", `echo 'openjdk version "21" 2023-09-19' >&2`, "mvn (Maven)"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			script(t, c.program, c.text)
			t.Setenv(kafkatest.RequireVariable, "")
			if v := require(t); v.failed != "" || !strings.Contains(v.skipped, c.want) || !strings.Contains(v.skipped, "NOT TESTED AGAINST A REAL KAFKA") {
				t.Errorf("without %s=1: skipped %q, failed %q", kafkatest.RequireVariable, v.skipped, v.failed)
			}
			t.Setenv(kafkatest.RequireVariable, "1")
			if v := require(t); v.skipped != "" || !strings.Contains(v.failed, c.want) {
				t.Errorf("with %s=1: skipped %q, failed %q", kafkatest.RequireVariable, v.skipped, v.failed)
			}
		})
	}
}
