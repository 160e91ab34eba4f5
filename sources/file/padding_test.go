package file

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// TestReservedRoomIsNoLine fills a file whose room was reserved before.
func TestReservedRoomIsNoLine(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"lines": func(*Config) {},
		"multiline": func(c *Config) {
			c.Multiline = &Multiline{Start: regexp.MustCompile("."), Timeout: time.Hour, MaxLines: 1}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "*.log")
			r.config.MaxLine = 100
			change(&r.config)
			r.must(os.WriteFile(r.path("a.log"), make([]byte, 100_000), 0o600))
			f, err := os.OpenFile(r.path("a.log"), os.O_WRONLY, 0)
			r.must(err)
			defer f.Close()
			put := func(s string) {
				_, err := f.WriteString(s)
				r.must(err)
			}
			put("one\n")
			r.start()
			r.expect("one")
			put("tw")
			r.polled()
			put("o\nthree\nfour")
			sourcetest.Eventually(t, func() bool { return slices.Contains(r.lane.Values(), "three") }, "three lines")
			if got := r.ofA(); !slices.Equal(got, []string{"one", "two", "three"}) {
				t.Errorf("read %q", got)
			}
			f.Close()
			r.rename("a.log", "a.old")
			sourcetest.Eventually(t, func() bool { return slices.Contains(r.lane.Values(), "four") }, "the last line")
			sourcetest.Eventually(t, func() bool { r.commit(); return len(r.source.Status()) == 1 }, "the file to be released")
			if got := r.ofA(); !slices.Equal(got, []string{"one", "two", "three", "four"}) {
				t.Errorf("read %q", got)
			}
		})
	}
}

func TestOnceEndsBeforeReservedRoom(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.Once = true
	r.write("a.log", "one\ntwo"+strings.Repeat("\x00", 10000))
	r.write("empty.log", strings.Repeat("\x00", 10000))
	r.start()
	if err := r.running.Wait(); err != nil {
		t.Fatal(err)
	}
	r.expect("one", "two")
}

func TestNULsBeforeDataAreItsOwn(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.MaxLine = 1000
	r.write("a.log", "one\n"+strings.Repeat("\x00", 1500)+"two\n")
	r.start()
	r.expect("one", strings.Repeat("\x00", 1000), strings.Repeat("\x00", 500)+"two")
}

// TestASparseFileOfTerabytesIsNotReadThrough has nothing but a hole behind its line.
func TestASparseFileOfTerabytesIsNotReadThrough(t *testing.T) {
	r := newRig(t, "*.log")
	r.write("a.log", "one\n")
	if err := os.Truncate(r.path("a.log"), 8<<40); err != nil {
		t.Skipf("this filesystem has no files of that size: %v", err)
	}
	before := readBytes(t)
	r.start()
	r.expect("one")
	r.polled()
	if read := readBytes(t) - before; read > 64<<20 {
		t.Errorf("%d bytes were read", read)
	}
}
