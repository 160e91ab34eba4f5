package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/pluginhost"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

func newPluginCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "plugin", Short: "List and describe plugins, make new ones and test them", RunE: noCommand, Args: cobra.ArbitraryArgs}
	c.AddCommand(newPluginListCommand(s), newPluginDescribeCommand(s), newPluginReloadCommand(s))
	c.AddCommand(newPluginNewCommand(s), newPluginCheckCommand(s), newPluginBenchCommand(s))
	return c
}

// pluginFlags say where plugins are.
type pluginFlags struct {
	config, dir string
	json        bool
}

func (f *pluginFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.config, "config", "", "configuration `file` or folder that names plugin_dir")
	c.Flags().StringVar(&f.dir, "plugin-dir", "", "`folder` of the plugins, instead of the configuration's plugin_dir")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

// folder returns the plugin directory: the flag's, else the configuration's.
func (f *pluginFlags) folder(to io.Writer) (string, error) {
	if f.dir != "" {
		return filepath.Abs(f.dir)
	}
	c, err := consult(f.config, to)
	if err != nil {
		return "", err
	}
	return c.Agent.PluginDir, nil
}

func newPluginListCommand(s streams) *cobra.Command {
	var f pluginFlags
	c := &cobra.Command{
		Use: "list", Short: "List the plugins that are installed", Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := f.folder(s.err)
			if err != nil {
				return err
			}
			return listPlugins(c.Context(), dir, f.json, s)
		},
	}
	f.add(c)
	return c
}

// pluginFile is a plugin by its file.
type pluginFile struct {
	kind pluginhost.Kind
	name string
	path string
}

// binaryPrefix begins the name of every plugin's file: barnabas-<kind>-<name>.
const binaryPrefix = "barnabas-"

// findPlugins returns what is named like a plugin in a folder.
func findPlugins(dir string) ([]pluginFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read plugin_dir: %w", err)
	}
	var found []pluginFile
	for _, entry := range entries {
		rest, isPlugin := strings.CutPrefix(entry.Name(), binaryPrefix)
		kind, name, named := strings.Cut(rest, "-")
		if !isPlugin || !named || entry.IsDir() {
			continue
		}
		stage, known := stageKind(kind)
		if !known {
			continue
		}
		found = append(found, pluginFile{kind: stage, name: name, path: filepath.Join(dir, entry.Name())})
	}
	return found, nil
}

// stageKind returns a kind of stage that plugins of a kind fit into.
func stageKind(pluginKind string) (pluginhost.Kind, bool) {
	for _, k := range []config.StageKind{config.Interceptor, config.ValueSerializer, config.Partitioner} {
		if k.PluginKind() == pluginKind {
			return pluginhost.Kind(k), true
		}
	}
	return "", false
}

func listPlugins(ctx context.Context, dir string, asJSON bool, s streams) error {
	found, err := findPlugins(dir)
	if err != nil {
		return err
	}
	all, failed := describeAll(ctx, found)
	if asJSON {
		return errors.Join(printJSON(s.out, all), failed)
	}
	table := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "KIND\tNAME\tVERSION\tPROTOCOL\tFILE\tCHECKSUM")
	for _, d := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", d.Kind, printable(d.Name), printable(d.Version), d.protocols(), printable(d.File), d.Checksum)
	}
	return errors.Join(table.Flush(), failed)
}

// describers is how many plugins are asked at once.
const describers = 4

// describeAll asks plugins what they are. It returns those that answered, in
// their order, and why the others did not.
func describeAll(ctx context.Context, found []pluginFile) ([]description, error) {
	host, err := openHost(slog.New(slog.DiscardHandler), metric.New(), "")
	if err != nil {
		return nil, err
	}
	var asking errgroup.Group
	asking.SetLimit(describers)
	answers, files, errs := make([]*wirev1.Description, len(found)), make([]pluginhost.File, len(found)), make([]error, len(found))
	for i, one := range found {
		asking.Go(func() error {
			spec := pluginhost.Spec{Pipeline: "-", Stage: one.name, Kind: one.kind, Plugin: one.name, Path: one.path}
			answers[i], files[i], errs[i] = host.Describe(ctx, spec)
			return nil
		})
	}
	failed := asking.Wait()
	all := []description{}
	for i, one := range found {
		if errs[i] != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", one.path, errs[i]))
			continue
		}
		all = append(all, describe(one.path, files[i], answers[i]))
	}
	return all, errors.Join(failed, host.Close())
}

func newPluginDescribeCommand(s streams) *cobra.Command {
	var f pluginFlags
	c := &cobra.Command{
		Use: "describe NAME|BINARY", Short: "Print what a plugin says of itself", Args: arguments("NAME or BINARY"),
		RunE: func(c *cobra.Command, args []string) error {
			return describePlugin(c.Context(), args[0], &f, s)
		},
	}
	f.add(c)
	return c
}

// describePlugin describes every plugin of that name, or the binary at that path.
func describePlugin(ctx context.Context, name string, f *pluginFlags, s streams) error {
	chosen, err := choosePlugins(name, f, s.err)
	if err != nil {
		return err
	}
	all, failed := describeAll(ctx, chosen)
	for i, d := range all {
		if f.json {
			failed = errors.Join(failed, printJSON(s.out, d))
			continue
		}
		if i > 0 {
			fmt.Fprintln(s.out)
		}
		failed = errors.Join(failed, d.write(s.out))
	}
	return failed
}

func choosePlugins(name string, f *pluginFlags, to io.Writer) ([]pluginFile, error) {
	if strings.ContainsRune(name, filepath.Separator) {
		path, err := filepath.Abs(name)
		return []pluginFile{{kind: kindOfFile(path), name: filepath.Base(path), path: path}}, err
	}
	dir, err := f.folder(to)
	if err != nil {
		return nil, err
	}
	found, err := findPlugins(dir)
	if err != nil {
		return nil, err
	}
	var chosen []pluginFile
	for _, one := range found {
		if one.name == name || filepath.Base(one.path) == name {
			chosen = append(chosen, one)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no plugin %q in %s: barnabas plugin list shows what is there", name, printable(dir))
	}
	return chosen, nil
}

// kindOfFile is the kind that a file's name says, an interceptor where it says none.
func kindOfFile(path string) pluginhost.Kind {
	rest, _ := strings.CutPrefix(filepath.Base(path), binaryPrefix)
	kind, _, _ := strings.Cut(rest, "-")
	if stage, known := stageKind(kind); known {
		return stage
	}
	return pluginhost.Interceptor
}
