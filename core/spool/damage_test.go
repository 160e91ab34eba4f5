package spool_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/barnabas-agent/barnabas/core/spool"
)

// sample is a spool of one segment with the values "1", "2", "3".
func sample(t testing.TB) (c spool.Config, content []byte, ends []int) {
	t.Helper()
	c = configOf(filepath.Join(t.TempDir(), "sample"))
	fill(t, c, "1", "2", "3")
	content, err := os.ReadFile(segments(t, c.Dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		ends = append(ends, spool.SegmentHeader+(n+1)*(spool.FrameHeader+len("peer")+1))
	}
	if ends[2] != len(content) {
		t.Fatalf("a segment of %d bytes, expected %d", len(content), ends[2])
	}
	return c, content, ends
}

// holding makes a spool whose only segment has this content.
func holding(t testing.TB, c spool.Config, content []byte) spool.Config {
	t.Helper()
	dir, err := os.MkdirTemp(memory(), "barnabas-spool-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c.Dir = dir
	if err := os.WriteFile(filepath.Join(c.Dir, strings.Repeat("0", 20)), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// A crash can cut a segment anywhere, and leave anything behind the cut: what is
// whole is read, the rest is not, and the log goes on behind it.
func TestWritesTornAtEachByte(t *testing.T) {
	c, content, ends := sample(t)
	for size := range len(content) + 1 {
		for name, tail := range map[string]string{"cut": "", "zeros": strings.Repeat("\x00", 5000), "garbage": strings.Repeat("BARNABS!", 700)} {
			torn := append(slices.Clone(content[:size]), tail...)
			c := holding(t, c, torn)
			whole := 0
			for whole < len(ends) && ends[whole] <= size {
				whole++
			}
			want := "123"[:whole]
			if got := strings.Join(valuesOf(drain(t, c)), ""); got != want {
				t.Fatalf("%s at byte %d: read %q, want %q", name, size, got, want)
			}
			fill(t, c, "n", "m")
			if got := strings.Join(valuesOf(drain(t, c)), ""); got != want+"nm" {
				t.Fatalf("%s at byte %d, after the next run: read %q, want %q", name, size, got, want+"nm")
			}
		}
	}
}

// No flip of a bit adds or changes a record, hides one behind the damage, or
// goes unseen where the damage is not at the log's end.
func TestEachFlippedBitCostsItsRecordAlone(t *testing.T) {
	c, content, ends := sample(t)
	for at := range ends[1] {
		for bit := range 8 {
			flipped := slices.Clone(content)
			flipped[at] ^= 1 << bit
			c := holding(t, c, flipped)
			before := damagedBytes(t, c)
			s, err := spool.Open(c)
			if err != nil {
				if 8 <= at && at < 12 { // the version
					continue
				}
				t.Fatalf("bit %d of byte %d: %v", bit, at, err)
			}
			s.Close()
			got := strings.Join(valuesOf(drain(t, c)), "")
			want := "23"
			switch {
			case at < spool.SegmentHeader:
				want = ""
			case at >= ends[0]:
				want = "13"
			}
			if got != want {
				t.Fatalf("bit %d of byte %d: read %q, want %q", bit, at, got, want)
			}
			if damagedBytes(t, c) == before {
				t.Fatalf("bit %d of byte %d: no damage is counted", bit, at)
			}
			aside, err := filepath.Glob(filepath.Join(c.Dir, "*.damaged"))
			if err != nil || len(aside) != 1 {
				t.Fatalf("bit %d of byte %d: set aside: %v, %v", bit, at, aside, err)
			}
			if kept, err := os.ReadFile(aside[0]); err != nil || !slices.Equal(kept, flipped) {
				t.Fatalf("bit %d of byte %d: what was set aside is not what was there: %v", bit, at, err)
			}
		}
	}
}

// Damage in the middle of a long log is told once, for all lanes and starts, and
// everything around it is read.
func TestDamageBetweenSegments(t *testing.T) {
	c := configOf(filepath.Join(t.TempDir(), "spool"))
	c.MaxSize, c.MaxEntry = 1<<20, 1000
	var values []string
	for n := range 800 {
		values = append(values, fmt.Sprintf("%0900d", n))
	}
	fill(t, c, values...)
	names := segments(t, c.Dir)
	if len(names) < 5 {
		t.Fatalf("%d segments", len(names))
	}
	for name, spoil := range map[string]func(path string) error{
		"gone":    os.Remove,
		"cut":     func(path string) error { return os.Truncate(path, 10_000) },
		"zeroed":  func(path string) error { return zero(path, 5000, 20_000) },
		"emptied": func(path string) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			c := c
			c.Dir = filepath.Join(t.TempDir(), "spool")
			if err := os.CopyFS(c.Dir, os.DirFS(filepath.Dir(names[0]))); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(c.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for _, path := range segments(t, c.Dir) {
				if err := os.Chmod(path, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := spoil(segments(t, c.Dir)[2]); err != nil {
				t.Fatal(err)
			}
			before := damagedBytes(t, c)
			got := valuesOf(drain(t, c))
			if !slices.IsSorted(got) || got[0] != values[0] || got[len(got)-1] != values[len(values)-1] || len(got) < 700 || len(got) == len(values) {
				t.Errorf("%d records of %d", len(got), len(values))
			}
			if lost := damagedBytes(t, c) - before; lost < 900*(len(values)-len(got)) || lost > 1000*(len(values)-len(got)+1) {
				t.Errorf("%d bytes are counted for %d records", lost, len(values)-len(got))
			}
		})
	}
}

func zero(path string, from, n int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(make([]byte, n), from)
	return err
}

// FuzzSegment reads a segment of any content: no panic, no record that was not
// written with a checksum, and the log takes more behind it.
func FuzzSegment(f *testing.F) {
	_, content, _ := sample(f)
	f.Add(content)
	f.Add(content[:spool.SegmentHeader])
	f.Add(content[:len(content)-1])
	f.Add(append(slices.Clone(content), content[spool.SegmentHeader:]...))
	c := configOf("")
	f.Fuzz(func(t *testing.T, content []byte) {
		c := holding(t, c, content)
		s, err := spool.Open(c)
		if err != nil {
			return
		}
		s.Close()
		before := valuesOf(drain(t, c))
		fill(t, c, "behind")
		if got := valuesOf(drain(t, c)); !slices.Equal(got, append(before, "behind")) {
			t.Errorf("read %q, then %q", before, got)
		}
	})
}
