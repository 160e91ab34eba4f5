package file

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWhenAFileEnds(t *testing.T) {
	for _, c := range []struct {
		writers          writers
		quiet            time.Duration
		final, abandoned bool
	}{
		{writersNone, 0, true, true},
		{writersUnknown, 0, false, false},
		{writersUnknown, quietWhenFinal - 1, false, false},
		{writersUnknown, quietWhenFinal, true, false},
		{writersUnknown, quietWhenIdle - 1, true, false},
		{writersUnknown, quietWhenIdle, true, true},
		{writersSome, quietWhenIdle - 1, false, false},
		{writersSome, quietWhenIdle, true, false},
		{writersSome, 24 * time.Hour, true, false},
	} {
		if final, abandoned := isFinal(c.writers, c.quiet), isAbandoned(c.writers, c.quiet); final != c.final || abandoned != c.abandoned {
			t.Errorf("%+v: final %v, abandoned %v", c, final, abandoned)
		}
	}
}

func TestWritersAreSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	writer, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if w := writersOf(int(reader.Fd())); w == writersNone {
		t.Error("an open writer was not seen")
	}
	writer.Close()
	if w := writersOf(int(reader.Fd())); w == writersSome {
		t.Error("a writer was seen that is gone")
	}
	again, err := os.OpenFile(path, os.O_WRONLY, 0) // no lease is left behind
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
