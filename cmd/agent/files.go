package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-agent/barnabas/core/admin"
	"github.com/barnabas-agent/barnabas/sources/file"
)

// files returns all files that the sources know.
func (a *agent) files() []admin.TrackedFile {
	var all []admin.TrackedFile
	a.eachFileSource(func(pipeline, name string, s *file.Source) {
		for _, f := range s.Files() {
			all = append(all, trackedFile(pipeline, name, f))
		}
	})
	return all
}

// explainFile asks all file sources about a path.
func (a *agent) explainFile(path string) []admin.FileExplanation {
	all := []admin.FileExplanation{}
	a.eachFileSource(func(pipeline, name string, s *file.Source) {
		e := s.Explain(path)
		one := admin.FileExplanation{Pipeline: pipeline, Source: name, Path: path, Followed: e.Followed, Why: e.Why}
		for _, f := range e.Files {
			one.Files = append(one.Files, trackedFile(pipeline, name, f))
		}
		for _, d := range e.Decisions {
			one.Decisions = append(one.Decisions, admin.FileDecision{
				Time: d.Time.UTC(), Path: d.Path, Identity: d.Identity, What: string(d.What), Reason: d.Reason,
				Position: d.Position, Size: d.Size, Lost: d.Lost,
			})
		}
		all = append(all, one)
	})
	return all
}

func (a *agent) eachFileSource(do func(pipeline, name string, s *file.Source)) {
	for _, l := range a.lines {
		for i, s := range l.sources {
			if f, ok := s.(fileSource); ok {
				do(l.config.Name, l.config.Sources[i].Name, f.Source)
			}
		}
	}
}

func trackedFile(pipeline, source string, f file.FileInfo) admin.TrackedFile {
	return admin.TrackedFile{
		Pipeline: pipeline, Source: source, Path: f.Path, Real: f.Real, Identity: f.Identity, State: f.State,
		Size: f.Size, Read: f.Read, Delivered: f.Delivered, Lag: f.Lag,
	}
}

func newFilesCommand(s streams) *cobra.Command {
	var f adminFlags
	list := func(c *cobra.Command, _ []string) error { return listFiles(c.Context(), &f, s) }
	c := &cobra.Command{
		Use: "files", Short: "List the files that a running agent knows, and say why a file is read or not", RunE: list, Args: arguments(),
	}
	f.add(c)
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "List all files with their identity, position and lag", Args: arguments(), RunE: list},
		&cobra.Command{
			Use: "explain PATH", Short: "Say what was decided about a file, and why it is read or not", Args: arguments("PATH"),
			RunE: func(c *cobra.Command, args []string) error { return explainFile(c.Context(), &f, args[0], s) },
		})
	return c
}

func listFiles(ctx context.Context, f *adminFlags, s streams) error {
	client, _, err := f.dial(ctx, s.err)
	if err != nil {
		return fmt.Errorf("files are known to a running agent alone: %w", err)
	}
	defer client.Close()
	files, err := client.Files(ctx)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(s.out, files)
	}
	w := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "PIPELINE/SOURCE\tFILE\tSTATE\tSIZE\tREAD\tDELIVERED\tLAG\tDEVICE:INODE:GENERATION")
	for i := range files {
		one := &files[i]
		fmt.Fprintf(w, "%s/%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", printable(one.Pipeline), printable(one.Source), printable(one.Path), one.State,
			one.Size, one.Read, one.Delivered, bytesText(one.Lag), one.Identity)
	}
	return w.Flush()
}

func explainFile(ctx context.Context, f *adminFlags, path string, s streams) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	client, _, err := f.dial(ctx, s.err)
	if err != nil {
		return fmt.Errorf("files are known to a running agent alone: %w", err)
	}
	defer client.Close()
	explanations, err := client.ExplainFile(ctx, path)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(s.out, explanations)
	}
	return writeExplanations(s.out, path, explanations)
}

func writeExplanations(to io.Writer, path string, all []admin.FileExplanation) error {
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, printable(path))
	if len(all) == 0 {
		fmt.Fprintln(w, "  the agent has no source that reads files")
	}
	for i := range all {
		e := &all[i]
		fmt.Fprintf(w, "\npipeline %s, source %s: %s\n", printable(e.Pipeline), printable(e.Source), printable(e.Why))
		for _, f := range e.Files {
			fmt.Fprintf(w, "  %s\t%s\t%d of %d bytes read, %d delivered, lag %s\t%s\n", f.State, f.Identity,
				f.Read, f.Size, f.Delivered, bytesText(f.Lag), aside(f.Path, path))
		}
		for _, d := range e.Decisions {
			fmt.Fprintf(w, "  %s\t%s\tat %d of %d bytes%s\t%s%s\n", d.Time.Format(time.RFC3339), d.What, d.Position, d.Size,
				lostText(d.Lost), printable(d.Reason), aside(d.Path, path))
		}
	}
	return w.Flush()
}

// aside names another path than the one that was asked for.
func aside(path, asked string) string {
	if path == asked {
		return ""
	}
	return " (" + printable(path) + ")"
}

func lostText(lost int64) string {
	if lost == 0 {
		return ""
	}
	return fmt.Sprintf(", %d lost unread", lost)
}
