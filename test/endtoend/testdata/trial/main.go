// Trial is an interceptor for tests: it marks what it has seen with its version,
// and panics over what it is told to.
package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// version is set by the linker.
var version = "1"

func main() {
	sdk.ServeInterceptor("trial", version, func() sdk.Interceptor { return &trial{} })
}

type trial struct {
	PanicOn []string `json:"panic_on,omitempty" jsonschema:"description=Values that hold one of these end the process"`
}

// OnSend puts the version into a header.
func (t *trial) OnSend(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		for _, trigger := range t.PanicOn {
			if bytes.Contains(b.Value(i), []byte(trigger)) {
				panic(fmt.Sprintf("the trial can't bear %s", trigger))
			}
		}
		b.SetHeaders(i, []sdk.Header{{Name: "seen-by", Value: []byte(version)}})
	}
	return nil
}
