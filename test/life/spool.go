package life

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/barnabas-agent/barnabas/core/checkpoint"
	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/spool"
)

// deliverEvery is the number of rounds after which all is delivered and the
// position stored.
const deliverEvery = 7

// Spool appends one record a round to a spool of small segments, behind the last
// round that it finds, and starts anew every fifth. Every seventh, all of it is
// delivered, its position stored, and what lies before it freed.
func Spool(dir string, rounds int, out io.Writer) error {
	for last := 0; last < rounds; {
		err := withStore(dir, func(store *checkpoint.Store, saved []record.Checkpoint) error {
			held, err := heldBy(store)
			if err != nil {
				return err
			}
			waiting, err := spooledRounds(dir, saved)
			if err != nil {
				return err
			}
			if last = held; len(waiting) > 0 {
				last = max(held, waiting[len(waiting)-1])
			}
			l := newLane()
			return withSpool(dir, saved, l, func(ctx context.Context, s *spool.Spool) error {
				for begin := last; last < min(rounds, begin+5); {
					last++
					if err := appendRound(ctx, s, last, out); err != nil {
						return err
					}
					if last%deliverEvery == 0 {
						if err := l.deliver(last, s, store); err != nil {
							return err
						}
					}
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Intake is Spool without deliveries, and so without positions. It begins once.
func Intake(dir string, rounds int, out io.Writer) error {
	for last := 0; last < rounds; last += 5 {
		err := withSpool(dir, nil, newLane(), func(ctx context.Context, s *spool.Spool) error {
			for round := last + 1; round <= min(rounds, last+5); round++ {
				if err := appendRound(ctx, s, round, out); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// spooledRounds returns the rounds whose records wait in the spool.
func spooledRounds(dir string, saved []record.Checkpoint) ([]int, error) {
	l := newLane()
	if err := withSpool(dir, saved, l, func(context.Context, *spool.Spool) error { return nil }); err != nil {
		return nil, err
	}
	return l.rounds()
}

func appendRound(ctx context.Context, s *spool.Spool, round int, out io.Writer) error {
	if _, err := s.Append(ctx, []spool.Entry{{Peer: "peer", Value: spooled(round)}}); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, round)
	return err
}

// spooled is the record of a round.
func spooled(round int) []byte {
	return []byte(strconv.Itoa(round) + strings.Repeat(" round", 50+round*5))
}

// spoolKey is the key of the spool's position.
const spoolKey = "life\x00spool"

// withStore does something with the positions in dir and what they hold of the spool.
func withStore(dir string, use func(*checkpoint.Store, []record.Checkpoint) error) error {
	store, err := checkpoint.Open(dir, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		return fmt.Errorf("the positions do not open: %w", err)
	}
	defer store.Close()
	saved, err := store.Load(spoolKey)
	if err != nil {
		return err
	}
	return use(store, saved)
}

// withSpool opens the spool as a start of the agent does, lets feed append, and
// closes it.
func withSpool(dir string, saved []record.Checkpoint, l *lane, feed func(context.Context, *spool.Spool) error) error {
	s, err := spool.Open(spool.Config{
		Dir: filepath.Join(dir, "spool"), Kind: "socket", Host: "host", MaxSize: 64 << 10, MaxEntry: 8 << 10,
		Key: spoolKey, Saved: saved, Pipeline: "life", Name: "spool",
		Logger: slog.New(slog.DiscardHandler), Metrics: metric.New(),
	})
	if err != nil {
		return fmt.Errorf("the spool does not open: %w", err)
	}
	err = s.Run(context.Background(), []record.Lane{l}, func(ctx context.Context) error { return feed(ctx, s) })
	return errors.Join(err, s.Close())
}

// CheckSpool reads the spool in dir: it must hold every record that was
// acknowledged and not delivered, in order and whole, and take further ones. As
// many more as that may have been accepted unsaid.
func CheckSpool(dir string, acknowledged, more int) error {
	return withStore(dir, func(_ *checkpoint.Store, saved []record.Checkpoint) error {
		return checkSpool(dir, saved, acknowledged, more, (acknowledged+more)/deliverEvery*deliverEvery)
	})
}

// CheckIntake is CheckSpool where nothing was delivered.
func CheckIntake(dir string, acknowledged, more int) error {
	return checkSpool(dir, nil, acknowledged, more, 0)
}

// checkSpool takes the last round that may have been delivered.
func checkSpool(dir string, saved []record.Checkpoint, acknowledged, more, delivered int) error {
	further := acknowledged + more + 1
	err := withSpool(dir, saved, newLane(), func(ctx context.Context, s *spool.Spool) error {
		_, err := s.Append(ctx, []spool.Entry{{Peer: "peer", Value: spooled(further)}})
		return err
	})
	if err != nil {
		return err
	}
	rounds, err := spooledRounds(dir, saved)
	if err != nil {
		return err
	}
	if len(rounds) == 0 || rounds[len(rounds)-1] != further {
		return fmt.Errorf("the spool takes nothing more: it holds %v", rounds)
	}
	next := delivered + 1
	for _, round := range rounds[:len(rounds)-1] {
		if round > next {
			return fmt.Errorf("the spool holds %v, delivered is at most %d", rounds, delivered)
		}
		next = round + 1
	}
	if next <= acknowledged {
		return fmt.Errorf("the spool holds %v, %d is acknowledged", rounds, acknowledged)
	}
	return nil
}

func newLane() *lane { return &lane{changed: make(chan struct{})} }

// lane is a record.Lane that keeps what it gets.
type lane struct {
	mu      sync.Mutex
	records []string
	last    func() // delivers all records so far
	changed chan struct{}
}

func (l *lane) NewBatch(_ context.Context, size int) (*record.Batch, error) {
	b := &record.Batch{Topics: []string{"life"}}
	b.Value.AddBlock(make([]byte, 0, size))
	return b, nil
}

func (l *lane) Submit(_ context.Context, b *record.Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range b.Rows() {
		l.records = append(l.records, string(b.Value.Bytes(i)))
	}
	end := b.Rows() - 1
	stream, position := b.RunOf(end).Stream, b.Ends[end]
	l.last = func() { stream.Delivered(position) }
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

func (l *lane) Discard(*record.Batch) {}

// rounds returns the rounds of the records, each of which must be whole.
func (l *lane) rounds() ([]int, error) {
	var all []int
	for _, one := range l.records {
		digits, _, _ := strings.Cut(one, " ")
		round, err := strconv.Atoi(digits)
		if err != nil || one != string(spooled(round)) {
			return nil, fmt.Errorf("a record is not whole: %.40q", one)
		}
		all = append(all, round)
	}
	return all, nil
}

// deliver resolves everything up to the record of a round and stores the position.
func (l *lane) deliver(round int, s *spool.Spool, store *checkpoint.Store) error {
	want := string(spooled(round))
	for {
		l.mu.Lock()
		changed, last := l.changed, l.last
		there := len(l.records) > 0 && l.records[len(l.records)-1] == want
		l.mu.Unlock()
		if there {
			last()
			break
		}
		<-changed
	}
	positions := append(s.Checkpoint(nil), record.Checkpoint{Key: roundKey, Value: []byte(strconv.Itoa(round))})
	if err := store.Commit(context.Background(), positions); err != nil {
		return err
	}
	s.Committed()
	return nil
}
