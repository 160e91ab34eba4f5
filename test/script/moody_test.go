package script

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// moody is an interceptor that does to a record what the record says.
type moody struct {
	Refuse string `json:"refuse,omitempty" jsonschema:"maxLength=20"` // what it says of its own configuration
}

// Configure implements sdk.Configurer.
func (m *moody) Configure(context.Context) error {
	if m.Refuse != "" {
		return &sdk.ConfigError{Pointer: "/refuse", Message: m.Refuse}
	}
	return nil
}

// OnSend implements sdk.Interceptor.
func (m *moody) OnSend(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		switch string(b.Value(i)) {
		case "say":
			fmt.Fprintln(os.Stderr, "the plugin says\x1b[2J hello")
		case "hang":
			hang()
		case "fail":
			b.Fail(i, errors.New("bad\x1b[31m record"))
		case "tombstone":
			b.SetKey(i, []byte("grave"))
			b.SetValueNull(i)
		case "null":
			b.SetKeyNull(i)
			b.SetValueNull(i)
		}
	}
	return nil
}

// startSlowly describes itself and never gets ready to serve.
func startSlowly() {
	if len(os.Args) > 1 {
		os.Exit(sdk.InterceptorProgram("starting", "1.0.0", func() sdk.Interceptor { return &moody{} }).Main(os.Args[1:]))
	}
	hang()
}

// hang waits for a signal that nobody sends, and for no other.
func hang() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	never := make(chan os.Signal, 1)
	signal.Notify(never, syscall.SIGUSR2)
	<-never
}
