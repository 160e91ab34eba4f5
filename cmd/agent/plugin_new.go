package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/barnabas-agent/barnabas"
	"github.com/barnabas-agent/barnabas/plugins/scaffold"
)

func newPluginNewCommand(s streams) *cobra.Command {
	var language string
	c := &cobra.Command{
		Use:   "new KIND NAME",
		Short: "Make the project of a new plugin, as a folder of its name",
		Long: "Make the project of a new plugin, as a folder of its name in the working directory: it builds, has a test and passes\n" +
			"barnabas plugin check, in one command each. KIND is " + strings.Join(scaffold.Kinds(), ", ") + ".",
		Example: "  barnabas plugin new interceptor mask-emails\n  cd mask-emails && make build test check",
		Args:    arguments("KIND", "NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			p := scaffold.Project{
				Kind: args[0], Name: args[1], Language: language, Version: version, Source: barnabas.PluginSource(),
			}
			if err := p.Check(); err != nil {
				return wrongUsage(c, err)
			}
			return newPlugin(&p, s)
		},
	}
	c.Flags().StringVar(&language, "lang", scaffold.Languages()[0], "`language` of the plugin: "+strings.Join(scaffold.Languages(), " or "))
	return c
}

// newPlugin makes the project in the working directory and says what is next.
func newPlugin(p *scaffold.Project, s streams) error {
	written, err := p.Create(".")
	if err != nil {
		return fmt.Errorf("make the project of %s %q: %w", p.Kind, p.Name, err)
	}
	for _, name := range written {
		fmt.Fprintln(s.out, filepath.Join(p.Name, filepath.FromSlash(name)))
	}
	_, err = fmt.Fprintf(s.out, "\nNext:\n  cd %s\n  make build   # %s\n  make test\n  make check\n", p.Name, p.Built())
	return err
}
