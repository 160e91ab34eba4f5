package script

import (
	"context"
	"errors"
	"fmt"
	"log" //nolint:depguard // what plugins print in this way arrives too
	"log/slog"
	"os"
	"path/filepath"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// herald is an interceptor that says things in every way that Go has, counts
// records, says what became of them, and puts off those that wait for a file.
type herald struct {
	Dir string `json:"dir,omitempty"` // where the files are that records wait for

	heard sdk.Counter
	last  sdk.Gauge
}

// OnSend implements sdk.Interceptor.
func (h *herald) OnSend(ctx context.Context, b *sdk.Batch) error {
	h.last.Set(float64(b.Len()))
	err := sdk.EachRecord(ctx, b, h.hear)
	if err == nil {
		h.heard.Add(uint64(b.Len()))
	}
	return err
}

// hear handles one record.
func (h *herald) hear(_ context.Context, r *sdk.Record) error {
	switch value := string(r.Value()); value {
	case "speak":
		slog.Debug("said quietly", "number", 1)
		slog.Info("said", "number", 2)
		slog.Warn("said with care", "number", 3)
		slog.Error("said in fear", "error", errors.New("no end"))
		log.Print("said with log")
		fmt.Println("said on stdout")
		fmt.Fprintln(os.Stderr, "[WARN] said on stderr")
	case "bad":
		return sdk.Errorf("herald.bad", "%s is bad", value)
	case "wait":
		if _, err := os.Stat(filepath.Join(h.Dir, "there")); err != nil {
			return sdk.RetryLater(errors.New("what it waits for is not there"))
		}
	}
	return nil
}

// OnAcknowledgement implements sdk.Acknowledger.
func (*herald) OnAcknowledgement(all []sdk.Acknowledgement) {
	for _, a := range all {
		slog.Info("acknowledged", "at", fmt.Sprintf("%s-%d@%d", a.Topic, a.Partition, a.FirstOffset), "records", a.Count, "problem", a.Error)
	}
}

// Metrics implements sdk.MetricsProvider.
func (h *herald) Metrics() []sdk.Metric {
	return []sdk.Metric{h.heard.Metric("heard_total", "Records heard."), h.last.Metric("batch_records", "Records of the last batch.")}
}
