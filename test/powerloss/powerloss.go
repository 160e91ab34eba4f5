// Package powerloss shows what a program leaves on disk when the power goes at
// any moment. It runs the program under strace, which writes down every change of
// a folder and every sync, and then makes, for each step of it, folders as a loss
// of power could leave them.
//
// The disk it plays is as weak as POSIX allows: what was written and not synced
// is there, or not, or in part, sector by sector, the new length without the
// content included; a name that was made, moved or removed is as before until
// its folder is synced, also when the file itself is. What was in a sync that failed is
// lost for good, whatever a later sync says. (LazyFS, VLDB 17(11), and ALICE,
// OSDI 2014, do the same below a mounted file system and from a trace.)
package powerloss

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// RequireVariable, set to 1, makes a machine without strace a failure instead of a skip.
const RequireVariable = "BARNABAS_REQUIRE_STRACE"

// Recording is what a program did to a folder.
type Recording struct {
	disk  *disk // as it was before the first call
	calls []call
}

// Record runs the command to its end and returns what it did to the folder dir,
// which it must not change by other means than plain writes. Arguments of strace
// may be added, for instance to let calls fail.
func Record(t testing.TB, dir string, command *exec.Cmd, strace ...string) *Recording {
	t.Helper()
	tool, err := exec.LookPath("strace")
	switch {
	case err == nil:
	case os.Getenv(RequireVariable) == "1":
		t.Fatalf("%s=1, but %v", RequireVariable, err)
	default:
		t.Skipf("NOT TESTED AGAINST LOSS OF POWER: %v (%s=1 makes this a failure)", err, RequireVariable)
	}
	before, err := newDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	arguments := append([]string{"-f", "-qq", "-o", trace, "-xx", "-s", "67108864", "-e", "signal=none", "-e", "trace=" + strings.Join(traced(), ",")}, strace...)
	traced := exec.CommandContext(ctx, tool, append(append(arguments, command.Path), command.Args[1:]...)...)
	traced.Dir, traced.Env, traced.Stderr = command.Dir, command.Env, os.Stderr
	if err := traced.Run(); err != nil {
		t.Fatalf("%s under strace: %v", command.Path, err)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	calls, err := parseTrace(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return &Recording{disk: before, calls: calls}
}

// Moment is a point in a program's life.
type Moment struct {
	Step int
	Said string // what the program had written to its standard output
	disk *disk
}

// Each calls f for the moment after each call that changed or synced something.
func (r *Recording) Each(f func(*Moment) error) error {
	m := &Moment{disk: r.disk}
	for n := range r.calls {
		c := &r.calls[n]
		relevant, err := m.disk.apply(c)
		if err != nil {
			return fmt.Errorf("call %d, %s: %w", n, c.text, err)
		}
		if c.name == "write" && c.arguments[0] == "1" && c.result > 0 {
			content, err := unquote(c.arguments[1])
			if err != nil {
				return err
			}
			m.Said += string(content[:c.result])
			relevant = true
		}
		if !relevant {
			continue
		}
		m.Step++
		if err := f(m); err != nil {
			return fmt.Errorf("step %d, behind %s: %w", m.Step, c.text, err)
		}
	}
	if m.Step == 0 {
		return errors.New("the program changed nothing")
	}
	return nil
}

// Lose writes into the empty folder target what is left when the power goes now.
func (m *Moment) Lose(random *rand.Rand, target string) error {
	return m.disk.lose(random, target)
}

// Dirty reports whether something would be lost.
func (m *Moment) Dirty() bool { return m.disk.dirty() }
