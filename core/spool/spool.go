// Package spool keeps what sources accept that can't be read again, until it is
// delivered: a log on disk that is appended to in groups, each made durable by
// one sync, and read through the same contract as a file.
//
// A spool is one directory (0700) of segment files (0600). A place in the log is
// a number of bytes since its beginning, frames alone; a segment's name is the
// place of its first frame in 20 digits. A segment is written by the process
// that made it and never touched again: what a crash leaves behind its last
// whole frame stays there, and the next segment begins at that place. So a
// segment ends where the next one begins. All integers are little-endian.
//
//	segment header, 44 bytes
//	  0   8  magic "BARNABS\x00"
//	  8   4  format version, 1
//	 12   8  the spool's id: random, the same in all segments
//	 20   8  marker: random per process, so that no record's content can pass for a frame
//	 28   8  place of the first frame, as in the name
//	 36   4  most bytes of a value
//	 40   4  CRC-32C of bytes 0 to 39
//
//	frame, one per record
//	  0   8  the segment's marker
//	  8   4  length of the body
//	 12   2  length of the peer in it
//	 14   2  zero
//	 16   8  time: milliseconds since the Unix epoch
//	 24   4  CRC-32C of the body
//	 28   4  CRC-32C of bytes 0 to 27
//	 32   n  body: peer, value
//
// # Ownership
//
// One goroutine, in Run, writes: it takes what all callers of Append have left
// in memory, writes it at once, syncs it at once, and wakes them. One goroutine
// per lane reads the durable part of the log, from the page cache, and passes on
// the records of the peers that belong to its lane. What they share is behind mu.
package spool

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/watchdog"
)

// Errors of Append and Enqueue.
var (
	ErrFull     = errors.New("the spool is full")
	ErrTooLarge = errors.New("the record is longer than the spool takes")
	ErrClosed   = errors.New("the spool is closed")
)

// MaxPeer is the most bytes of a peer's name.
const MaxPeer = 255

// Entry is one record as a source accepts it.
type Entry struct {
	Peer  string // who sent it; the records of one peer keep their order
	Time  int64  // milliseconds since the Unix epoch
	Value []byte // borrowed until Append or Enqueue returns
}

// Config is all that a spool needs. All but DropNewest, NoSync, Once and Saved
// must be set.
type Config struct {
	Dir  string // see [Dir]; made where it is missing
	Kind string // of the records' origin
	Host string // of the records' origin

	MaxSize    int64 // bytes on disk; at least 4 entries of the most bytes
	MaxEntry   int   // bytes of a value
	DropNewest bool  // a full spool refuses, instead of having its callers wait
	NoSync     bool  // what is written counts as accepted: a loss of power may take it
	Once       bool  // read what the spool holds at the start of Run, then end

	Key   string              // of the spool's checkpoint; unique in the agent
	Saved []record.Checkpoint // those that are durable; other keys are ignored

	// Pulse makes the pulse of a loop; nil: nobody asks. reader says that the loop may
	// wait for the pipeline to take what was read.
	Pulse func(loop string, reader bool) *watchdog.Pulse

	Pipeline string // label of the metrics
	Name     string // label of the metrics
	Logger   *slog.Logger
	Metrics  *metric.Table
}

// pulse is a new pulse for a loop of this spool.
func (c *Config) pulse(loop string, reader bool) *watchdog.Pulse {
	if c.Pulse == nil {
		return nil
	}
	return c.Pulse(loop, reader)
}

func (c *Config) check() error {
	switch {
	case c.MaxEntry < 1 || c.MaxEntry > maxBody-MaxPeer:
		return fmt.Errorf("records of up to %d bytes can't be kept", c.MaxEntry)
	case c.MaxSize < 4*int64(frameHeader+MaxPeer+c.MaxEntry):
		return fmt.Errorf("max_size of %d bytes is too small for records of up to %d bytes: it must hold four of them", c.MaxSize, c.MaxEntry)
	case c.Key == "":
		return errors.New("its position has no key")
	}
	return nil
}

// folder holds the spools of all sources, below the data directory.
const folder = "spool"

// Dir returns the directory of a source's spool, below dataDir whatever
// pipeline and source are called.
func Dir(dataDir, pipeline, source string) string {
	name := func(s string) string {
		s = url.PathEscape(s)
		if strings.HasPrefix(s, ".") {
			s = "%2E" + s[1:]
		}
		return s
	}
	return filepath.Join(dataDir, folder, name(pipeline), name(source))
}

// Spool is one source's spool. Run is called once; Append and Enqueue wait for
// it. All methods but Run and Close are safe for concurrent use.
type Spool struct {
	config  Config
	log     *slog.Logger
	metrics *meter
	limits  limits
	id      spoolID
	marker  marker               // of the segments that this process makes
	seed    maphash.Seed         // spreads the peers over the lanes
	sync    func(*os.File) error // makes what was written durable

	dir    *os.File  // holds the lock; owned, closed by Close
	active *os.File  // the segment that is written; owned by the writer, then Close; nil: the next group begins one
	wake   chan bool // of one element: something is pending
	start  int64     // where reading begins

	mu        sync.Mutex
	segments  []segment     // in the order of the log; the last one may be active
	end       int64         // of what was taken
	durable   int64         // end of what is accepted: readers go no further
	pending   []byte        // frames that were taken and not given to the writer; they end at end
	changed   chan struct{} // closed and replaced when durable, room or a state changes
	closed    bool          // nothing is taken any more
	finished  bool          // nothing is written any more: readers end at durable
	failing   string        // why writing fails; "" while it does not
	reading   string        // why reading fails; "" while it does not
	full      bool          // somebody found no room since some was made
	readers   []*laneReader // of Run
	committed int64         // the durable position
	told      time.Time     // when the log was told last that the spool is full

	checkpoints sync.Mutex // guards given; taken before mu
	given       int64      // the position that Checkpoint gave out last
}

// limits are what follows from the configuration.
type limits struct {
	segment int64 // bytes from which on a new segment is begun
	pending int   // bytes that may wait for the writer, one frame apart
}

const (
	maxSegment = 64 << 20
	maxPending = 1 << 20
	// segmentsPerSpool makes segments small beside max_size: space is freed by
	// segments, and the newest is never freed.
	segmentsPerSpool = 16
)

func limitsOf(c *Config) limits {
	share := c.MaxSize / segmentsPerSpool
	return limits{
		segment: min(share, maxSegment),
		pending: int(min(share, maxPending)),
	}
}

// Open locks the directory, reads the ends of the log in it, and starts
// nothing. What it finds damaged is set aside and logged. It fails when the
// directory is in use, not the agent's own, or of a newer format.
func Open(config Config) (*Spool, error) {
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	s := &Spool{
		config:  config,
		log:     config.Logger.With("pipeline", config.Pipeline, "source", config.Name),
		metrics: newMeter(config.Metrics, config.Pipeline, config.Name),
		limits:  limitsOf(&config),
		wake:    make(chan bool, 1),
		changed: make(chan struct{}),
		seed:    maphash.MakeSeed(),
		sync:    fdatasync,
	}
	rand.Read(s.marker[:]) // never fails, see its documentation
	var err error
	if s.dir, err = lockDirectory(config.Dir); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("spool: %w", err), s.dir.Close())
	}
	s.metrics.show(s)
	return s, nil
}

// Run passes the records of the spool to the lanes, and makes durable what
// feed, where there is one, appends. It returns when ctx has ended, or when feed
// has and everything is submitted. What feed appended before it returned is
// durable then, unless Run's error says otherwise.
func (s *Spool) Run(ctx context.Context, lanes []record.Lane, feed func(ctx context.Context) error) error {
	if s.config.Once {
		feed = nil
	}
	all, ctx := errgroup.WithContext(ctx)
	s.mu.Lock()
	for i, lane := range lanes {
		s.readers = append(s.readers, newLaneReader(s, lane, i, len(lanes)))
	}
	s.mu.Unlock()
	for _, r := range s.readers {
		all.Go(func() error { return r.run(ctx) })
	}
	all.Go(func() error {
		err := s.serve(ctx, feed)
		s.finish()
		return err
	})
	return all.Wait()
}

// serve writes while feed runs, and then what feed has left.
func (s *Spool) serve(ctx context.Context, feed func(ctx context.Context) error) error {
	if feed == nil {
		return nil
	}
	ended := make(chan struct{})
	written := make(chan error, 1)
	go func() { written <- s.write(ended) }()
	err := feed(ctx)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil
	}
	close(ended)
	return errors.Join(err, <-written)
}

// finish lets the readers end where the log ends.
func (s *Spool) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.finished = true, true
	s.change()
}

// change wakes those who wait for a different state. It is called with mu held.
func (s *Spool) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Close gives the directory up. Call it after Run has returned and the last
// checkpoint was committed.
func (s *Spool) Close() error {
	s.metrics.close()
	s.shrink()
	s.free()
	var err error
	if s.active != nil {
		err = s.active.Close()
	}
	return errors.Join(err, s.dir.Close())
}

// Status is what a spool holds, in bytes.
type Status struct {
	Used    int64 // on disk, and on the way to it
	Limit   int64
	Lag     int64  // accepted and not delivered
	Problem string // why nothing is accepted; "" when all is well
}

// Status returns the spool's state.
func (s *Spool) Status() Status {
	frontier := s.frontier()
	s.mu.Lock()
	defer s.mu.Unlock()
	status := Status{Used: s.usedLocked(), Limit: s.config.MaxSize, Lag: max(0, s.end-frontier), Problem: s.failing}
	if status.Problem == "" {
		status.Problem = s.reading
	}
	if status.Problem == "" && s.full {
		status.Problem = fmt.Sprintf("the spool is full (%d bytes): senders wait until records are delivered", s.config.MaxSize)
		if s.config.DropNewest {
			status.Problem = fmt.Sprintf("the spool is full (%d bytes): records are dropped until others are delivered", s.config.MaxSize)
		}
	}
	return status
}
