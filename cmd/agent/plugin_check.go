package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-agent/barnabas/plugins/sdk/plugintest"
)

// trialFlags say how a plugin's file is tried outside a pipeline.
type trialFlags struct {
	config string
	env    []string
	forKey bool
	json   bool
}

func (f *trialFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.config, "config", "{}", "the plugin's configuration, a `JSON` object; @FILE reads it from a file")
	c.Flags().StringArrayVar(&f.env, "env", nil, "`NAME=VALUE` for the plugin's environment, which is empty but for PATH and TMPDIR; may be repeated")
	c.Flags().BoolVar(&f.forKey, "key", false, "use a serializer as key serializer")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

// trial is a plugin's file with the configuration that it is tried with.
type trial struct {
	binary  string // absolute
	config  string
	env     []string
	options []plugintest.Option
}

// trial checks the flags and finds the file.
func (f *trialFlags) trial(binary string) (*trial, error) {
	t := &trial{config: f.config, env: f.env}
	if file, isFile := strings.CutPrefix(f.config, "@"); isFile {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--config: %w", err)
		}
		t.config = string(text)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(t.config), &members); err != nil || members == nil {
		return nil, errors.Join(errors.New(`--config: want a JSON object, as '{"name": "value"}'`), err)
	}
	for _, variable := range f.env {
		if name, _, found := strings.Cut(variable, "="); !found || name == "" {
			return nil, fmt.Errorf("--env: %q is not NAME=VALUE", variable)
		}
	}
	if f.forKey {
		t.options = append(t.options, plugintest.ForKeys())
	}
	info, err := os.Stat(binary)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return nil, fmt.Errorf("%s is not an executable file", binary)
	}
	t.binary, err = filepath.Abs(binary)
	return t, err
}

func newPluginCheckCommand(s streams) *cobra.Command {
	var f trialFlags
	c := &cobra.Command{
		Use:   "check BIN",
		Short: "Put a plugin's file through what the agent relies on",
		Long: "Put a plugin's file, in whatever language, through the conformance suite: it is started as the agent starts it, once per\n" +
			"case, and each of its replies is checked as the agent checks it. The report says what failed and why.",
		Args: arguments("BIN"),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := f.trial(args[0])
			if err != nil {
				return wrongUsage(c, err)
			}
			return checkPlugin(c.Context(), t, f.json, s)
		},
	}
	f.add(c)
	return c
}

// checkResult is what became of one case.
type checkResult struct {
	Case    string  `json:"case"`
	Passed  bool    `json:"passed"`
	Seconds float64 `json:"seconds"`
	Rule    string  `json:"rule"`
	Error   string  `json:"error,omitempty"` // why it failed
}

// checkReport is what check --json prints.
type checkReport struct {
	File   string        `json:"file"`
	Passed bool          `json:"passed"`
	Cases  []checkResult `json:"cases"`
}

// checkPlugin runs all cases, failed ones included, and reports them.
func checkPlugin(ctx context.Context, t *trial, asJSON bool, s streams) error {
	report := checkReport{File: t.binary, Passed: true, Cases: []checkResult{}}
	progress := s.out
	if asJSON {
		progress = io.Discard
	}
	failed := 0
	for _, c := range plugintest.ProcessCases(t.binary, t.env, t.config, t.options...) {
		r, notStarted := runCase(ctx, &c)
		if !r.Passed {
			report.Passed = false
			failed++
		}
		report.Cases = append(report.Cases, r)
		if err := r.write(progress); err != nil {
			return err
		}
		if notStarted && len(report.Cases) == 1 {
			break // no other case would say more
		}
	}
	if asJSON {
		if err := printJSON(s.out, &report); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%s: %d of %s failed", printable(t.binary), failed, count(len(report.Cases), "case"))
	}
	_, err := fmt.Fprintf(progress, "%s: all %s passed\n", printable(t.binary), count(len(report.Cases), "case"))
	return err
}

func runCase(ctx context.Context, c *plugintest.Case) (r checkResult, notStarted bool) {
	ctx, cancel := context.WithTimeout(ctx, plugintest.CaseTimeout)
	defer cancel()
	begun := time.Now()
	err := c.Run(ctx)
	r = checkResult{Case: c.Name, Passed: err == nil, Seconds: time.Since(begun).Seconds(), Rule: c.Rule}
	if err != nil {
		r.Error = err.Error()
	}
	return r, errors.Is(err, plugintest.ErrNotStarted)
}

// write prints the result for people, a plugin's own words safe for a terminal.
func (r *checkResult) write(to io.Writer) error {
	if r.Passed {
		_, err := fmt.Fprintf(to, "ok    %-28s %6.2fs\n", r.Case, r.Seconds)
		return err
	}
	lines := strings.Split(r.Error, "\n")
	for i := range lines {
		lines[i] = "      " + printable(lines[i])
	}
	_, err := fmt.Fprintf(to, "FAIL  %-28s %6.2fs\n      %s\n%s\n", r.Case, r.Seconds, r.Rule, strings.Join(lines, "\n"))
	return err
}
