package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-agent/barnabas/core/admin"
	"github.com/barnabas-agent/barnabas/core/config"
)

// adminFlags say which agent a command talks to.
type adminFlags struct {
	config, dataDir string
	json            bool
}

func (f *adminFlags) add(c *cobra.Command) {
	c.PersistentFlags().StringVar(&f.config, "config", "", "configuration `file` or folder that names data_dir")
	c.PersistentFlags().StringVar(&f.dataDir, "data-dir", "", "`folder` of the agent's state, instead of the configuration's data_dir")
	c.PersistentFlags().BoolVar(&f.json, "json", false, "print JSON")
}

// folders returns the data directories in which an agent may be found, in this
// order: the flag's alone, else the configuration's and that of `run --dev`.
func (f *adminFlags) folders(to io.Writer) ([]string, error) {
	if f.dataDir != "" {
		return []string{f.dataDir}, nil
	}
	path := f.config
	if path == "" {
		path = config.DefaultPath()
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return []string{devDataDir}, nil
		}
	}
	c, err := consult(path, to)
	if err != nil {
		return nil, err
	}
	folders := []string{c.Agent.DataDir}
	if dev, err := filepath.Abs(devDataDir); err == nil && dev != c.Agent.DataDir && f.config == "" {
		folders = append(folders, dev)
	}
	return folders, nil
}

// dial finds the running agent. Without one the error is that of the first
// folder, and dir is that folder.
func (f *adminFlags) dial(ctx context.Context, to io.Writer) (client *admin.Client, dir string, err error) {
	folders, err := f.folders(to)
	if err != nil {
		return nil, "", err
	}
	var missing error
	for _, folder := range folders {
		client, err := admin.Dial(ctx, folder)
		if err == nil {
			return client, folder, nil
		}
		if !errors.Is(err, admin.ErrNoAgent) {
			return nil, "", err
		}
		if missing == nil {
			missing = err
		}
	}
	return nil, folders[0], missing
}

func newStatusCommand(s streams) *cobra.Command {
	var f adminFlags
	c := &cobra.Command{
		Use: "status", Short: "Show what a running agent does", Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			client, _, err := f.dial(c.Context(), s.err)
			if err != nil {
				return err
			}
			defer client.Close()
			return printStatus(c.Context(), client, f.json, s.out)
		},
	}
	f.add(c)
	return c
}

func printStatus(ctx context.Context, client *admin.Client, asJSON bool, to io.Writer) error {
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(to, status)
	}
	return writeStatus(to, &status, time.Now())
}

func printJSON(to io.Writer, v any) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// writeStatus prints a status for people. What has a path or a plugin's words in
// it is made safe for a terminal.
func writeStatus(to io.Writer, s *admin.Status, now time.Time) error {
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	state := "ready"
	if !s.Ready {
		state = "not ready"
	}
	fmt.Fprintf(w, "barnabas %s, pid %d, up %s, %s\n", printable(s.Version), s.PID, now.Sub(s.Started).Round(time.Second), state)
	for _, reason := range s.Reasons {
		fmt.Fprintf(w, "  %s\n", printable(reason))
	}
	for i := range s.Pipelines {
		writePipeline(w, &s.Pipelines[i])
	}
	for _, p := range s.Producers {
		fmt.Fprintf(w, "\nproducer %s: %s, buffer %s of %s, %d in flight\n", printable(p.Name), p.State,
			bytesText(p.BufferUsed), bytesText(p.BufferLimit), p.InflightRecords)
		if p.Detail != "" {
			fmt.Fprintf(w, "  %s\n", printable(p.Detail))
		}
	}
	return w.Flush()
}

func writePipeline(w io.Writer, p *admin.Pipeline) {
	fmt.Fprintf(w, "\npipeline %s: %s, %s records/s, %d delivered, %d in flight", printable(p.Name), p.State,
		thousands(int64(p.Rates.DeliveredRecords)), p.Totals.DeliveredRecords, p.InflightRecords)
	if p.InflightRecords > 0 {
		fmt.Fprintf(w, " for up to %.1f s", p.OldestUnackedSeconds)
	}
	fmt.Fprintf(w, ", %d dropped, %d quarantined\n", p.Totals.DroppedRecords, p.Totals.QuarantinedRecords)
	if p.Detail != "" {
		fmt.Fprintf(w, "  %s\n", printable(p.Detail))
	}
	for _, source := range p.Sources {
		fmt.Fprintf(w, "  source %s\tlag %s\t%s\n", printable(source.Name), bytesText(source.LagBytes), sourceText(&source))
		files, others := laggards(source.Files)
		for _, file := range files {
			fmt.Fprintf(w, "    %s\tlag %s\t%d of %d bytes delivered\n", printable(file.Path), bytesText(file.Lag), file.Delivered, file.Size)
		}
		if len(others) > 0 {
			fmt.Fprintf(w, "    and %s\tlag %s\tall are in `barnabas files list`\n", count(len(others), "other file"), bytesText(lagOf(others)))
		}
	}
	for _, stage := range p.Stages {
		fmt.Fprintf(w, "  %s %s\t%s\tpid %d, %s\n", stage.Kind, printable(stage.Name), stage.State, stage.PID, count(int(stage.Restarts), "restart"))
		if stage.Detail != "" {
			fmt.Fprintf(w, "    %s\n", printable(stage.Detail))
		}
		for n, one := range stage.Instances {
			fmt.Fprintf(w, "    instance %d\t%s\tpid %d, %s\n", n, one.State, one.PID, count(int(one.Restarts), "restart"))
		}
	}
}

// mostFiles is how many files of a source are printed for people.
const mostFiles = 20

// laggards returns the files to print, those with the most lag where there are too many
// for all, and the others.
func laggards(all []admin.File) (files, others []admin.File) {
	if len(all) <= mostFiles {
		return all, nil
	}
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b admin.File) int { return cmp.Compare(b.Lag, a.Lag) })
	return sorted[:mostFiles], sorted[mostFiles:]
}

func lagOf(files []admin.File) (lag int64) {
	for _, file := range files {
		lag += file.Lag
	}
	return lag
}

// sourceText says what a source has beside its lag.
func sourceText(s *admin.Source) string {
	if s.Spool == nil {
		return count(len(s.Files), "file")
	}
	text := fmt.Sprintf("spool %s of %s", bytesText(s.Spool.Used), bytesText(s.Spool.Limit))
	if s.Listen != "" {
		text = fmt.Sprintf("%s, %s, %s", printable(s.Listen), count(int(s.Connections), "connection"), text)
	}
	if s.Dropped > 0 {
		text += ", " + count(int(s.Dropped), "record") + " dropped"
	}
	return text
}
