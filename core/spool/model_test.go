package spool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// model is what a spool must hold: per peer, the values that were accepted, and
// how many of them are delivered with a durable position.
type model struct {
	t         *rapid.T
	outer     *testing.T
	config    spool.Config
	positions sourcetest.Positions

	accepted map[string][]string
	durable  map[string]int // of accepted: delivered before the last commit

	// of the run that goes on
	source    *source
	requests  chan []spool.Entry
	answers   chan int
	lanes     []*sourcetest.Lane
	ended     chan error
	cancel    context.CancelFunc
	delivered map[string]int
	resolved  map[*sourcetest.Lane]int // of its records
	number    int
}

func (m *model) start() {
	m.config.Saved = m.positions.Saved()
	s, err := spool.Open(m.config)
	if err != nil {
		m.t.Fatal(err)
	}
	m.requests, m.answers, m.ended = make(chan []spool.Entry), make(chan int), make(chan error, 1)
	m.source = newSource(s, func(ctx context.Context) error {
		for {
			select {
			case entries := <-m.requests:
				taken, err := s.Append(ctx, entries)
				if err != nil && !errors.Is(err, spool.ErrFull) {
					return err
				}
				m.answers <- taken
			case <-ctx.Done():
				return nil
			}
		}
	})
	m.lanes = []*sourcetest.Lane{sourcetest.NewLane(m.outer), sourcetest.NewLane(m.outer)}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.delivered, m.resolved = map[string]int{}, map[*sourcetest.Lane]int{}
	source, ended, lanes := m.source, m.ended, []record.Lane{m.lanes[0], m.lanes[1]}
	go func() { ended <- source.Run(ctx, lanes) }()
}

// crash ends a run without a last commit, and checks what it has read.
func (m *model) crash() {
	m.settle()
	m.cancel()
	if err := errors.Join(<-m.ended, m.source.Close()); err != nil {
		m.t.Fatal(err)
	}
	m.check()
}

// settle waits until all that was accepted is read.
func (m *model) settle() {
	sourcetest.Eventually(m.outer, func() bool {
		last := m.last()
		for peer, values := range m.accepted {
			if m.durable[peer] < len(values) && last[peer] != values[len(values)-1] {
				return false
			}
		}
		return true
	}, "the newest record of each peer")
}

// last returns the newest value read of each peer.
func (m *model) last() map[string]string {
	last := map[string]string{}
	for _, lane := range m.lanes {
		for _, r := range lane.Records() {
			last[r.Stream.Origin().Peer] = r.Value
		}
	}
	return last
}

// check compares the records of a run with the model: per peer they are what was
// accepted, in order, from a place on that is not behind what is durable.
func (m *model) check() {
	read := map[string][]string{}
	for _, lane := range m.lanes {
		for _, r := range lane.Records() {
			peer := r.Stream.Origin().Peer
			read[peer] = append(read[peer], r.Value)
		}
	}
	for peer, values := range m.accepted {
		from := len(values) - len(read[peer])
		if from < 0 || from > m.durable[peer] {
			m.t.Fatalf("%s: %d records read of %d accepted, %d are durably delivered", peer, len(read[peer]), len(values), m.durable[peer])
		}
		for i, v := range read[peer] {
			if v != values[from+i] {
				m.t.Fatalf("%s: record %d is %.20q, expected %.20q", peer, from+i, v, values[from+i])
			}
		}
	}
}

func (m *model) append(random *rand.Rand) {
	var entries []spool.Entry
	for range 1 + random.IntN(40) {
		m.number++
		entries = append(entries, spool.Entry{
			Peer:  fmt.Sprint("peer ", random.IntN(5)),
			Value: []byte(fmt.Sprint(m.number, strings.Repeat("x", random.IntN(3000)))),
		})
	}
	used := m.source.Status().Used // or less, by what is freed meanwhile
	m.requests <- entries
	taken := <-m.answers
	if taken < len(entries) && used+3100 < m.config.MaxSize/2 {
		m.t.Fatalf("%d of %d taken with %d bytes of %d in use", taken, len(entries), used, m.config.MaxSize)
	}
	for _, e := range entries[:taken] {
		m.accepted[e.Peer] = append(m.accepted[e.Peer], string(e.Value))
	}
}

// deliver resolves some records of a lane.
func (m *model) deliver(lane *sourcetest.Lane, n int) {
	records := lane.Records()
	from := m.resolved[lane]
	to := min(len(records), from+n)
	lane.Deliver(to - from)
	m.resolved[lane] = to
	for _, r := range records[from:to] {
		m.delivered[r.Stream.Origin().Peer]++
	}
}

func (m *model) commit() {
	before := map[string]int{}
	for peer, n := range m.delivered {
		before[peer] = n
	}
	m.positions.Commit(m.source)
	// Of a run that began somewhere, so many more are delivered.
	for peer, n := range before {
		first := len(m.accepted[peer])
		for _, lane := range m.lanes {
			for _, r := range lane.Records() {
				if r.Stream.Origin().Peer == peer {
					first = min(first, indexOf(m.accepted[peer], r.Value))
				}
			}
		}
		m.durable[peer] = max(m.durable[peer], first+n)
	}
}

func indexOf(values []string, v string) int {
	for i := range values {
		if values[i] == v {
			return i
		}
	}
	return len(values)
}

// Whatever the order of appends, deliveries, commits and crashes: everything that
// was accepted is read, in the order of its peer, and what is delivered and
// committed may come again but hides nothing.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(memory(), "barnabas-spool-")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		c := configOf(dir)
		c.MaxSize, c.MaxEntry, c.DropNewest = 512<<10, 4<<10, true
		c.NoSync = rapid.Bool().Draw(rt, "no sync")
		m := &model{t: rt, outer: t, config: c, positions: sourcetest.Positions{}, accepted: map[string][]string{}, durable: map[string]int{}}
		m.start()
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch action := random.IntN(20); {
			case action < 9:
				m.append(random)
			case action < 14:
				m.deliver(m.lanes[random.IntN(2)], random.IntN(100))
			case action < 18:
				m.commit()
			default:
				m.crash()
				m.start()
			}
		}
		m.crash()
	})
}

// memory is a folder that is quick to write to, where there is one.
func memory() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}
