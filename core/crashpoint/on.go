//go:build crashpoints

package crashpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// armed is the point of this process; it is read from the environment before
// anything passes a point.
var armed = fromEnvironment(os.Getenv(Variable))

type point struct {
	name   string
	number int64
	passed atomic.Int64
}

func fromEnvironment(text string) *point {
	name, number, counted := strings.Cut(text, ":")
	p := &point{name: name, number: 1}
	if counted {
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n < 1 {
			panic(Variable + ": the number of passages is not a number above 0: " + text)
		}
		p.number = n
	}
	return p
}

// At ends the process with SIGKILL if it is armed for this passage of the point.
func At(name string) {
	if name != armed.name || armed.passed.Add(1) != armed.number {
		return
	}
	// Nothing is flushed and nothing deferred runs, as in a crash.
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // until the signal arrives
}
