package file

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

func TestLinesAreCutAtTheirEndAlone(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for name, c := range map[string]struct {
		content string
		want    []string
	}{
		"empty lines":                {"\n\na\n\n", []string{"", "", "a", ""}},
		"CRLF stays":                 {"a\r\nb\r\n", []string{"a\r", "b\r"}},
		"NUL and invalid UTF-8":      {"a\x00b\n\xff\xfe\n", []string{"a\x00b", "\xff\xfe"}},
		"exactly max_line":           {x(16) + "\na\n", []string{x(16), "a"}},
		"one more than max_line":     {x(17) + "\na\n", []string{x(16), "x", "a"}},
		"twice max_line":             {x(32) + "\na\n", []string{x(16), x(16), "a"}},
		"three times and a bit":      {x(50) + "\n", []string{x(16), x(16), x(16), "xx"}},
		"long after short":           {"a\nb\n" + x(20) + "\nc\n", []string{"a", "b", x(16), "xxxx", "c"}},
		"unfinished of max_line":     {x(16), nil},
		"unfinished beyond max_line": {x(40), []string{x(16), x(16)}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "*.log")
			r.config.MaxLine = 16
			r.write("a.log", c.content)
			r.start()
			r.write("b.log", "end\n")
			r.lane.Wait(len(c.want) + 1)
			got := slices.DeleteFunc(r.lane.Values(), func(v string) bool { return v == "end" })
			if !slices.Equal(got, c.want) {
				t.Errorf("read %q", got)
			}
		})
	}
}

// TestEveryLengthAroundTheLimits writes lines of every length around max_line, in
// one piece and byte by byte, and compares all bytes.
func TestEveryLengthAroundTheLimits(t *testing.T) {
	const maxLine = 8192
	var content strings.Builder
	var want []string
	for n := maxLine - 3; n < maxLine+3; n++ {
		line := strings.Repeat(string(rune('a'+n%26)), n)
		content.WriteString("s\n" + line + "\n")
		want = append(want, "s")
		for ; len(line) > maxLine; line = line[maxLine:] {
			want = append(want, line[:maxLine])
		}
		want = append(want, line)
	}
	r := newRig(t, "a.log")
	r.config.MaxLine = maxLine
	r.start()
	for rest := content.String(); rest != ""; {
		n := min(len(rest), 4097)
		r.write("a.log", rest[:n])
		rest = rest[n:]
	}
	r.expect(want...)
}

func TestLineOfMaximumSizeAfterSmallBatches(t *testing.T) {
	r := newRig(t, "a.log")
	r.write("a.log", "small\n")
	r.start()
	r.expect("small")
	long := strings.Repeat("y", r.config.MaxLine)
	r.write("a.log", long[:100])
	r.write("a.log", long[100:]+"\n")
	r.write("a.log", "after\n")
	r.expect("small", long, "after")
}

func TestManySlowFilesShareBatches(t *testing.T) {
	r := newRig(t, "*.log")
	r.lane = sourcetest.NewLane(t)
	r.lane.Limit(0)
	for n := range 500 {
		r.write(fmt.Sprintf("%03d.log", n), "a line\n")
	}
	r.startOn(r.lane)
	sourcetest.Eventually(t, func() bool { return countState(r.source, FileOpen) == 500 }, "500 files")
	r.lane.Limit(1 << 20)
	r.lane.Wait(500)
	if n := r.lane.Batches(); n > 5 {
		t.Errorf("500 lines of 500 files came in %d batches", n)
	}
}

func TestBigBacklogDoesNotStarveOthers(t *testing.T) {
	r := newRig(t, "*.log")
	r.lane = sourcetest.NewLane(t)
	r.lane.Limit(0)
	r.write("a.log", strings.Repeat(strings.Repeat("x", 199)+"\n", 50000))
	r.write("b.log", "small\n")
	r.startOn(r.lane)
	r.tracked("a.log", "b.log")
	r.lane.Limit(1 << 20)
	r.lane.Wait(50001)
	for i, v := range r.lane.Values() {
		if v == "small" {
			if i > 10000 {
				t.Errorf("the small file waited for %d records of the big one", i)
			}
			return
		}
	}
}

func TestUnchangedPartialTailIsNotReadAgain(t *testing.T) {
	r := newRig(t, "a.log")
	tail := strings.Repeat("z", 200<<10)
	r.write("a.log", "one\n"+tail)
	r.start()
	r.expect("one")
	before := readBytes(t)
	for range 20 {
		r.write("a.log", "z")
		waitForSize(r, int64(len("one\n"+tail)), &tail)
	}
	if read := readBytes(t) - before; read > 2<<20 {
		t.Errorf("%d bytes were read to see 20 more", read)
	}
	r.write("a.log", "\n")
	r.expect("one", tail)
}

// waitForSize waits until the source has seen the tail grow by one byte.
func waitForSize(r *rig, size int64, tail *string) {
	sourcetest.Eventually(r, func() bool { return r.source.Status()[0].Size > size }, "a size above %d", size)
	*tail += "z"
}

// readBytes is what this process has read by system calls so far.
func readBytes(t *testing.T) (n int) {
	content, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(content), "rchar: %d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOnce(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.Once = true
	r.write("a.log", "one\ntwo\nno end")
	r.write("b.log", strings.Repeat("line\n", 10000))
	r.write("empty.log", "")
	r.start()
	if err := r.running.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := len(r.lane.Records()); n != 10003 {
		t.Fatalf("%d records", n)
	}
	r.commit()
	r.crash()
	r.write("a.log", " after all\n")
	r.start()
	if err := r.running.Wait(); err != nil {
		t.Fatal(err)
	}
	r.expect(" after all")
}

func TestOnceWithoutFilesEnds(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.Once = true
	r.start()
	if err := r.running.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestOnceReadsNothingThatIsAddedLater(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.Once = true
	r.write("a.log", "one\n")
	r.lane = sourcetest.NewLane(t)
	r.lane.Limit(0)
	r.startOn(r.lane)
	r.tracked("a.log")
	r.write("a.log", "two\n")
	r.write("b.log", "three\n")
	r.lane.Limit(100)
	if err := r.running.Wait(); err != nil {
		t.Fatal(err)
	}
	r.expect("one")
}

func TestOnceSaysWhatItCouldNotRead(t *testing.T) {
	if os.Geteuid() == 0 {
		mustDo(t, syscall.Seteuid(65534))
		defer func() { mustDo(t, syscall.Seteuid(0)) }()
	}
	r := newRig(t, "*.log")
	r.config.Once = true
	r.write("a.log", "one\n")
	r.write("closed.log", "secret\n")
	r.must(os.Chmod(r.path("closed.log"), 0))
	s := newSource(t, r.config)
	defer s.Close()
	lane := sourcetest.NewLane(t)
	err := s.Run(context.Background(), []record.Lane{lane})
	if err == nil || !strings.Contains(err.Error(), "closed.log") {
		t.Errorf("error %v", err)
	}
	if got := lane.Values(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("read %q", got)
	}
}
