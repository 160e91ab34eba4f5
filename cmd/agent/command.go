package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/barnabas-agent/barnabas/core/producer"
	"github.com/barnabas-agent/barnabas/core/wire"
)

// version and commit are set by the linker.
var (
	version = "0.0.0-dev"
	commit  = "unknown"
)

// streams are where a command writes: results to out, errors and logs to err.
type streams struct {
	out, err io.Writer
}

// newRoot makes the command line.
func newRoot(out, err io.Writer) *cobra.Command {
	s := streams{out: out, err: err}
	root := &cobra.Command{
		Use:           "barnabas",
		Short:         "Files and sockets into Kafka, nothing lost, every record through your plugins",
		Args:          cobra.ArbitraryArgs,
		RunE:          noCommand,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(out)
	root.SetErr(err)
	root.SetFlagErrorFunc(wrongUsage)
	root.SetHelpCommand(newHelpCommand(root))
	root.AddCommand(
		newRunCommand(s), newValidateCommand(s), newPluginCommand(s),
		newStatusCommand(s), newFilesCommand(s), newQuarantineCommand(s), newVersionCommand(s),
	)
	for _, c := range allCommands(root) {
		if c.Args != nil {
			c.Args = usageArgs(c.Args)
		}
	}
	return root
}

func allCommands(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		all = append(all, allCommands(sub)...)
	}
	return all
}

// wrongUsage gives an error of the command line its exit code, and says where to read on.
func wrongUsage(c *cobra.Command, err error) error {
	return &refusal{code: exitUsage, err: fmt.Errorf("%w\nsee: %s --help", err, c.CommandPath())}
}

// usageArgs gives errors about arguments the exit code of wrong usage.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return wrongUsage(c, err)
		}
		return nil
	}
}

// arguments takes exactly the arguments of these names.
func arguments(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return fmt.Errorf("%s is missing", names[len(args)])
		}
		if len(args) > len(names) {
			return fmt.Errorf("%q is one argument too many", args[len(names)])
		}
		return nil
	}
}

// announced are commands that later versions have, by the command that they belong to.
func announced() map[string][]string {
	return map[string][]string{
		"barnabas":            {"test", "top", "tap", "verify"},
		"barnabas quarantine": {"replay", "drop"},
	}
}

// noCommand is what a command that only groups others answers.
func noCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		c.SetOut(c.ErrOrStderr())
		return errors.Join(c.Help(), wrongUsage(c, errors.New("a command is missing")))
	}
	name := args[0]
	if slices.Contains(announced()[c.CommandPath()], name) {
		return wrongUsage(c, fmt.Errorf("%s %s is not available yet", c.CommandPath(), name))
	}
	text := fmt.Sprintf("there is no command %q", name)
	c.SuggestionsMinimumDistance = 2
	if similar := c.SuggestionsFor(name); len(similar) > 0 {
		text += fmt.Sprintf(": did you mean %s?", strings.Join(similar, ", "))
	}
	return wrongUsage(c, errors.New(text))
}

func newHelpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		Args:  cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err != nil {
				return wrongUsage(root, err)
			}
			if len(rest) > 0 {
				return noCommand(c, rest)
			}
			return c.Help()
		},
	}
}

func newVersionCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit, Go, librdkafka and plugin protocol versions",
		Args:  arguments(),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(s.out, "barnabas %s\ncommit %s\n%s %s/%s\nlibrdkafka %s\nplugin protocol %d\n",
				version, buildCommit(), runtime.Version(), runtime.GOOS, runtime.GOARCH, producer.LibraryVersion(), wire.ProtocolVersion)
			return err
		},
	}
}

// buildCommit is what the linker was told, else what the Go tool recorded.
func buildCommit() string {
	if commit != "unknown" {
		return commit
	}
	if info, known := debug.ReadBuildInfo(); known {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				return setting.Value
			}
		}
	}
	return commit
}
