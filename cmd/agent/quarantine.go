package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-agent/barnabas/core/admin"
	"github.com/barnabas-agent/barnabas/core/quarantine"
)

func newQuarantineCommand(s streams) *cobra.Command {
	var f adminFlags
	c := &cobra.Command{
		Use: "quarantine", Short: "List and show records that could not be delivered", RunE: noCommand, Args: cobra.ArbitraryArgs,
	}
	f.add(c)
	var pipeline string
	list := &cobra.Command{
		Use: "list", Short: "List the records, oldest first", Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error { return listQuarantine(c.Context(), &f, pipeline, s) },
	}
	list.Flags().StringVar(&pipeline, "pipeline", "", "only this `pipeline`")
	show := &cobra.Command{
		Use: "show PIPELINE/ID", Short: "Show one record with its exact bytes", Args: arguments("PIPELINE/ID"),
		RunE: func(c *cobra.Command, args []string) error { return showQuarantined(c.Context(), &f, args[0], s) },
	}
	c.AddCommand(list, show)
	return c
}

// keeper is where a quarantine is read: from a running agent, else from its directory.
type keeper struct {
	client *admin.Client // nil: no agent runs
	dir    string
}

func openKeeper(ctx context.Context, f *adminFlags, to io.Writer) (*keeper, error) {
	client, dir, err := f.dial(ctx, to)
	if err != nil && !errors.Is(err, admin.ErrNoAgent) {
		return nil, err
	}
	if client == nil {
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("no agent runs, and its state can't be read: %w: name its folder with --data-dir", err)
		}
	}
	return &keeper{client: client, dir: dir}, nil
}

func (k *keeper) close() {
	if k.client != nil {
		k.client.Close()
	}
}

func (k *keeper) pipelines(ctx context.Context) ([]string, error) {
	if k.client != nil {
		return k.client.QuarantinedPipelines(ctx)
	}
	return quarantine.Pipelines(k.dir)
}

func (k *keeper) list(ctx context.Context, pipeline string) iter.Seq2[admin.QuarantinedRecord, error] {
	if k.client != nil {
		return k.client.Quarantine(ctx, pipeline)
	}
	return admin.OfflineQuarantine(k.dir, pipeline)
}

func (k *keeper) show(ctx context.Context, pipeline string, id uint64) (admin.QuarantinedRecord, error) {
	if k.client != nil {
		return k.client.QuarantinedRecord(ctx, pipeline, id)
	}
	return admin.OfflineQuarantinedRecord(k.dir, pipeline, id)
}

func listQuarantine(ctx context.Context, f *adminFlags, only string, s streams) error {
	k, err := openKeeper(ctx, f, s.err)
	if err != nil {
		return err
	}
	defer k.close()
	pipelines := []string{only}
	if only == "" {
		if pipelines, err = k.pipelines(ctx); err != nil {
			return err
		}
	}
	table := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	if !f.json {
		fmt.Fprintln(table, "RECORD\tTIME\tSTAGE\tCODE\tSOURCE\tMESSAGE")
	}
	var failed error
	for _, pipeline := range pipelines {
		for r, err := range k.list(ctx, pipeline) {
			switch {
			case err != nil:
				failed = errors.Join(failed, err)
			case f.json:
				failed = errors.Join(failed, printJSON(s.out, r))
			default:
				_, err = fmt.Fprintf(table, "%s/%d\t%s\t%s\t%s\t%s:%d\t%s\n", printable(r.Pipeline), r.ID, r.Time.Format(time.RFC3339),
					printable(r.Stage), printable(r.Code), printable(r.Origin.File+r.Origin.Peer), r.Origin.Offset, printable(r.Message))
				failed = errors.Join(failed, err)
			}
		}
	}
	return errors.Join(failed, table.Flush())
}

func showQuarantined(ctx context.Context, f *adminFlags, name string, s streams) error {
	at := strings.LastIndexByte(name, '/')
	id, err := strconv.ParseUint(name[at+1:], 10, 64)
	if at <= 0 || err != nil {
		return &refusal{code: exitUsage, err: fmt.Errorf("%q is not PIPELINE/ID, as barnabas quarantine list prints it", name)}
	}
	k, err := openKeeper(ctx, f, s.err)
	if err != nil {
		return err
	}
	defer k.close()
	r, err := k.show(ctx, name[:at], id)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(s.out, r)
	}
	return writeQuarantined(s.out, &r)
}

func writeQuarantined(to io.Writer, r *admin.QuarantinedRecord) error {
	const precise = "2006-01-02T15:04:05.000Z07:00"
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "record\t%s/%d\n", printable(r.Pipeline), r.ID)
	fmt.Fprintf(w, "given up\t%s\n", r.Time.Format(precise))
	fmt.Fprintf(w, "by\t%s: %s\n", printable(r.Stage), printable(r.Code))
	fmt.Fprintf(w, "because\t%s\n", printable(r.Message))
	fmt.Fprintf(w, "from\t%s %s, bytes %d to %d\n", r.Origin.Kind, printable(r.Origin.File+r.Origin.Peer), r.Origin.Offset, r.Origin.End)
	topic := printable(r.Topic)
	if r.Partition != nil {
		topic += fmt.Sprintf("-%d", *r.Partition)
	}
	fmt.Fprintf(w, "topic\t%s\n", topic)
	fmt.Fprintf(w, "timestamp\t%s\n", r.Timestamp.Format(precise))
	fmt.Fprintf(w, "key\t%s\n", payload(r.Key))
	for _, h := range r.Headers {
		fmt.Fprintf(w, "header\t%q = %s\n", h.Name, payload(h.Value))
	}
	fmt.Fprintf(w, "value\t%s\n", payload(r.Value))
	return w.Flush()
}

// payload shows the exact bytes, quoted as Go does.
func payload(p admin.Payload) string {
	if p.Kind == "null" {
		return "null"
	}
	return fmt.Sprintf("%s, %d bytes: %q", p.Kind, p.Size, p.Bytes)
}
