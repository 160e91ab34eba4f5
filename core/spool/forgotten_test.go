package spool_test

import (
	"slices"
	"testing"

	"github.com/barnabas-agent/barnabas/core/spool"
)

func TestSpoolsOfFormerSourcesAreFound(t *testing.T) {
	data := t.TempDir()
	want := []spool.Owner{{"a/b", "socket"}, {"..", "stdin"}, {"plain", "socket-2"}}
	for _, o := range want {
		c := configOf(spool.Dir(data, o.Pipeline, o.Source))
		fill(t, c, "one", "two")
		if waiting, err := spool.Waiting(c.Dir, c.Key, nil); err != nil || waiting < 6 {
			t.Errorf("%v: %d bytes wait, %v", o, waiting, err)
		}
		positions := deliverAll(t, c)
		if waiting, err := spool.Waiting(c.Dir, c.Key, positions.Saved()); err != nil || waiting != 0 {
			t.Errorf("%v, delivered: %d bytes wait, %v", o, waiting, err)
		}
	}
	got, err := spool.Owners(data)
	if err != nil || len(got) != len(want) {
		t.Fatalf("found %v, %v", got, err)
	}
	for _, o := range want {
		if !slices.Contains(got, o) {
			t.Errorf("%v is not found among %v", o, got)
		}
	}
	if waiting, err := spool.Waiting(spool.Dir(data, "none", "none"), "k", nil); err != nil || waiting != 0 {
		t.Errorf("where there is none: %d, %v", waiting, err)
	}
}
