package file

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// faultyDir names the folder that the child of TestReadsThatFail reads.
const faultyDir = "BARNABAS_TEST_FAULTY_DIR"

// printer is a lane that prints what comes.
type printer struct {
	sink
	out io.Writer
}

func (p *printer) Submit(ctx context.Context, b *record.Batch) error {
	for i := range b.Rows() {
		fmt.Fprintf(p.out, "%s\n", b.Value.Bytes(i))
		b.RunOf(i).Stream.Delivered(b.Ends[i])
	}
	return ctx.Err()
}

// TestFaultyChild is the process whose reads fail.
func TestFaultyChild(t *testing.T) {
	dir := os.Getenv(faultyDir)
	if dir == "" {
		t.Skip("not a child")
	}
	config := configOf(filepath.Join(dir, "*.log"))
	begin := time.Now()
	config.Now = func() time.Time { return begin.Add(20 * time.Since(begin)) } // for the time between attempts
	s := newSource(t, config)
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent has seen all
		cancel()
	}()
	if err := s.Run(ctx, []record.Lane{&printer{out: os.Stdout}}); err != nil {
		t.Error(err)
	}
}

// TestReadsThatFail lets reads of one file fail as a bad disk does, and as signals and
// network filesystems do. Nothing of it is left out, and the other file goes on.
func TestReadsThatFail(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		if os.Getenv("BARNABAS_REQUIRE_STRACE") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	const lines = 20_000
	for name, inject := range map[string]string{
		"EIO":    "preadv:error=EIO:when=2..3",
		"EINTR":  "preadv,pread64:error=EINTR:when=1+2",
		"ESTALE": "preadv:error=ESTALE:when=1..2",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			bad, good := filepath.Join(dir, "bad.log"), filepath.Join(dir, "good.log")
			var content strings.Builder
			for n := range lines {
				fmt.Fprintf(&content, "bad %0100d\n", n)
			}
			appendTo(t, bad, content.String())
			appendTo(t, good, "good\n")
			child := exec.Command(strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=preadv,pread64", "-e", "inject="+inject, "-P", bad,
				os.Args[0], "-test.run", "^TestFaultyChild$")
			child.Env = append(os.Environ(), faultyDir+"="+dir)
			out, err := child.StdoutPipe()
			mustDo(t, err)
			in, err := child.StdinPipe()
			mustDo(t, err)
			mustDo(t, child.Start())
			next, others := 0, 0
			for scanner := bufio.NewScanner(out); next < lines && scanner.Scan(); {
				switch line := scanner.Text(); line {
				case fmt.Sprintf("bad %0100d", next):
					next++
				case "good":
					others++
				default:
					t.Errorf("%q came, line %d is next", line, next)
				}
			}
			mustDo(t, in.Close())
			go func() { _, _ = io.Copy(io.Discard, out) }()
			mustDo(t, child.Wait())
			if next != lines || others != 1 {
				t.Errorf("%d of %d lines came, and %d of the other file", next, lines, others)
			}
		})
	}
}
