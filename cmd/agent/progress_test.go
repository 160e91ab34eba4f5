package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestLineIsWrittenAboveTheLiveOne(t *testing.T) {
	var terminal strings.Builder
	s := &screen{to: &terminal}
	if _, err := fmt.Fprintln(s, "first"); err != nil {
		t.Fatal(err)
	}
	s.show("") // nothing to take away yet
	s.show("1 record")
	if n, err := s.Write([]byte("second\n")); n != 7 || err != nil {
		t.Fatal(n, err)
	}
	s.show("2 records")
	s.show("")
	want := "first\n" + clearLine + "1 record" + clearLine + "second\n1 record" + clearLine + "2 records" + clearLine
	if terminal.String() != want {
		t.Errorf("%q, want %q", terminal.String(), want)
	}
}

func TestOtherStreamIsWrittenAboveTheLiveLine(t *testing.T) {
	var both strings.Builder // one terminal
	s := &screen{to: &both}
	s.show("live")
	if err := s.above(&both, "a record\n"); err != nil {
		t.Fatal(err)
	}
	if want := clearLine + "live" + clearLine + "a record\nlive"; both.String() != want {
		t.Errorf("%q, want %q", both.String(), want)
	}
}

// gone is a terminal that has been closed.
type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, errGone }

var errGone = errors.New("gone")

func TestClosedTerminalIsSaidToWriters(t *testing.T) {
	s := &screen{to: gone{}}
	s.show("live")
	if _, err := s.Write([]byte("x")); !errors.Is(err, errGone) {
		t.Errorf("Write: %v", err)
	}
	var out strings.Builder
	if err := s.above(&out, "a record\n"); err != nil || out.String() != "a record\n" {
		t.Errorf("a record on another stream: %q, %v", out.String(), err)
	}
}
