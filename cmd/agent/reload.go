package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/barnabas-agent/barnabas/core/admin"
	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/core/pluginhost"
)

func newPluginReloadCommand(s streams) *cobra.Command {
	var f adminFlags
	c := &cobra.Command{
		Use:   "reload [PIPELINE/STAGE]",
		Short: "Have a running agent take plugins' files as they are now, of one stage or of all",
		Long: "Starts each plugin's file as it is now and moves the stage's lanes over between two batches: no record is\n" +
			"lost, repeated or reordered. A plugin that does not start, or refuses its configuration, changes nothing.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%q is one argument too many", args[1])
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			client, _, err := f.dial(c.Context(), s.err)
			if err != nil {
				return err
			}
			defer client.Close()
			reloads, err := client.ReloadPlugins(c.Context(), strings.Join(args, ""))
			if err != nil {
				return err
			}
			return printReloads(reloads, f.json, s.out)
		},
	}
	f.add(c)
	return c
}

// printReloads shows what became of each stage; the error says that an old process stays.
func printReloads(reloads []admin.Reload, asJSON bool, to io.Writer) error {
	var failed []error
	for _, r := range reloads {
		if r.Error != "" {
			failed = append(failed, fmt.Errorf("%s/%s: %s stays: %s", printable(r.Pipeline), printable(r.Stage), printable(r.Before), printable(r.Error)))
			continue
		}
		if !asJSON {
			fmt.Fprintf(to, "%s/%s: %s, was %s\n", printable(r.Pipeline), printable(r.Stage), printable(r.After), printable(r.Before))
		}
	}
	if asJSON {
		failed = append(failed, printJSON(to, reloads))
	}
	return errors.Join(failed...)
}

// reloadPlugins replaces the plugins of one stage, "PIPELINE/STAGE", or of all.
func (a *agent) reloadPlugins(ctx context.Context, stage string) ([]admin.Reload, error) {
	if !a.ready.running.Load() {
		return nil, errors.New("the agent is starting or stopping")
	}
	var chosen []*pluginhost.Stage
	var names []string
	for _, l := range a.lines {
		for _, s := range l.stages {
			name := stagePath(l.config.Name, s.Name())
			names = append(names, name)
			if stage == "" || stage == name {
				chosen = append(chosen, s)
			}
		}
	}
	if len(chosen) == 0 && stage != "" {
		return nil, fmt.Errorf("%w %q: there are %s", admin.ErrNoStage, stage, strings.Join(names, ", "))
	}
	reloads := make([]admin.Reload, len(chosen))
	var all sync.WaitGroup
	for i, s := range chosen {
		all.Go(func() {
			before := s.Status()
			err := s.Reload(ctx)
			after := s.Status()
			reloads[i] = admin.Reload{Pipeline: before.Pipeline, Stage: before.Stage, Before: before.Version, After: after.Version}
			if err != nil {
				reloads[i].Error = err.Error()
			}
		})
	}
	all.Wait()
	return reloads, nil
}

// stagePath names a stage on the command line.
func stagePath(pipeline, stage string) string { return pipeline + "/" + stage }

// parseAttachments reads the flags --attach PIPELINE/STAGE=ADDRESS; each must name a stage.
func parseAttachments(flags []string, c *config.Config) (map[string]string, error) {
	known := make(map[string]bool)
	for i := range c.Pipelines {
		for _, s := range c.Pipelines[i].Stages() {
			known[stagePath(c.Pipelines[i].Name, s.Name)] = true
		}
	}
	attached := make(map[string]string)
	for _, flag := range flags {
		stage, address, complete := strings.Cut(flag, "=")
		switch {
		case !complete || address == "":
			return nil, &refusal{code: exitUsage, err: fmt.Errorf("--attach %s: want PIPELINE/STAGE=ADDRESS", flag)}
		case !known[stage]:
			return nil, &refusal{code: exitUsage, err: fmt.Errorf("--attach %s: the configuration has no stage %q", flag, stage)}
		case attached[stage] != "":
			return nil, &refusal{code: exitUsage, err: fmt.Errorf("--attach %s: the stage %q is attached already", flag, stage)}
		}
		attached[stage] = address
	}
	return attached, nil
}

// lanesFor is how many lanes a pipeline needs: one per core, and enough for
// every instance of its plugins to have one.
func lanesFor(c *config.Pipeline, cores int) int {
	lanes := min(cores, mostLanes)
	for _, s := range c.Stages() {
		lanes = max(lanes, s.Instances)
	}
	return lanes
}
