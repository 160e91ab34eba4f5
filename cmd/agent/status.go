package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
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

// folder returns the data directory: the flag's, else the configuration's, else
// that of `run --dev`. An agent of `run --dev` runs beside a configuration that
// names another one, so it is preferred where it is there.
func (f *adminFlags) folder(to io.Writer) (string, error) {
	if f.dataDir != "" {
		return f.dataDir, nil
	}
	path := f.config
	if path == "" {
		path = config.DefaultPath()
		if _, err := os.Stat(path); err != nil {
			return devDataDir, nil
		}
	}
	c, err := loadConfig(path, config.Options{AllowMissingCredentials: true, IgnoreSecurity: true}, to)
	if err != nil {
		return "", err
	}
	return c.Agent.DataDir, nil
}

func newStatusCommand(s streams) *cobra.Command {
	var f adminFlags
	c := &cobra.Command{
		Use: "status", Short: "Show what a running agent does", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := f.folder(s.err)
			if err != nil {
				return err
			}
			return printStatus(c.Context(), dir, f.json, s.out)
		},
	}
	f.add(c)
	return c
}

func printStatus(ctx context.Context, dir string, asJSON bool, to io.Writer) error {
	client, err := admin.Dial(ctx, dir)
	if err != nil {
		return err
	}
	defer client.Close()
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(to, status)
	}
	return writeStatus(to, &status)
}

func printJSON(to io.Writer, v any) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// writeStatus prints a status for people.
func writeStatus(to io.Writer, s *admin.Status) error {
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	state := "ready"
	if !s.Ready {
		state = "not ready"
	}
	fmt.Fprintf(w, "barnabas %s, pid %d, %s, up %s\n", s.Version, s.PID, state, time.Since(s.Started).Round(time.Second))
	for _, reason := range s.Reasons {
		fmt.Fprintf(w, "  %s\n", reason)
	}
	for _, p := range s.Pipelines {
		fmt.Fprintf(w, "\npipeline %s: %s\t%s records/s\t%d delivered\t%d in flight\t%d quarantined\n", p.Name, p.State,
			thousands(int64(p.Rates.DeliveredRecords)), p.Totals.DeliveredRecords, p.InflightRecords, p.Totals.QuarantinedRecords)
		for _, source := range p.Sources {
			fmt.Fprintf(w, "  source %s\tlag %s\t%d files\n", source.Name, bytesText(source.LagBytes), len(source.Files))
			for _, file := range source.Files {
				fmt.Fprintf(w, "    %s\tlag %s\tdelivered %d of %d\n", file.Path, bytesText(file.Lag), file.Delivered, file.Size)
			}
		}
		for _, stage := range p.Stages {
			fmt.Fprintf(w, "  %s %s\t%s\tpid %d\t%d restarts\t%s\n", stage.Kind, stage.Name, stage.State, stage.PID, stage.Restarts, stage.Detail)
		}
	}
	for _, p := range s.Producers {
		fmt.Fprintf(w, "\nproducer %s: %s\tbuffer %s of %s\t%d in flight\t%s\n", p.Name, p.State,
			bytesText(p.BufferUsed), bytesText(p.BufferLimit), p.InflightRecords, p.Detail)
	}
	return w.Flush()
}
