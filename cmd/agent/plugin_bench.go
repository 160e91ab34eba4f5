package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-agent/barnabas/plugins/sdk/plugintest"
)

func newPluginBenchCommand(s streams) *cobra.Command {
	var f trialFlags
	o := plugintest.NewBenchOptions()
	c := &cobra.Command{
		Use:   "bench BIN",
		Short: "Measure what a plugin's process costs per record",
		Long: "Measure what a plugin's process costs per record, by batch size: wall time at full load on one lane, and the processor\n" +
			"time of both processes. a/a is how far two processes of the same file are apart; a difference below it says nothing.",
		Args: arguments("BIN"),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := f.trial(args[0])
			if err == nil {
				err = checkBenchOptions(&o)
			}
			if err != nil {
				return wrongUsage(c, err)
			}
			return benchPlugin(c.Context(), t, o, f.json, s)
		},
	}
	f.add(c)
	c.Flags().IntSliceVar(&o.Sizes, "records", o.Sizes, "`numbers` of records per batch")
	c.Flags().IntVar(&o.Bytes, "bytes", o.Bytes, "`length` of each value")
	c.Flags().DurationVar(&o.Round, "round", o.Round, "`time` of one of the rounds that each size is measured in")
	c.Flags().IntVar(&o.Rounds, "rounds", o.Rounds, "`number` of rounds per size")
	return c
}

// maxBenchBatch bounds the values of one batch in bytes: a frame has at most 32 MiB.
const maxBenchBatch = 16 << 20

func checkBenchOptions(o *plugintest.BenchOptions) error {
	if o.Bytes < 1 || o.Rounds < 2 || o.Rounds%2 != 0 || o.Round <= 0 {
		return fmt.Errorf("--bytes, --round and --rounds must be positive, and --rounds even: half of them go to each of two processes")
	}
	for _, n := range o.Sizes {
		if n < 1 || n > 4096 || n*o.Bytes > maxBenchBatch {
			return fmt.Errorf("a batch of %d records of %d bytes: want 1 to 4096 records, and at most %s in all", n, o.Bytes, bytesText(maxBenchBatch))
		}
	}
	return nil
}

// measurement is one line of bench --json; times are in microseconds per record.
type measurement struct {
	Records        int     `json:"records"`
	Bytes          int     `json:"bytes"`
	Reads          string  `json:"reads"`
	Writes         string  `json:"writes"`
	Elapsed        float64 `json:"elapsed_us"`
	HostCPU        float64 `json:"host_cpu_us"`
	PluginCPU      float64 `json:"plugin_cpu_us"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	Floor          float64 `json:"aa_floor"` // relative
}

func benchPlugin(ctx context.Context, t *trial, o plugintest.BenchOptions, asJSON bool, s streams) error {
	all := []measurement{}
	err := plugintest.Bench(ctx, t.binary, t.env, t.config, o, func(m plugintest.Measurement) error {
		line := measurement{
			Records: m.Records, Bytes: m.Bytes, Reads: m.Reads.String(), Writes: m.Writes.String(),
			Elapsed: m.Elapsed, HostCPU: m.HostCPU, PluginCPU: m.PluginCPU, BytesPerSecond: m.BytesPerSecond(), Floor: m.Floor,
		}
		all = append(all, line)
		if asJSON {
			return nil
		}
		return line.write(s.out, len(all) == 1)
	}, t.options...)
	if err != nil {
		return fmt.Errorf("measure %s: %w", printable(t.binary), err)
	}
	if asJSON {
		return printJSON(s.out, all)
	}
	_, err = fmt.Fprintf(s.out, "\n%d rounds of %v per size; µs and %% are of one record, CPU of the agent's end and of the plugin's process\n",
		o.Rounds, o.Round.Round(time.Millisecond))
	return err
}

// write prints the measurement as a line of a table.
func (m *measurement) write(to io.Writer, first bool) error {
	if first {
		if _, err := fmt.Fprintf(to, "records of %d bytes; reads %s, writes %s\n\n%8s %11s %9s %9s %11s %7s\n", m.Bytes,
			strings.ReplaceAll(m.Reads, "|", ", "), strings.ReplaceAll(m.Writes, "|", ", "),
			"batch", "µs/record", "MB/s", "CPU µs", "plugin's", "a/a"); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(to, "%8d %11.3f %9.1f %9.3f %11.3f %6.1f%%\n",
		m.Records, m.Elapsed, m.BytesPerSecond/1e6, m.HostCPU, m.PluginCPU, m.Floor*100)
	return err
}
