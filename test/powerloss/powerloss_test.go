package powerloss

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/barnabas-agent/barnabas/test/life"
)

const (
	// lifeVariable makes the test binary live a life: NAME.
	lifeVariable = "BARNABAS_TEST_LIFE"
	// lossesVariable is how many losses are played at each step; CI plays 2.
	lossesVariable = "BARNABAS_TEST_LOSSES"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(lifeVariable); name != "" {
		rounds, err := strconv.Atoi(os.Args[2])
		if err == nil {
			err = life.Run(name, os.Args[1], rounds, os.Stdout)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// memory returns a folder that is quick to write to.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "barnabas-power-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func lifeOf(name, dir string, rounds int) *exec.Cmd {
	c := exec.Command(os.Args[0], dir, strconv.Itoa(rounds))
	c.Env = append(os.Environ(), lifeVariable+"="+name, "GORACE=atexit_sleep_ms=0")
	return c
}

func losses(t *testing.T) int {
	t.Helper()
	text := os.Getenv(lossesVariable)
	if text == "" {
		return 2
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// survive plays losses of power at every step of a recording, and lets check
// judge each.
func survive(t *testing.T, r *Recording, check func(dir string, acknowledged, more int) error) {
	t.Helper()
	work, played, steps := memory(t), 0, 0
	err := r.Each(func(m *Moment) error {
		steps = m.Step
		for seed := range losses(t) {
			dir := filepath.Join(work, fmt.Sprint("loss-", played))
			played++
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			if err := m.Lose(rand.New(rand.NewPCG(uint64(seed), uint64(m.Step))), dir); err != nil {
				return err
			}
			if err := check(dir, life.Acknowledged(m.Said), 1); err != nil {
				return fmt.Errorf("seed %d: %w", seed, err)
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			if !m.Dirty() {
				break
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d losses of power at %d steps", played, steps)
}

func TestPositionsSurviveTheLossOfPowerAtEveryStep(t *testing.T) {
	dir := memory(t)
	first := Record(t, dir, lifeOf("positions", dir, 40))
	second := Record(t, dir, lifeOf("positions", dir, 80)) // begins with a whole store
	t.Run("from nothing", func(t *testing.T) { t.Parallel(); survive(t, first, life.CheckPositions) })
	t.Run("from a store", func(t *testing.T) {
		t.Parallel()
		survive(t, second, func(dir string, acknowledged, more int) error {
			return life.CheckPositions(dir, max(40, acknowledged), more)
		})
	})
}

// A sync that fails loses what it was for, and the next one says nothing about it.
func TestPositionsSurviveTheLossOfPowerAfterSyncsThatFailed(t *testing.T) {
	for _, inject := range []string{"fdatasync:error=EIO:when=9..400+11", "fdatasync:error=EIO:when=10..400+11", "fsync:error=EIO:when=7..400+9"} {
		t.Run(inject, func(t *testing.T) {
			t.Parallel()
			dir := memory(t)
			survive(t, Record(t, dir, lifeOf("positions", dir, 40), "-e", "inject="+inject), life.CheckPositions)
		})
	}
}

func TestQuarantineSurvivesTheLossOfPowerAtEveryStep(t *testing.T) {
	dir := memory(t)
	survive(t, Record(t, dir, lifeOf("quarantine", dir, 23)), life.CheckQuarantine)
}

// A record that is put in again after a sync that failed is there, once or twice.
func TestQuarantineSurvivesTheLossOfPowerAfterSyncsThatFailed(t *testing.T) {
	for _, inject := range []string{"fsync:error=EIO:when=4..200+5", "fsync:error=EIO:when=5..200+4"} {
		t.Run(inject, func(t *testing.T) {
			t.Parallel()
			dir := memory(t)
			survive(t, Record(t, dir, lifeOf("quarantine", dir, 23), "-e", "inject="+inject), life.CheckQuarantine)
		})
	}
}

func TestSpoolSurvivesTheLossOfPowerAtEveryStep(t *testing.T) {
	dir := memory(t)
	survive(t, Record(t, dir, lifeOf("spool", dir, 37)), life.CheckSpool)
}

// A sync that fails proves nothing of what was written before it: the records of
// the group are written again, elsewhere.
func TestSpoolSurvivesTheLossOfPowerAfterSyncsThatFailed(t *testing.T) {
	for _, inject := range []string{"when=2..400+3", "when=3..400+4", "when=5..400+2"} {
		t.Run(inject, func(t *testing.T) {
			t.Parallel()
			dir := memory(t)
			survive(t, Record(t, dir, lifeOf("intake", dir, 16), "-e", "inject=fdatasync:error=EIO:"+inject), life.CheckIntake)
		})
	}
}
