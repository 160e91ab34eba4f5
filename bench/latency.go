package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-agent/barnabas/test/kafka/topic"
	"github.com/barnabas-agent/barnabas/test/process"
)

// latencyName is the name of the measurement of latency in -only.
const latencyName = "latency"

const (
	latencyLines  = 300
	latencyWarmup = 20
	// Lines are appended at random times in between, so that none meets the agent at
	// the same moment of its poll.
	leastGap, mostGap = 20 * time.Millisecond, 120 * time.Millisecond
	lateAfter         = 30 * time.Second
)

// latency appends single lines to a file that an otherwise idle agent follows, and prints
// how long each took from the write to a consumer that waits for it.
func (b *bench) latency(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "### From a write to a consumer, %d single lines\n\n", latencyLines)
	fmt.Fprintln(out, "| agent | median | p90 | p99 | most |")
	fmt.Fprintln(out, "|---|---:|---:|---:|---:|")
	for _, c := range []struct {
		title  string
		prefix []string
	}{
		{"inotify", nil},
		// In a user namespace of its own, the agent may have no inotify instance.
		{"polling alone", []string{"unshare", "--user", "--map-root-user", "sh", "-c", `echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"`, "sh"}},
	} {
		all, err := b.latencies(ctx, c.prefix)
		if err != nil {
			return fmt.Errorf("%s: %w", c.title, err)
		}
		slices.Sort(all)
		at := func(share float64) time.Duration {
			return all[min(int(share*float64(len(all))), len(all)-1)].Round(10 * time.Microsecond)
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", c.title, at(0.5), at(0.9), at(0.99), at(1))
		fmt.Fprintf(b.progress, "%s, %s: median %s\n", latencyName, c.title, at(0.5))
	}
	fmt.Fprintln(out)
	return nil
}

// latencies runs one agent, started with a prefix of its command.
func (b *bench) latencies(ctx context.Context, prefix []string) (all []time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	folder, err := os.MkdirTemp(b.folder, "run-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	target, err := b.startBroker(ctx, folder)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, target.close()) }()
	made, err := topic.Create(ctx, target.bootstrap, "latency", 1, nil)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(folder, "lines.log")
	lines, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer lines.Close()
	agent := agentReading("", func(*bench) string { return fmt.Sprintf("source \"file\" { include = [%q] }", path) }, "")
	command, err := agent.command(b, folder, target.bootstrap, made.Name)
	if err != nil {
		return nil, err
	}
	if len(prefix) > 0 {
		command = exec.Command(prefix[0], append(prefix[1:], command.Args...)...)
	}
	log := new(strings.Builder)
	command.Stdout, command.Stderr = log, log
	running, err := process.Start(command)
	if err != nil {
		return nil, err
	}
	defer running.Kill()
	consumer, err := kgo.NewClient(kgo.SeedBrokers(target.bootstrap), kgo.ConsumeTopics(made.Name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	for n := range latencyWarmup + latencyLines {
		took, err := appendAndAwait(ctx, lines, consumer, n)
		if err != nil {
			running.Kill()
			return nil, fmt.Errorf("line %d: %w\n%s", n, err, log)
		}
		if n >= latencyWarmup {
			all = append(all, took)
		}
		select {
		case <-time.After(leastGap + rand.N(mostGap-leastGap)): //nolint:gosec // spreads the lines
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return all, running.Stop(stopTimeout)
}

// appendAndAwait returns how long a line took.
func appendAndAwait(ctx context.Context, lines io.Writer, consumer *kgo.Client, n int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, lateAfter)
	defer cancel()
	text := strconv.Itoa(n)
	began := time.Now()
	if _, err := io.WriteString(lines, text+"\n"); err != nil {
		return 0, err
	}
	for {
		fetches := consumer.PollFetches(ctx)
		took := time.Since(began)
		if err := fetches.Err(); err != nil {
			return 0, err
		}
		found := false
		fetches.EachRecord(func(r *kgo.Record) { found = found || string(r.Value) == text })
		if found {
			return took, nil
		}
	}
}
