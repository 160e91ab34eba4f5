//go:build crashpoints

package crashpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// The points of this process; they are read from the environment before anything passes one.
var (
	crash = fromEnvironment(Variable)
	stop  = fromEnvironment(StopVariable)
)

type point struct {
	name   string
	number int64
	passed atomic.Int64
}

func fromEnvironment(variable string) *point {
	text := os.Getenv(variable)
	name, number, counted := strings.Cut(text, ":")
	p := &point{name: name, number: 1}
	if counted {
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n < 1 {
			panic(variable + ": the number of passages is not a number above 0: " + text)
		}
		p.number = n
	}
	return p
}

// reached says that name is this point, passed for the time that it is armed for.
func (p *point) reached(name string) bool {
	return name == p.name && p.passed.Add(1) == p.number
}

// At ends the process with SIGKILL, or stops the goroutine, if it is armed for this passage of the point.
func At(name string) {
	switch {
	case crash.reached(name):
		// Nothing is flushed and nothing deferred runs, as in a crash.
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the signal arrives
	case stop.reached(name):
		select {}
	}
}
