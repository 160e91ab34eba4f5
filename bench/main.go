// Command bench measures what the agent costs next to a plain confluent-kafka-go
// loop and prints Markdown tables. What counts is what is in the topic. The two
// sides of a comparison run in turn, and the loop runs twice in each round: the
// difference between its own two runs is the noise.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/barnabas-agent/barnabas/test/ledger"
)

// partitions is the number of partitions of the topics that are sent to.
const partitions = 6

func main() {
	var o options
	flag.Int64Var(&o.records, "records", 3_000_000, "records of a run")
	flag.IntVar(&o.width, "width", 200, "bytes of a record")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of each comparison")
	flag.StringVar(&o.broker, "broker", "kfake", "kfake | kafka")
	flag.StringVar(&o.bin, "bin", "bin", "folder with barnabas and plugins/")
	flag.StringVar(&o.only, "only", "", "names of comparisons, or latency, with commas; empty: all")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	records           int64
	width, rounds     int
	broker, bin, only string
}

// bench is what all runs have in common.
type bench struct {
	options
	folder   string    // owned: data, configurations and built programs
	progress io.Writer // one line per run
	file     string    // holds the records
	address  string    // where the contender of the run listens, if it does
}

func run(ctx context.Context, o options, out, progress io.Writer) error {
	names := strings.Split(o.only, ",")
	withLatency := o.only == "" || slices.Contains(names, latencyName)
	names = slices.DeleteFunc(names, func(name string) bool { return name == latencyName })
	var chosen []comparison
	var err error
	if len(names) > 0 {
		if chosen, err = choose(comparisons(), strings.Join(names, ",")); err != nil {
			return err
		}
	}
	folder, err := os.MkdirTemp("", "barnabas-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	b := &bench{options: o, folder: folder, progress: progress}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d records of %d bytes in one file, %d partitions, broker: %s on the same machine; %s\n\n",
		o.records, o.width, partitions, o.broker, machine())
	for _, c := range chosen {
		if _, err := exec.LookPath(c.baseline.needs); c.baseline.needs != "" && err != nil && o.only == "" {
			fmt.Fprintf(progress, "%s is left out: %v\n", c.name, err)
			continue
		}
		result, err := b.compare(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		result.print(out)
	}
	if withLatency {
		return b.latency(ctx, out)
	}
	return nil
}

// prepare builds the programs and writes the file.
func (b *bench) prepare(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", b.folder+"/", "github.com/barnabas-agent/barnabas/bench/loop", "github.com/barnabas-agent/barnabas/bench/fakebroker")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the loop and the broker: %w\n%s", err, output)
	}
	b.file = filepath.Join(b.folder, "records.log")
	file, err := os.Create(b.file)
	if err != nil {
		return err
	}
	defer file.Close()
	writer, err := ledger.NewWriter(ledgerFile, b.width)
	if err != nil {
		return err
	}
	return writer.Write(file, b.records)
}

// choose picks comparisons by name, keeping their order.
func choose(all []comparison, names string) ([]comparison, error) {
	if names == "" {
		return all, nil
	}
	var chosen []comparison
	var known []string
	wanted := strings.Split(names, ",")
	for _, c := range all {
		known = append(known, c.name)
		for _, name := range wanted {
			if c.name == name {
				chosen = append(chosen, c)
			}
		}
	}
	if len(chosen) != len(wanted) {
		return nil, fmt.Errorf("-only %s: there are %s", names, strings.Join(known, ", "))
	}
	return chosen, nil
}

// machine describes where this runs, for the head of the tables.
func machine() string {
	model := "unknown processor"
	text, _ := os.ReadFile("/proc/cpuinfo") // a nicety: without it the model stays unknown
	for line := range strings.Lines(string(text)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
		}
	}
	return fmt.Sprintf("%s, %d of its threads", model, processors())
}
