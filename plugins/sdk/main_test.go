package sdk_test

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/barnabas-agent/barnabas/core/wire"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// closeFileVariable names a file that the plugin of the process tests writes when it is closed.
const closeFileVariable = "SDK_TEST_CLOSE_FILE"

// TestMain makes the test's binary a plugin when it is started as one.
func TestMain(m *testing.M) {
	if os.Getenv(wire.CookieKey) != "" || os.Getenv(closeFileVariable) != "" {
		sdk.ServeInterceptor("fragile", "1.2.3", func() sdk.Interceptor { return &fragile{Word: "panic"} })
	}
	goleak.VerifyTestMain(m)
}

// fragile panics at a word: in one record's function, or in the method itself.
type fragile struct {
	Word  string `json:"word,omitempty"`
	Whole bool   `json:"whole,omitempty"`
}

func (f *fragile) OnSend(ctx context.Context, b *sdk.Batch) error {
	slog.Info("batch", "records", b.Len())
	if f.Whole {
		panic("whole batch")
	}
	return sdk.EachRecord(ctx, b, func(_ context.Context, r *sdk.Record) error {
		if string(r.Value()) == f.Word {
			panic("one record")
		}
		r.SetValue(append(r.Value(), '!'))
		return nil
	})
}

func (f *fragile) Close(context.Context) error {
	return os.WriteFile(os.Getenv(closeFileVariable), []byte("closed"), 0o600)
}
