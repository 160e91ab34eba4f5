package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/barnabas-agent/barnabas/test/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLoopAgainstItself(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	o := options{records: 400_000, width: 200, rounds: 2, broker: "kfake", only: "loop"}
	if err := run(ctx, o, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"400000 records of 200 bytes", "| loop, murmur2 (again) |", "rate, A/A:", "resident memory at most: loop "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

func TestUnknownComparisonIsNamed(t *testing.T) {
	err := run(context.Background(), options{only: "loop,swap"}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "loop,swap: there are loop, ") {
		t.Fatal(err)
	}
}

func TestContenderThatEndsEarlyIsAnError(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	b := &bench{options: options{records: 1000, width: 200, broker: "kfake"}, folder: t.TempDir()}
	if err := b.prepare(ctx); err != nil {
		t.Fatal(err)
	}
	broken := contender{title: "broken", command: func(*bench, string, string, string) (*exec.Cmd, error) {
		return exec.Command("sh", "-c", "echo no such luck >&2; exit 3"), nil
	}}
	if _, err := b.sample(ctx, broken); err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Fatal(err)
	}
}

func TestTreeHoldsDescendantsAndWhatTheyUsed(t *testing.T) {
	// A shell that keeps a child, which uses some processor time, says so, and
	// stays while its stdin is open. A shell in the background gets no stdin
	// unless it is handed over.
	command := exec.Command("sh", "-c",
		"exec 3<&0; sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo; read never' <&3 & wait")
	input, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	defer input.Close()
	line := &firstLine{found: make(chan string, 1)}
	command.Stdin, command.Stdout = input, line
	running, err := process.Start(command)
	if err != nil {
		t.Fatal(err)
	}
	defer running.Kill()
	<-line.found
	processes, err := tree(running.Pid())
	if err != nil {
		t.Fatal(err)
	}
	if len(processes) != 2 {
		t.Fatalf("%d processes: %v", len(processes), processes)
	}
	for pid, used := range processes {
		if used.peak < 100<<10 || used.name != "sh" {
			t.Errorf("process %d: %+v", pid, used)
		}
		if pid != running.Pid() && used.cpu == 0 {
			t.Errorf("the child counted to 200000 in no time: %+v", used)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		sorted []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{1, 2}, 1.5}, {[]float64{1, 2, 9}, 2}} {
		if got := middle(c.sorted); got != c.want {
			t.Errorf("the median of %v is %v, not %v", c.sorted, got, c.want)
		}
	}
}
