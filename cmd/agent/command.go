package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

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
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(out)
	root.SetErr(err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &refusal{code: exitUsage, err: fmt.Errorf("%w\nsee: %s --help", err, c.CommandPath())}
	})
	root.AddCommand(
		newRunCommand(s), newValidateCommand(s), newPluginCommand(s),
		newStatusCommand(s), newQuarantineCommand(s), newVersionCommand(s),
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

// usageArgs gives errors about arguments the exit code of wrong usage.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return &refusal{code: exitUsage, err: fmt.Errorf("%w\nsee: %s --help", err, c.CommandPath())}
		}
		return nil
	}
}

// noCommand is what a command that only groups others answers.
func noCommand(c *cobra.Command, args []string) error {
	err := errors.New("a command is missing")
	if len(args) > 0 {
		err = fmt.Errorf("unknown command %q", args[0])
	}
	return &refusal{code: exitUsage, err: fmt.Errorf("%w\nsee: %s --help", err, c.CommandPath())}
}

func newVersionCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit, Go, librdkafka and plugin protocol versions",
		Args:  cobra.NoArgs,
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
