// Command barnabas is the ingestion agent: it tails files, passes every record
// through plugin processes and produces it to Kafka.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/barnabas-agent/barnabas/core/pluginhost"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == pluginhost.ExecCommand {
		os.Exit(pluginhost.Exec(os.Args[2:]))
	}
	os.Exit(exitCode(newRoot(os.Stdout, os.Stderr).ExecuteContext(context.Background())))
}

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// refusal is an error whose text has been written where it belongs, or is of
// the given exit code.
type refusal struct {
	code  int
	err   error
	shown bool
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// exitCode reports what has not been reported and chooses the code.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	var r *refusal
	if !errors.As(err, &r) {
		r = &refusal{code: exitFailed, err: err}
	}
	if !r.shown {
		fmt.Fprintln(os.Stderr, "barnabas:", r.err)
	}
	return r.code
}
