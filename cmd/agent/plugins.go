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
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/pluginhost"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

func newPluginCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "plugin", Short: "List and describe plugins", RunE: noCommand, Args: cobra.ArbitraryArgs}
	c.AddCommand(newPluginListCommand(s), newPluginDescribeCommand(s))
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

// folder returns the plugin directory.
func (f *pluginFlags) folder(to io.Writer) (string, error) {
	if f.dir != "" {
		return filepath.Abs(f.dir)
	}
	c, err := loadConfig(f.config, config.Options{AllowMissingCredentials: true, IgnoreSecurity: true}, to)
	if err != nil {
		return "", err
	}
	return c.Agent.PluginDir, nil
}

func newPluginListCommand(s streams) *cobra.Command {
	var f pluginFlags
	c := &cobra.Command{
		Use: "list", Short: "List the plugins that are installed", Args: cobra.NoArgs,
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
	host, err := openHost(slog.New(slog.NewTextHandler(io.Discard, nil)), metric.New(), "")
	if err != nil {
		return err
	}
	var failed error
	table := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	if !asJSON {
		fmt.Fprintln(table, "KIND\tNAME\tVERSION\tPROTOCOL\tFILE")
	}
	for _, one := range found {
		description, err := host.Describe(ctx, stageSpec(one.kind, one.name, one.path))
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", one.path, err))
			continue
		}
		if asJSON {
			err = printDescription(s.out, description)
		} else {
			kind := strings.SplitN(strings.TrimPrefix(filepath.Base(one.path), binaryPrefix), "-", 2)[0]
			_, err = fmt.Fprintf(table, "%s\t%s\t%s\t%v\t%s\n", kind, description.Name, description.Version, description.ProtocolVersions, one.path)
		}
		failed = errors.Join(failed, err)
	}
	return errors.Join(failed, table.Flush(), host.Close())
}

func newPluginDescribeCommand(s streams) *cobra.Command {
	var f pluginFlags
	c := &cobra.Command{
		Use: "describe NAME|BINARY", Short: "Print what a plugin says of itself, as JSON", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return describePlugin(c.Context(), args[0], &f, s)
		},
	}
	f.add(c)
	return c
}

// describePlugin describes every plugin of that name, or the binary at that path.
func describePlugin(ctx context.Context, name string, f *pluginFlags, s streams) error {
	var chosen []pluginFile
	if strings.ContainsRune(name, filepath.Separator) {
		path, err := filepath.Abs(name)
		if err != nil {
			return err
		}
		chosen = []pluginFile{{kind: kindOfFile(path), name: filepath.Base(path), path: path}}
	} else {
		dir, err := f.folder(s.err)
		if err != nil {
			return err
		}
		found, err := findPlugins(dir)
		if err != nil {
			return err
		}
		for _, one := range found {
			if one.name == name || filepath.Base(one.path) == name {
				chosen = append(chosen, one)
			}
		}
		if len(chosen) == 0 {
			return fmt.Errorf("no plugin %q in %s; see barnabas plugin list", name, dir)
		}
	}
	host, err := openHost(slog.New(slog.NewTextHandler(io.Discard, nil)), metric.New(), "")
	if err != nil {
		return err
	}
	for _, one := range chosen {
		var description *wirev1.Description
		if description, err = host.Describe(ctx, stageSpec(one.kind, one.name, one.path)); err == nil {
			err = printDescription(s.out, description)
		}
		if err != nil {
			break
		}
	}
	return errors.Join(err, host.Close())
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

func printDescription(to io.Writer, d *wirev1.Description) error {
	text, err := protojson.MarshalOptions{Multiline: true, EmitUnpopulated: true}.Marshal(d)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(to, string(text))
	return err
}
