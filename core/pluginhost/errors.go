package pluginhost

import (
	"fmt"
	"strings"
)

// Reason says why a plugin can't be used, so that the configuration's author
// can be pointed to the line at fault.
type Reason uint8

// The reasons.
const (
	Missing         Reason = iota + 1 // there is no such file
	NotExecutable                     // the file may not be executed, or is no program for this machine
	Directory                         // the path is a directory
	Untrusted                         // another user could replace the file
	NotPlugin                         // the program does not speak go-plugin's handshake
	StartTimeout                      // the program did not get ready in time
	ProtocolVersion                   // the plugin speaks another version of the protocol
	WrongKind                         // the plugin is of another kind than the block that names it
	ConfigRefused                     // the configuration does not fit; Config holds every error
	Unavailable                       // the plugin asks for something that this version does not have
	Failed                            // the plugin broke while it was asked
	WrongChecksum                     // the file is not the one that the configuration names
)

// String names the reason, as the metric of restarts labels it.
func (r Reason) String() string {
	names := [...]string{"unknown", "missing", "not_executable", "directory", "untrusted", "not_plugin",
		"start_timeout", "protocol_version", "wrong_kind", "config", "unavailable", "failed", "checksum"}
	if int(r) < len(names) {
		return names[r]
	}
	return names[0]
}

// ConfigError is one member of a plugin's configuration that does not fit.
type ConfigError struct {
	Pointer string // JSON pointer to the member; empty: the configuration as a whole
	Message string
}

// Error says why a plugin can't be used and what to do about it.
type Error struct {
	Reason  Reason
	Plugin  string // its name
	Path    string // the file
	Problem string // what is wrong, the cause included
	Hint    string // what to do
	Config  []ConfigError
	Output  string // the last lines that the process printed, if it ran
	Err     error  // the cause, if there is one

	killed bool // somebody else killed the process while it started
}

// Error returns what is wrong and what to do, on one line unless the process printed something.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plugin %q: %s", e.Plugin, e.Problem)
	for _, c := range e.Config {
		fmt.Fprintf(&b, "; %s: %s", orRoot(c.Pointer), c.Message)
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, "; %s", e.Hint)
	}
	if e.Output != "" {
		fmt.Fprintf(&b, "\nits last output:\n%s", e.Output)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// maxProblem bounds, in bytes, what is repeated of an error: a plugin may have written it.
const maxProblem = 1 << 10

// because adds the cause, escaped.
func (e *Error) because(err error) *Error {
	e.Err = err
	e.Problem += ": " + sanitize(err.Error(), maxProblem)
	return e
}

// orRoot names the configuration itself where no member is named.
func orRoot(pointer string) string {
	if pointer == "" {
		return "config"
	}
	return pointer
}
