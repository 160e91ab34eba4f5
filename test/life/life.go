// Package life lives the lives of the agent's stores, one round after another,
// so that they can be ended at any moment and what is left be judged. Every round
// follows from its number alone.
package life

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/checkpoint"
	"github.com/barnabas-agent/barnabas/core/quarantine"
	"github.com/barnabas-agent/barnabas/core/record"
)

// Acknowledged returns the last round that a life said to be durable, 0 before the first.
func Acknowledged(said string) (round int) {
	for word := range strings.FieldsSeq(said) {
		if n, err := strconv.Atoi(word); err == nil {
			round = n
		}
	}
	return round
}

// Run lives the named life in dir up to a round, and says the number of each
// round that is durable on a line of its own.
func Run(name, dir string, rounds int, out io.Writer) error {
	switch name {
	case "positions":
		return Positions(dir, rounds, out)
	case "quarantine":
		return Quarantine(dir, rounds, out)
	case "spool":
		return Spool(dir, rounds, out)
	case "intake":
		return Intake(dir, rounds, out)
	}
	return fmt.Errorf("no life is called %q", name)
}

// attempts bounds how often a round is committed.
const attempts = 5

// stateDir is made by the first life that needs it.
const stateDir = "state"

// roundKey holds the number of the last round.
const roundKey = "round"

// Positions commits one set of positions a round, continuing behind the round that
// the store holds. Every fourth round the previous copy is old enough to be
// made anew; every ninth, the first attempt meets a full disk.
func Positions(dir string, rounds int, out io.Writer) error {
	now := time.Now()
	dir = filepath.Join(dir, stateDir)
	if err := checkpoint.MakeDirectory(dir); err != nil {
		return err
	}
	store, err := checkpoint.Open(dir, slog.New(slog.DiscardHandler), func() time.Time { return now })
	if err != nil {
		return err
	}
	last, err := heldBy(store)
	if err != nil {
		return err
	}
	for round := last + 1; round <= rounds; round++ {
		now = now.Add(3 * time.Minute)
		if round%9 == 0 {
			if err := fail(store, round); err != nil {
				return err
			}
		}
		// A sync may fail by itself: the next attempt writes a new file.
		for attempt := 1; ; attempt++ {
			if err = store.Commit(context.Background(), changes(round)); err == nil {
				break
			}
			if attempt == attempts {
				return err
			}
		}
		fmt.Fprintln(out, round)
	}
	return store.Close()
}

// fail lets one commit fail by the limit of a file's size, which stands in for a full disk.
func fail(store *checkpoint.Store, round int) error {
	signal.Ignore(unix.SIGXFSZ)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1, Max: before.Max}); err != nil {
		return err
	}
	failed := store.Commit(context.Background(), changes(round))
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		return err
	}
	if failed == nil {
		return errors.New("a commit on a full disk worked")
	}
	return nil
}

// changes are what a round commits: some keys are new, some changed, some removed.
func changes(round int) []record.Checkpoint {
	random := rand.New(rand.NewPCG(uint64(round), 1))
	all := []record.Checkpoint{{Key: roundKey, Value: []byte(strconv.Itoa(round))}}
	for range 1 + random.IntN(12) {
		one := record.Checkpoint{Key: fmt.Sprintf("file/%03d", random.IntN(80))}
		if random.IntN(4) > 0 {
			one.Value = []byte(strings.Repeat(fmt.Sprintf("%d.", round), 1+random.IntN(100)))
		}
		all = append(all, one)
	}
	return all
}

// PositionsAfter is what the store holds after a round, as key and value.
func PositionsAfter(round int) map[string]string {
	held := map[string]string{}
	for n := 1; n <= round; n++ {
		for _, one := range changes(n) {
			if one.Value == nil {
				delete(held, one.Key)
				continue
			}
			held[one.Key] = string(one.Value)
		}
	}
	return held
}

func heldBy(store *checkpoint.Store) (round int, err error) {
	held, err := store.Load(roundKey)
	if err != nil || len(held) == 0 {
		return 0, err
	}
	return strconv.Atoi(string(held[0].Value))
}

// CheckPositions opens the store in dir as a start of the agent does. It must
// hold what some round left, none older than acknowledged and at most as many
// more as may have ended unsaid, and go on from there.
func CheckPositions(dir string, acknowledged, more int) error {
	dir = filepath.Join(dir, stateDir)
	if err := checkpoint.MakeDirectory(dir); err != nil {
		return err
	}
	store, err := checkpoint.Open(dir, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		return fmt.Errorf("the store does not open: %w", err)
	}
	defer store.Close()
	round, err := heldBy(store)
	if err != nil {
		return err
	}
	if store.Lost() {
		return errors.New("the store says that positions are lost")
	}
	if round < acknowledged || round > acknowledged+more {
		return fmt.Errorf("the store holds round %d, the last acknowledged one is %d", round, acknowledged)
	}
	all, err := store.Load("")
	if err != nil {
		return err
	}
	held := map[string]string{}
	for _, one := range all {
		held[one.Key] = string(one.Value)
	}
	if !maps.Equal(held, PositionsAfter(round)) {
		return fmt.Errorf("the store does not hold what round %d left", round)
	}
	if err := store.Commit(context.Background(), changes(round+1)); err != nil {
		return fmt.Errorf("the store takes nothing more: %w", err)
	}
	return nil
}

// sourcePosition is where the record of a round begins.
func sourcePosition(round int) int64 { return int64(round) * 1000 }

// Quarantine puts one record a round into a quarantine and starts anew every fifth.
func Quarantine(dir string, rounds int, out io.Writer) error {
	last, err := highest(dir)
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	for round := last + 1; round <= rounds; {
		store, err := quarantine.Open(quarantine.Dir(dir, "life"), log)
		if err != nil {
			return err
		}
		for range 5 {
			value := []byte(strings.Repeat(strconv.Itoa(round), 10+round*100))
			for attempt := 1; ; attempt++ {
				entry := quarantine.Entry{Pipeline: "life", Code: "test", Topic: "t", Value: quarantine.Field{Bytes: value}, Offset: sourcePosition(round)}
				err := store.Append(context.Background(), []quarantine.Entry{entry})
				if err == nil {
					break
				}
				if attempt == attempts {
					return err
				}
			}
			fmt.Fprintln(out, round)
			if round++; round > rounds {
				break
			}
		}
		if err := store.Close(); err != nil {
			return err
		}
	}
	return nil
}

func highest(dir string) (round int, err error) {
	for entry, err := range quarantine.NewReader(quarantine.Dir(dir, "life")).All(0) {
		var damage *quarantine.Damage
		if err != nil && !errors.As(err, &damage) {
			return 0, err
		}
		if err == nil {
			round = max(round, int(entry.Offset/1000))
		}
	}
	return round, nil
}

// CheckQuarantine reads the quarantine in dir: it must hold every acknowledged
// record, whole, and take further ones. How many more it holds does not matter.
func CheckQuarantine(dir string, acknowledged, _ int) error {
	found := map[int]bool{}
	for entry, err := range quarantine.NewReader(quarantine.Dir(dir, "life")).All(0) {
		var damage *quarantine.Damage
		switch {
		case errors.As(err, &damage) && damage.Torn:
			continue
		case err != nil && acknowledged == 0:
			continue
		}
		if err == nil {
			round := int(entry.Offset / 1000)
			found[round] = string(entry.Value.Bytes) == strings.Repeat(strconv.Itoa(round), 10+round*100)
		}
	}
	for round := 1; round <= acknowledged; round++ {
		if !found[round] {
			return fmt.Errorf("record %d is missing or not whole", round)
		}
	}
	store, err := quarantine.Open(quarantine.Dir(dir, "life"), slog.New(slog.DiscardHandler))
	if err != nil {
		return fmt.Errorf("the quarantine does not open: %w", err)
	}
	defer store.Close()
	return store.Append(context.Background(), []quarantine.Entry{{Pipeline: "life", Code: "test", Topic: "t", Offset: sourcePosition(acknowledged + 1)}})
}
