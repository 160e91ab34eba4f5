package sdk

import (
	"errors"
	"fmt"
	"time"

	"github.com/barnabas-agent/barnabas/core/wire"
)

// defaultCode is the code of a refusal whose error carries none.
const defaultCode = "refused"

// codedError is an error with a stable code.
type codedError struct {
	code string
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// Errorf returns an error with a stable code, such as "filter.expression", for
// Batch.Fail. The format may wrap another error with %w.
func Errorf(code, format string, args ...any) error {
	return &codedError{code: code, err: fmt.Errorf(format, args...)}
}

// refusalOf reads code and message of an error.
func refusalOf(err error) wire.Refusal {
	if err == nil {
		return wire.Refusal{Code: defaultCode}
	}
	refusal := wire.Refusal{Code: defaultCode, Message: err.Error()}
	if coded, ok := errors.AsType[*codedError](err); ok {
		refusal.Code = coded.code
	}
	return refusal
}

// retryError asks for the same batch again.
type retryError struct {
	err   error
	after time.Duration
}

func (e *retryError) Error() string { return e.err.Error() }
func (e *retryError) Unwrap() error { return e.err }

// RetryLater says that something the plugin needs is away for now, a schema
// registry for example. Nothing of the batch is used, and it comes again after
// a pause that the agent chooses, a second at first and 30 at most. The batches
// behind it wait; the process stays.
func RetryLater(err error) error { return &retryError{err: err} }

// RetryAfter is RetryLater with a pause of its own, which the agent holds between
// 100 milliseconds and 5 minutes.
func RetryAfter(err error, pause time.Duration) error { return &retryError{err: err, after: pause} }

// ConfigError says which member of the configuration is wrong; the agent shows it
// at that member's line.
type ConfigError struct {
	Pointer string // JSON pointer, e.g. "/patterns/0"; empty: the configuration as a whole
	Message string
}

// Error says the member and the message.
func (e *ConfigError) Error() string {
	if e.Pointer == "" {
		return e.Message
	}
	return e.Pointer + ": " + e.Message
}
