package file

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Two links lead to one folder, and the pattern names the files by one of them.
// Whichever is walked last, the files stay found once listings are kept.
func TestFolderReachedByTwoNamesKeepsBoth(t *testing.T) {
	dir := t.TempDir()
	mustDo(t, os.MkdirAll(filepath.Join(dir, "app", "v1"), 0o700))
	mustDo(t, os.Symlink("v1", filepath.Join(dir, "app", "current")))
	for n := range 8 {
		mustDo(t, os.Symlink("v1", filepath.Join(dir, "app", fmt.Sprintf("old%d", n))))
	}
	appendTo(t, filepath.Join(dir, "app", "v1", "a.log"), "x\n")
	config := configOf(filepath.Join(dir, "*", "current", "*.log"))
	w, err := newWalker(config.Include, nil, true, nil)
	mustDo(t, err)
	clock := time.Now()
	for range 60 {
		if found := w.scan(clock).found; len(found) != 1 {
			t.Fatalf("after %v: %d files, expected 1", time.Since(clock), len(found))
		}
		clock = clock.Add(250 * time.Millisecond)
	}
}

// Folders full of links to one another have endlessly many names.
func TestNamesOfOneFolderAreBounded(t *testing.T) {
	dir := t.TempDir()
	const folders, links = 24, 4
	for n := range folders {
		mustDo(t, os.Mkdir(filepath.Join(dir, fmt.Sprint(n)), 0o700))
		for l := range links {
			mustDo(t, os.Symlink(filepath.Join(dir, fmt.Sprint(n+1)), filepath.Join(dir, fmt.Sprint(n), fmt.Sprint("l", l))))
		}
	}
	mustDo(t, os.Mkdir(filepath.Join(dir, fmt.Sprint(folders)), 0o700))
	appendTo(t, filepath.Join(dir, fmt.Sprint(folders), "a.log"), "x\n")
	w, err := newWalker([]string{filepath.Join(dir, "**", "*.log")}, nil, true, nil)
	mustDo(t, err)
	done := make(chan *scan, 1)
	go func() { done <- w.scan(time.Now()) }()
	timeout := time.NewTimer(20 * time.Second)
	defer timeout.Stop()
	select {
	case s := <-done:
		if len(s.found) != 1 {
			t.Errorf("%d files, expected 1", len(s.found))
		}
	case <-timeout.C:
		t.Fatal("the walk does not end")
	}
}
