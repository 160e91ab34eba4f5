package spool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// smallDisk mounts a file system of 2 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", dir).CombinedOutput()
	if err != nil {
		if os.Getenv("BARNABAS_REQUIRE_MOUNTS") != "" {
			t.Fatalf("BARNABAS_REQUIRE_MOUNTS is set: mount: %v: %s", err, out)
		}
		t.Skipf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// diskRig is a spool on a small disk with a file that takes half of it.
func diskRig(t *testing.T, drop bool) (s *spool.Spool, makeRoom func()) {
	t.Helper()
	disk := smallDisk(t)
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	c := configOf(filepath.Join(disk, "spool"))
	c.DropNewest = drop
	return open(t, c), func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
}

func awaitFullDisk(t *testing.T, s *spool.Spool) {
	t.Helper()
	sourcetest.Eventually(t, func() bool { return strings.Contains(s.Status().Problem, "no space left") }, "a problem")
}

// A full disk is a full spool: callers wait, and go on by themselves once there is
// room. Nothing of it is lost or repeated.
func TestAFullDiskHasCallersWait(t *testing.T) {
	s, makeRoom := diskRig(t, false)
	var accepted []string
	lane := sourcetest.NewLane(t)
	running := sourcetest.Start(t, newSource(s, func(ctx context.Context) error {
		for n := range 1500 {
			value := fmt.Sprintf("%01000d", n)
			if _, err := s.Append(ctx, entriesOf("p", value)); err != nil {
				return err
			}
			accepted = append(accepted, value)
		}
		return nil
	}), lane)
	awaitFullDisk(t, s)
	makeRoom()
	if err := running.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := lane.Values(); len(accepted) != 1500 || !slices.Equal(got, accepted) {
		t.Errorf("%d records read, %d accepted", len(got), len(accepted))
	}
	if problem := s.Status().Problem; problem != "" {
		t.Errorf("the problem stays: %s", problem)
	}
}

// Where the newest are dropped they are refused at once; what was taken before is
// kept in memory, and written once there is room.
func TestAFullDiskRefusesTheNewest(t *testing.T) {
	s, makeRoom := diskRig(t, true)
	var taken []string
	refused, goOn := make(chan bool), make(chan bool)
	lane := sourcetest.NewLane(t)
	running := sourcetest.Start(t, newSource(s, func(ctx context.Context) error {
		for n := 0; ; n++ {
			value := fmt.Sprintf("%01000d", n)
			_, err := s.Enqueue(ctx, entriesOf("p", value))
			if errors.Is(err, spool.ErrFull) {
				break
			}
			if err != nil {
				return err
			}
			taken = append(taken, value)
		}
		close(refused)
		<-goOn
		taken = append(taken, "last")
		_, err := s.Append(ctx, entriesOf("p", "last"))
		return err
	}), lane)
	<-refused
	awaitFullDisk(t, s)
	makeRoom()
	sourcetest.Eventually(t, func() bool { return s.Status().Problem == "" }, "no problem")
	close(goOn)
	if err := running.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := lane.Values(); !slices.Equal(got, taken) {
		t.Errorf("%d records read, %d taken", len(got), len(taken))
	}
}

// A stop on a disk that stays full comes in time, and says what was not kept.
func TestAStopOnAFullDisk(t *testing.T) {
	s, _ := diskRig(t, false)
	source := newSource(s, func(ctx context.Context) error {
		for {
			if _, err := s.Enqueue(ctx, entriesOf("p", strings.Repeat("x", 1000))); err != nil {
				return err
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- source.Run(ctx, nil) }()
	awaitFullDisk(t, s)
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "given up") || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("Run: %v", err)
	}
	if err := source.Close(); err != nil {
		t.Error(err)
	}
}
