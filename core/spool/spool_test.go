package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// entriesOf makes one entry of each value, from one peer.
func entriesOf(peer string, values ...string) []spool.Entry {
	entries := make([]spool.Entry, len(values))
	for i, v := range values {
		entries[i] = spool.Entry{Peer: peer, Time: int64(i), Value: []byte(v)}
	}
	return entries
}

// fill makes a spool hold values, and closes it.
func fill(t testing.TB, c spool.Config, values ...string) {
	t.Helper()
	s := open(t, c)
	lane := sourcetest.NewLane(t)
	lane.Limit(0)
	err := s.Run(t.Context(), []record.Lane{}, func(ctx context.Context) error {
		taken, err := s.Append(ctx, entriesOf("peer", values...))
		if err == nil && taken != len(values) {
			err = fmt.Errorf("%d of %d taken", taken, len(values))
		}
		return err
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
}

// drain returns what a spool holds.
func drain(t testing.TB, c spool.Config) []sourcetest.Record {
	t.Helper()
	c.Once = true
	s := open(t, c)
	lane := sourcetest.NewLane(t)
	if err := errors.Join(s.Run(t.Context(), []record.Lane{lane}, nil), s.Close()); err != nil {
		t.Fatal(err)
	}
	return lane.Records()
}

func valuesOf(records []sourcetest.Record) []string {
	values := make([]string, len(records))
	for i, r := range records {
		values[i] = r.Value
	}
	return values
}

// segments returns the names of a spool's segments.
func segments(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, strings.Repeat("[0-9]", 20)))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func damagedBytes(t testing.TB, c spool.Config) int {
	t.Helper()
	var m dto.Metric
	if err := c.Metrics.SpoolDamagedBytes.WithLabelValues(c.Pipeline, c.Name).Write(&m); err != nil {
		t.Fatal(err)
	}
	return int(m.GetCounter().GetValue())
}

func TestWhatWasAcceptedIsReadWithItsOrigin(t *testing.T) {
	c := configOf(t.TempDir())
	s := open(t, c)
	lane := sourcetest.NewLane(t)
	running := sourcetest.Start(t, newSource(s, func(ctx context.Context) error {
		if taken, err := s.Append(ctx, []spool.Entry{
			{Peer: "192.0.2.1:9", Time: 1234, Value: []byte("one")},
			{Peer: "192.0.2.2:9", Time: 1235},
		}); taken != 2 || err != nil {
			t.Errorf("%d taken, %v", taken, err)
		}
		return nil
	}), lane)
	if err := running.Wait(); err != nil {
		t.Fatal(err)
	}
	records := lane.Records()
	if got := valuesOf(records); !slices.Equal(got, []string{"one", ""}) {
		t.Fatalf("read %q", got)
	}
	want := record.Origin{Kind: "socket", Peer: "192.0.2.1:9", Host: "host"}
	if got := records[0].Stream.Origin(); got != want || records[0].Timestamp != 1234 {
		t.Errorf("a record of %+v at %d", got, records[0].Timestamp)
	}
}

func TestRecordsOfTheMostBytesPassAndLongerOnesAreRefused(t *testing.T) {
	c := configOf(t.TempDir())
	long := strings.Repeat("x", c.MaxEntry)
	fill(t, c, "before", long, "behind")
	if got := valuesOf(drain(t, c)); !slices.Equal(got, []string{"before", long, "behind"}) {
		t.Errorf("%d records", len(got))
	}
	s := open(t, c)
	defer s.Close()
	taken, err := s.Enqueue(t.Context(), entriesOf("p", "fits", long+"x", "never looked at"))
	if taken != 1 || !errors.Is(err, spool.ErrTooLarge) {
		t.Errorf("%d taken, %v", taken, err)
	}
}

func TestAFullSpoolRefusesTheNewestOrHasThemWait(t *testing.T) {
	for _, drop := range []bool{true, false} {
		t.Run(fmt.Sprintf("drop_newest %v", drop), func(t *testing.T) {
			c := configOf(t.TempDir())
			c.MaxSize, c.MaxEntry, c.DropNewest = 1<<20, 4<<10, drop
			s := open(t, c)
			lane := sourcetest.NewLane(t)
			lane.Limit(0)
			accepted, finished := make(chan int, 1), make(chan error, 1)
			source := newSource(s, func(ctx context.Context) error {
				n := 0
				for full := false; !full; n++ {
					entry := entriesOf("p", fmt.Sprintf("%04000d", n))
					if !drop { // what waits is seen by the state
						if used := s.Status().Used; used+5000 > c.MaxSize {
							accepted <- n
							_, err := s.Append(ctx, entry)
							finished <- err
							return err
						}
					}
					_, err := s.Append(ctx, entry)
					full = errors.Is(err, spool.ErrFull)
				}
				accepted <- n - 1
				finished <- spool.ErrFull
				<-ctx.Done()
				return nil
			})
			sourcetest.Start(t, source, lane)
			n := <-accepted
			if least := int(c.MaxSize) / (4000 + 100); n < least {
				t.Errorf("full after %d records, there is room for %d", n, least)
			}
			if drop {
				if err := <-finished; !errors.Is(err, spool.ErrFull) {
					t.Error(err)
				}
				if problem := s.Status().Problem; !strings.Contains(problem, "dropped") {
					t.Errorf("the problem is %q", problem)
				}
			} else {
				select {
				case err := <-finished:
					t.Fatalf("a full spool took a record: %v", err)
				default:
				}
			}
			lane.Limit(1 << 30)
			lane.Wait(n)
			lane.Deliver(n)
			sourcetest.Positions{}.Commit(source)
			if !drop {
				if err := <-finished; err != nil {
					t.Error(err)
				}
				lane.Wait(n + 1)
			}
			sourcetest.Eventually(t, func() bool { s := s.Status(); return s.Used < c.MaxSize/4 && s.Problem == "" }, "a spool that is freed: %+v", s.Status())
		})
	}
}

func TestASpoolIsOneAgentsAlone(t *testing.T) {
	c := configOf(t.TempDir())
	s := open(t, c)
	if _, err := spool.Open(c); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second agent has opened it: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, c).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNotTheAgentsOwnIsRefused(t *testing.T) {
	for name, prepare := range map[string]func(dir string) error{
		"a link in its place": func(dir string) error { return os.Symlink(t.TempDir(), dir) },
		"a file in its place": func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"a folder that others write": func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777))
		},
		"a segment that is a link": func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Symlink("/etc/passwd", filepath.Join(dir, strings.Repeat("0", 20))))
		},
		"a segment that others write": func(dir string) error {
			path := filepath.Join(dir, strings.Repeat("0", 20))
			return errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(path, []byte("x"), 0o600), os.Chmod(path, 0o666))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := configOf(filepath.Join(t.TempDir(), "spool"))
			if err := prepare(c.Dir); err != nil {
				t.Fatal(err)
			}
			if s, err := spool.Open(c); err == nil {
				t.Error("it was opened")
				s.Close()
			} else if !strings.Contains(err.Error(), c.Dir) {
				t.Errorf("the error names nothing: %v", err)
			}
		})
	}
}

func TestANewerFormatIsRefused(t *testing.T) {
	c := configOf(t.TempDir())
	fill(t, c, "one")
	path := segments(t, c.Dir)[0]
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[8] = 2
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := spool.Open(c); err == nil || !strings.Contains(err.Error(), "version 2") || !strings.Contains(err.Error(), "run the newer agent") {
		t.Errorf("error: %v", err)
	}
	if left, err := os.ReadFile(path); err != nil || !bytes.Equal(left, content) {
		t.Errorf("the segment was changed: %v", err)
	}
}

func TestALowerMaxEntryIsRefusedWhileLongerRecordsWait(t *testing.T) {
	c := configOf(t.TempDir())
	fill(t, c, strings.Repeat("x", 60_000))
	c.MaxEntry = 1000
	if _, err := spool.Open(c); err == nil || !strings.Contains(err.Error(), "65536") {
		t.Fatalf("error: %v", err)
	}
	c.MaxEntry = 64 << 10
	positions := deliverAll(t, c)
	c.MaxEntry, c.Saved = 1000, positions.Saved()
	if err := open(t, c).Close(); err != nil {
		t.Fatal(err)
	}
}

// deliverAll delivers what a spool holds and returns the positions.
func deliverAll(t testing.TB, c spool.Config) sourcetest.Positions {
	t.Helper()
	c.Once = true
	positions := sourcetest.Positions{}
	for _, saved := range c.Saved {
		positions[saved.Key] = saved.Value
	}
	s := newSource(open(t, c), nil)
	lane := sourcetest.NewLane(t)
	if err := s.Run(t.Context(), []record.Lane{lane}); err != nil {
		t.Fatal(err)
	}
	lane.Deliver(1 << 30)
	positions.Commit(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return positions
}

// A position that is not of this spool repeats records and never skips one.
func TestPositionsThatDoNotFit(t *testing.T) {
	first := configOf(filepath.Join(t.TempDir(), "first"))
	fill(t, first, "a", "b", "c")
	positions := deliverAll(t, first)
	first.Saved = positions.Saved()
	if got := drain(t, first); len(got) != 0 {
		t.Fatalf("delivered records are read again: %q", valuesOf(got))
	}
	t.Run("of another spool", func(t *testing.T) {
		c := configOf(t.TempDir())
		fill(t, c, "A", "B", "C", "D")
		c.Saved = positions.Saved()
		if got := valuesOf(drain(t, c)); strings.Join(got, "") != "ABCD" {
			t.Errorf("read %q", got)
		}
	})
	t.Run("behind the end", func(t *testing.T) {
		c := configOf(filepath.Join(t.TempDir(), "longer"))
		fill(t, c, "a", "b", "c")
		short := c
		short.Dir = filepath.Join(t.TempDir(), "short")
		if err := os.CopyFS(short.Dir, os.DirFS(c.Dir)); err != nil {
			t.Fatal(err)
		}
		fill(t, c, "d", "e")
		short.Saved = deliverAll(t, c).Saved()
		// As many bytes as are missing: the position must not pass them.
		fill(t, short, "f", "g")
		if got := valuesOf(drain(t, short)); strings.Join(got, "") != "fg" {
			t.Errorf("read %q", got)
		}
		if damaged := damagedBytes(t, c); damaged != 0 {
			t.Errorf("%d bytes count as damaged, and all that is missing was delivered", damaged)
		}
	})
	t.Run("nonsense", func(t *testing.T) {
		c := first
		c.Saved = []record.Checkpoint{{Key: c.Key, Value: []byte{1, 2}}}
		if got := valuesOf(drain(t, c)); strings.Join(got, "") != "abc" {
			t.Errorf("read %q", got)
		}
	})
	t.Run("of a newer version", func(t *testing.T) {
		c := first
		c.Saved = []record.Checkpoint{{Key: c.Key, Value: []byte{9, 2}}}
		if s, err := spool.Open(c); err == nil {
			s.Close()
			t.Error("it was opened")
		}
	})
	t.Run("emptied by hand", func(t *testing.T) {
		c := first
		for _, path := range segments(t, c.Dir) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		fill(t, c, "x")
		if got := valuesOf(drain(t, c)); strings.Join(got, "") != "x" {
			t.Errorf("read %q", got)
		}
	})
}

func TestAFailedSyncIsNeverTrusted(t *testing.T) {
	c := configOf(t.TempDir())
	s := open(t, c)
	broken := errors.New("the disk is broken")
	calls, given := 0, map[*os.File]bool{}
	s.SetSync(func(f *os.File) error {
		calls++
		if calls == 2 || calls == 3 {
			given[f] = true
			return broken
		}
		if given[f] {
			t.Errorf("%s was synced again", f.Name())
		}
		return nil
	})
	lane := sourcetest.NewLane(t)
	running := sourcetest.Start(t, newSource(s, func(ctx context.Context) error {
		for _, v := range []string{"a", "b", "c"} {
			if _, err := s.Append(ctx, entriesOf("p", v)); err != nil {
				return err
			}
		}
		return nil
	}), lane)
	sourcetest.Eventually(t, func() bool { return strings.Contains(s.Status().Problem, "broken") }, "a problem")
	if err := running.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := lane.Values(); strings.Join(got, "") != "abc" {
		t.Errorf("read %q", got)
	}
	if problem := s.Status().Problem; problem != "" {
		t.Errorf("the problem stays: %s", problem)
	}
	if len(given) == 0 || len(segments(t, c.Dir)) < 2 {
		t.Errorf("gave up %v, there are %v", given, segments(t, c.Dir))
	}
}

func TestASegmentRemovedByHandIsSeen(t *testing.T) {
	c := configOf(t.TempDir())
	s := open(t, c)
	lane := sourcetest.NewLane(t)
	next := make(chan string)
	sourcetest.Start(t, newSource(s, func(ctx context.Context) error {
		for v := range next {
			if _, err := s.Append(ctx, entriesOf("p", v)); err != nil {
				return err
			}
		}
		return nil
	}), lane)
	next <- "a"
	lane.Wait(1)
	if err := os.Remove(segments(t, c.Dir)[0]); err != nil {
		t.Fatal(err)
	}
	next <- "b"
	lane.Wait(2)
	close(next)
	if len(segments(t, c.Dir)) != 1 {
		t.Error("what came after the removal is in no segment")
	}
}
