package spool_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

func TestAnIdleSpoolIsSmall(t *testing.T) {
	c := configOf(t.TempDir())
	c.MaxSize = 1 << 30
	s := open(t, c)
	var synced sync.Map // names of segments
	s.SetSync(func(f *os.File) error {
		synced.Store(f.Name(), true)
		return f.Sync()
	})
	lane := sourcetest.NewLane(t)
	done := make(chan bool)
	source := newSource(s, func(ctx context.Context) error {
		for range 100 {
			if _, err := s.Append(ctx, entriesOf("p", strings.Repeat("x", 60_000))); err != nil {
				return err
			}
		}
		<-done
		return nil
	})
	sourcetest.Start(t, source, lane)
	lane.Wait(100)
	lane.Deliver(100)
	sourcetest.Positions{}.Commit(source)
	sourcetest.Eventually(t, func() bool { return s.Status().Used < 1000 }, "a small spool, it has %d bytes", s.Status().Used)
	sourcetest.Eventually(t, func() bool { return len(removedButOpen(t, c.Dir)) == 0 }, "no removed segment open, which would keep its space")
	// It alone says now which spool this is, and where it goes on.
	if _, ok := synced.Load(segments(t, c.Dir)[0]); !ok {
		t.Error("the segment that is left is not durable")
	}
	close(done)
}

// removedButOpen returns the files of a folder that this process has open, and that have no name.
func removedButOpen(t testing.TB, folder string) (found []string) {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name()))
		if err == nil && strings.HasPrefix(target, folder) && strings.HasSuffix(target, " (deleted)") {
			found = append(found, target)
		}
	}
	return found
}

// An empty segment that can't be replaced for a while is replaced later.
func TestAnEmptySegmentIsReplacedOnceItCanBe(t *testing.T) {
	c := configOf(t.TempDir())
	c.MaxSize = 1 << 20
	c.Saved = deliverAllAndShrink(t, c).Saved()
	name := segments(t, c.Dir)[0]
	s := open(t, c)
	if err := errors.Join(os.Rename(name, name+".away"), os.MkdirAll(filepath.Join(name, "in-the-way"), 0o700)); err != nil {
		t.Fatal(err)
	}
	lane := sourcetest.NewLane(t)
	source := newSource(s, func(ctx context.Context) error {
		_, err := s.Append(ctx, entriesOf("p", "x"))
		return err
	})
	sourcetest.Start(t, source, lane)
	sourcetest.Eventually(t, func() bool { return s.Status().Problem != "" }, "the failure is known")
	if err := errors.Join(os.RemoveAll(name), os.Rename(name+".away", name)); err != nil {
		t.Fatal(err)
	}
	lane.Wait(1)
}

// deliverAllAndShrink writes and delivers, so that an empty segment is left.
func deliverAllAndShrink(t testing.TB, c spool.Config) sourcetest.Positions {
	t.Helper()
	s := open(t, c)
	lane := sourcetest.NewLane(t)
	source := newSource(s, func(ctx context.Context) error {
		_, err := s.Append(ctx, entriesOf("p", strings.Repeat("x", 60_000)))
		return err
	})
	if err := source.Run(t.Context(), []record.Lane{lane}); err != nil {
		t.Fatal(err)
	}
	lane.Deliver(len(lane.Records()))
	positions := sourcetest.Positions{}
	positions.Commit(source)
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range segments(t, c.Dir) {
		if info, err := os.Stat(path); err != nil || info.Size() != spool.SegmentHeader {
			t.Fatalf("%s has %d bytes, expected a header, %v", path, info.Size(), err)
		}
	}
	return positions
}

// A spool whose records are all delivered is small after a stop, too, and goes on
// where it was: its places are never used twice.
func TestADeliveredSpoolGoesOnWhereItWas(t *testing.T) {
	c := configOf(t.TempDir())
	c.MaxSize = 1 << 30
	var warned strings.Builder
	c.Logger = slog.New(slog.NewTextHandler(&warned, &slog.HandlerOptions{Level: slog.LevelWarn}))
	positions, end := sourcetest.Positions{}, int64(0)
	for range 3 {
		c.Saved = positions.Saved()
		s := open(t, c)
		lane := sourcetest.NewLane(t)
		source := newSource(s, func(ctx context.Context) error {
			for range 40 {
				if _, err := s.Append(ctx, entriesOf("p", strings.Repeat("x", 60_000))); err != nil {
					return err
				}
			}
			return nil
		})
		if err := source.Run(t.Context(), []record.Lane{lane}); err != nil {
			t.Fatal(err)
		}
		if first := lane.Records()[0].Offset; len(lane.Records()) != 40 || first != end {
			t.Fatalf("%d records from %d on, expected %d", len(lane.Records()), first, end)
		}
		end = lane.Records()[39].End
		lane.Deliver(40)
		positions.Commit(source)
		if err := source.Close(); err != nil {
			t.Fatal(err)
		}
		for _, path := range segments(t, c.Dir) {
			if info, err := os.Stat(path); err != nil || info.Size() > 1000 {
				t.Errorf("%s has %d bytes, %v", path, info.Size(), err)
			}
		}
	}
	if warned.Len() > 0 {
		t.Errorf("it has warned: %s", warned.String())
	}
}
