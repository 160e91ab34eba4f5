package file

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness feeds the files of a folder of its own.
type harness struct{ dir string }

func (h *harness) New(t testing.TB, saved []record.Checkpoint) sourcetest.Source {
	config := configOf(filepath.Join(h.dir, "*.log"))
	config.Saved = saved
	return newSource(t, config)
}

func (h *harness) Feed(t testing.TB, input int, lines ...string) {
	appendTo(t, filepath.Join(h.dir, fmt.Sprintf("%d.log", input)), strings.Join(lines, "\n")+"\n")
}

func TestSourceContract(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Harness { return &harness{dir: t.TempDir()} })
}

func configOf(include ...string) Config {
	return Config{
		Pipeline: "p", Name: "file", Host: "host", Include: include, MaxLine: 512 << 10,
		PollInterval: 20 * time.Millisecond, KeyPrefix: "p/0/",
		Logger: testLogger(), Metrics: metric.New(), Now: time.Now,
	}
}

func newSource(t testing.TB, config Config) *Source {
	t.Helper()
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func appendTo(t testing.TB, path, content string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func testLogger() *slog.Logger {
	if os.Getenv("SHOWLOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}
