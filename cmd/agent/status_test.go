package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/admin"
)

// TestStatusOfManyFiles prints those that lag most, and how many others there are.
func TestStatusOfManyFiles(t *testing.T) {
	text := func(files int) string {
		source := admin.Source{Name: "logs"}
		for n := range files {
			source.Files = append(source.Files, admin.File{Path: fmt.Sprintf("/logs/%06d.log", n), Size: 10_000_000, Lag: int64(n)})
		}
		var out strings.Builder
		status := &admin.Status{Pipelines: []admin.Pipeline{{Name: "p", Sources: []admin.Source{source}}}}
		if err := writeStatus(&out, status, time.Now()); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	few := text(mostFiles)
	if n := strings.Count(few, "/logs/"); n != mostFiles || strings.Contains(few, "other") {
		t.Errorf("%d of %d files are printed:\n%s", n, mostFiles, few)
	}
	many := text(100_000)
	if n := strings.Count(many, "/logs/"); n != mostFiles || !strings.Contains(many, "/logs/099999.log") || !strings.Contains(many, "and 99980 other files") {
		t.Errorf("%d files are printed:\n%.3000s", n, many)
	}
}
