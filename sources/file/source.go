// Package file is the source that tails files: it finds them by globs, follows
// them through rotation, and resumes from what was delivered.
//
// One goroutine discovers files and looks for changes: polling is the truth,
// inotify only makes it sooner. One goroutine per lane reads the lane's files in
// turn, straight into the memory of batches; there is no buffer in between, so the
// next unread line's offset is all that reading has to remember.
//
// A file is known by device, inode, the inode's generation, its first bytes and
// the bytes before its position ([decide]). Any doubt reads it anew: duplicates,
// never a gap. A rewrite can't be told from the file it replaces that is not shorter,
// and keeps the first 1024 bytes and the 64 before the position.
//
// # The life of a file
//
//  1. A scan finds a name (walk, listing), or an event tells of one (hints); the
//     file is opened without following links (open).
//  2. Its saved state, if there is one, is compared with it (identity, state), and
//     it goes to the lane of the file that had its name before, or the emptiest.
//  3. Each poll looks at it (discover); when there may be something to read, its
//     tailer reads complete lines (tailer, reader). A line without an end waits.
//  4. It loses its name. It is read on by its descriptor, and its last line is
//     complete once nobody writes to it (writers).
//  5. It has no name that matches, all of it is delivered, and nobody writes to it:
//     it is closed and forgotten, its position with it once the inode is gone.
//
// A truncation or rewrite begins a new content of the same file (replace); what was
// not read of the old one is read from its copy, where one is found (copy). A saved
// position whose file no pattern finds is looked after in the file's old folder
// (orphan): renamed, it is read on, and only a complete look at the folder proves it
// gone. What is decided is logged and remembered in one place (decision).
//
// # Ownership
//
// The discoverer owns names and the decision to close, the tailer the cursor and
// the descriptor, Checkpoint what it gave out. A content that is gone is nobody's to
// read until the discoverer has begun the file anew. What they share of a file is behind
// the file's lock, which is never held while waiting for another. A delivery moves
// its content's position and nothing else, so a late one can't touch a new content.
package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/barnabas-agent/barnabas/core/charset"
	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/watchdog"
)

// StartAt says where files begin that exist at the source's very first start: one
// of which no checkpoint was committed before. A crash before the first commit
// leaves the next start the first.
type StartAt uint8

const (
	Beginning StartAt = iota
	End               // behind the last complete line
)

// Config is all that a source needs. Include, MaxLine, PollInterval, Logger,
// Metrics and Now must be set.
type Config struct {
	Pipeline string // label of the metrics
	Name     string // label of the metrics
	Host     string // host name in the records' origin

	Include        []string // absolute globs, with **
	Exclude        []string // globs; relative ones match from the filesystem's root on
	StartAt        StartAt
	Format         Format
	Charset        *charset.Charset // of lines; nil: UTF-8, whose bytes are the records' own
	MaxLine        int              // bytes of a message, as UTF-8 and without the line's end
	OnLongLine     LongLine         // what becomes of longer ones
	Multiline      *Multiline       // nil: each message is a record
	Decompress     bool             // gzip and zstd, by content
	PollInterval   time.Duration
	FollowSymlinks bool          // into the folders before an include's first wildcard, and SymlinkRoots
	SymlinkRoots   []string      // absolute
	IgnoreOlder    time.Duration // a file that was not changed for longer is left until it is; 0: none
	CloseIdle      time.Duration // a file in which nothing happens for so long gives its descriptor back; 0: never
	MaxOpenFiles   int           // descriptors of the source's files; more take turns; 0: no bound
	// DeleteAfterDelivery removes a file once all of it is delivered, that is durable,
	// and nobody has it open for writing. It needs Committed to be called.
	DeleteAfterDelivery bool
	Once                bool // read what the files hold at the start of Run, then end

	KeyPrefix string              // of the source's checkpoints; unique in the agent
	Saved     []record.Checkpoint // those that are durable, all of them
	Lost      bool                // saved positions were lost: nothing is known of earlier starts

	// Pulse makes the pulse of a loop; nil: nobody asks. reader says that the loop may
	// wait for the pipeline to take what was read.
	Pulse func(loop string, reader bool) *watchdog.Pulse

	Logger  *slog.Logger
	Metrics *metric.Table
	Now     func() time.Time
}

// pulse is a new pulse for a loop of this source.
func (c *Config) pulse(loop string, reader bool) *watchdog.Pulse {
	if c.Pulse == nil {
		return nil
	}
	return c.Pulse(loop, reader)
}

func (c *Config) check() error {
	switch {
	case len(c.Include) == 0:
		return errors.New("include names no files")
	case c.MaxLine < 1:
		return fmt.Errorf("max_line of %d bytes: at least 1 is needed", c.MaxLine)
	case c.Format != Lines && c.Charset != nil:
		return errors.New("what container runtimes write is UTF-8: no other encoding is read")
	case c.PollInterval <= 0:
		return fmt.Errorf("poll_interval of %v: it must be positive", c.PollInterval)
	}
	if c.Multiline != nil {
		return c.Multiline.check()
	}
	return nil
}

// FileStatus is how far one tracked file is read and delivered, in bytes.
type FileStatus struct {
	Path      string `json:"path"`
	Size      int64  `json:"size"`
	Read      int64  `json:"read"`
	Delivered int64  `json:"delivered"`
	Lag       int64  `json:"lag"`     // not delivered yet; of a file that is ignored 0
	Rotated   bool   `json:"rotated"` // it lost the name under which it was found
	State     string `json:"state"`   // one of those below
}

// The values of FileStatus.State.
const (
	FileOpen    = "open"
	FileAtRest  = "at rest" // closed until it changes
	FileWaits   = "waiting" // for its turn of max_open_files
	FileIgnored = "ignored" // by ignore_older, until it changes
)

// Source tails the files that its globs name. Run is called once; the other
// methods may be called concurrently with it and after it.
type Source struct {
	config  Config
	rules   rules
	log     *slog.Logger
	metrics *meter
	walker  *walker
	saved   map[inode][]*state // until the discoverer takes them over
	first   bool               // no earlier start is known of
	cuts    *cuts
	journal *journal

	mu      sync.Mutex
	files   map[*file]struct{}  // tracked; changed by the discoverer
	resting map[inode]*resting  // not open; changed by the discoverer
	problem string              // why files are not opened; "": they are
	settled []record.Checkpoint // of files no longer tracked, not yet given out
	ready   bool                // the first scan is done, so that the start may be remembered
	told    bool                // Checkpoint gave out that the source has started

	checkpoints sync.Mutex    // held by Checkpoint, orders its callers
	given       atomic.Uint64 // checkpoints so far
	durable     atomic.Uint64 // those of them that are known to be durable
}

// New checks the configuration and the saved positions; it reads no file and
// starts nothing. A position that a newer agent wrote is an error.
func New(config Config) (*Source, error) {
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("file source: %w", err)
	}
	w, err := newWalker(config.Include, config.Exclude, config.FollowSymlinks, config.SymlinkRoots)
	if err != nil {
		return nil, fmt.Errorf("file source: %w", err)
	}
	s := &Source{
		config:  config,
		rules:   rulesOf(&config),
		log:     config.Logger,
		metrics: newMeter(config.Metrics, config.Pipeline, config.Name),
		walker:  w,
		saved:   make(map[inode][]*state),
		cuts:    newCuts(),
		journal: newJournal(),
		first:   !config.Lost && len(config.Saved) == 0,
		told:    slices.ContainsFunc(config.Saved, func(c record.Checkpoint) bool { return c.Key == config.KeyPrefix+startedKey }),
		files:   make(map[*file]struct{}),
		resting: make(map[inode]*resting),
	}
	if err := s.load(config.Saved); err != nil {
		return nil, fmt.Errorf("file source: %w", err)
	}
	return s, nil
}

// load decodes the saved positions. One that is malformed is as good as none: its
// file is read anew, and what is known of the source's earlier start stays.
func (s *Source) load(saved []record.Checkpoint) error {
	for _, c := range saved {
		if !strings.HasPrefix(c.Key, s.config.KeyPrefix+fileKey) {
			continue
		}
		st, err := decodeState(c.Value)
		var newer *newerStateError
		if errors.As(err, &newer) {
			return newer
		}
		if err != nil || s.key(st.identity) != c.Key {
			s.log.Error("saved position is not usable: its file is read anew", "key", c.Key, "error", err)
			continue
		}
		s.saved[st.identity.inode] = append(s.saved[st.identity.inode], st)
	}
	return nil
}

// Run reads until ctx ends, or in once mode until the files are read, and
// returns when all its goroutines have ended. Files stay open for Checkpoint
// until Close.
func (s *Source) Run(ctx context.Context, lanes []record.Lane) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := newDiscoverer(s, len(lanes))
	readers, readersCtx := errgroup.WithContext(ctx)
	for i, lane := range lanes {
		t := newTailer(s, lane, d.inboxes[i], d.room)
		t.pulse = s.config.pulse(fmt.Sprintf("tailer %d", i), true)
		readers.Go(func() error { return t.run(readersCtx) })
	}
	discovered := make(chan error, 1)
	go func() { discovered <- d.run(readersCtx) }()
	err := readers.Wait() // cancels readersCtx, so the discoverer ends too
	return errors.Join(err, <-discovered)
}

// Checkpoint appends the positions that changed since the last call. What it
// returned once is not repeated: the caller keeps it until it is durable.
func (s *Source) Checkpoint(dst []record.Checkpoint) []record.Checkpoint {
	s.checkpoints.Lock()
	defer s.checkpoints.Unlock()
	count := s.given.Add(1)
	s.mu.Lock()
	files := make([]*file, 0, len(s.files))
	for f := range s.files {
		files = append(files, f)
	}
	dst = append(dst, s.settled...)
	s.settled = nil
	if s.ready && !s.told {
		s.told = true
		dst = append(dst, record.Checkpoint{Key: s.config.KeyPrefix + startedKey, Value: []byte{stateVersion}})
	}
	s.mu.Unlock()
	for _, f := range files {
		if st, changed := f.checkpoint(count); changed {
			dst = append(dst, record.Checkpoint{Key: f.key, Value: st.encode()})
		}
	}
	return dst
}

// Status returns all tracked files, ordered by path.
func (s *Source) Status() []FileStatus {
	s.mu.Lock()
	all := make([]FileStatus, 0, len(s.files))
	for f := range s.files {
		all = append(all, f.status())
	}
	for _, r := range s.resting {
		all = append(all, r.status())
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b FileStatus) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// Problem says why files are not opened that should be, "" when all are.
func (s *Source) Problem() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problem
}

func (s *Source) setProblem(problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem = problem
}

// Close closes the files that Run left open. Call it after Run has returned and
// the last Checkpoint was taken.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.files {
		f.close()
		delete(s.files, f)
		s.metrics.open.Dec()
	}
	s.metrics.setLag(0)
	return nil
}

func (s *Source) key(id identity) string { return s.config.KeyPrefix + fileKey + id.String() }

// maxBlock is the largest room that is ever asked for: one line of the most
// bytes, with its end.
func (s *Source) maxBlock() int { return s.config.MaxLine + 1 }

// track begins to follow a file.
func (s *Source) track(f *file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[f] = struct{}{}
	s.metrics.open.Inc()
	s.journal.follow(f.identity, true)
}

// untrack ends it; the file is closed.
func (s *Source) untrack(f *file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.untrackLocked(f)
}

// untrackAs ends it with a last checkpoint, behind which none of the file itself comes;
// nil removes it.
func (s *Source) untrackAs(f *file, last *state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settleLocked(f.identity, last)
	s.untrackLocked(f)
}

func (s *Source) untrackLocked(f *file) {
	delete(s.files, f)
	s.metrics.open.Dec()
	s.journal.follow(f.identity, false)
}

// settle gives out the last checkpoint of a file that is not tracked; nil removes it.
func (s *Source) settle(id identity, last *state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settleLocked(id, last)
}

func (s *Source) settleLocked(id identity, last *state) {
	c := record.Checkpoint{Key: s.key(id)}
	if last != nil {
		c.Value = last.encode()
	}
	s.settled = append(s.settled, c)
}

// markReady lets the source's start be remembered.
func (s *Source) markReady() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = true
}
