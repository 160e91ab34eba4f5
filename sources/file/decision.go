package file

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// Decision is what a source decided about a file, and why.
type Decision struct {
	Time     time.Time
	Path     string // under which the file was known then
	Identity string // as in [FileInfo]; "": it was not open
	What     What
	Reason   string // for people
	Position int64  // where reading goes on, or everything before is delivered
	Size     int64  // as far as it is known
	Lost     int64  // bytes that nobody will read
}

// What is the kind of a decision.
type What string

// The kinds of decisions.
const (
	Followed  What = "followed"    // it is new: read from its beginning, or from its end with start_at
	Resumed   What = "resumed"     // read on from its saved position
	Reopened  What = "opened"      // it was at rest, or waited for its turn: read on
	ReadAnew  What = "read anew"   // from its beginning, though there was a position
	ReadCopy  What = "copy read"   // it holds what another file held that was cut, and is read in its place
	HeldBack  What = "held back"   // it may be such a copy: not read before that is known
	Holed     What = "hole"        // it begins with bytes that were never written, which are passed over
	Unread    What = "not read"    // reading fails; tried again
	Rests     What = "at rest"     // closed until something is to be read in it
	Ignored   What = "ignored"     // by ignore_older, until it changes
	Deleted   What = "deleted"     // by delete_after_delivery
	Undeleted What = "not deleted" // tried again
	LeftOut   What = "left out"    // a link that leads where this source may not follow
	Renamed   What = "renamed"     // read on under another name
	Released  What = "released"    // it has no name that matches, and all of it is delivered
	Vanished  What = "vanished"    // it is gone, its position is removed
	Unopened  What = "never seen"  // it was gone before it could be opened
	Unusable  What = "not opened"  // or not listed; tried again
	Compacted What = "recognised"  // a compressed file that holds what was delivered before
)

// message and level of the log line of a decision.
func (w What) message() (message string, level slog.Level) {
	switch w {
	case ReadAnew:
		return "file is read from its beginning", slog.LevelWarn
	case ReadCopy:
		return "file was cut, and is read on in its copy", slog.LevelInfo
	case HeldBack:
		return "file may be a copy of one that is followed: it is read when that is known", slog.LevelDebug
	case Deleted:
		return "file is deleted: all of it is delivered", slog.LevelInfo
	case Undeleted:
		return "file is delivered and can't be deleted: tried again", slog.LevelError
	case Holed:
		return "file begins with a hole: it is read from behind that", slog.LevelInfo
	case Unread:
		return "file can't be read: tried again, other files go on", slog.LevelError
	case Reopened:
		return "file is opened again: it is read on", slog.LevelDebug
	case Rests:
		return "file is closed until something is to be read in it", slog.LevelDebug
	case Ignored:
		return "file is left until it changes: ignore_older", slog.LevelInfo
	case LeftOut:
		return "link is not followed: it leads out of the source's folders; symlink_roots may allow it", slog.LevelWarn
	case Renamed:
		return "file was renamed: it is read on", slog.LevelInfo
	case Released:
		return "file is gone and delivered: it is closed", slog.LevelInfo
	case Vanished:
		return "file is gone: its position is removed", slog.LevelInfo
	case Unopened:
		return "file was gone before it could be opened", slog.LevelWarn
	case Unusable:
		return "file or folder can't be read: tried again, others go on", slog.LevelError
	case Compacted:
		return "file is the compressed form of one that is delivered: it is not read", slog.LevelInfo
	default:
		return "file is followed", slog.LevelInfo
	}
}

const (
	// maxTrail is how many decisions are remembered of one file.
	maxTrail = 8
	// maxLoose is how many files are remembered that are not followed.
	maxLoose = 1024
)

// subject is what decisions are remembered by: the file's identity, or while that is
// not known its path.
type subject struct {
	identity identity
	path     string
}

// journal remembers the last decisions about each file that is followed, and about
// some that were. It is safe for concurrent use.
type journal struct {
	mu     sync.Mutex
	trails map[subject]*trail
	loose  []subject // not followed, the oldest first; some may be followed again
}

type trail struct {
	followed  bool
	loose     bool // named in journal.loose
	decisions []Decision
}

func newJournal() *journal { return &journal{trails: make(map[subject]*trail)} }

// of returns the subject's trail, made anew if need be.
func (j *journal) of(s subject) *trail {
	t := j.trails[s]
	if t == nil {
		t = &trail{}
		j.trails[s] = t
	}
	return t
}

func (j *journal) add(s subject, d Decision) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.of(s)
	if len(t.decisions) == maxTrail {
		t.decisions = append(t.decisions[:0], t.decisions[1:]...)
	}
	t.decisions = append(t.decisions, d)
	j.loosen(s, t)
}

// follow keeps what is remembered of the file while it is followed.
func (j *journal) follow(id identity, follows bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := subject{identity: id}
	t := j.of(s)
	t.followed = follows
	j.loosen(s, t)
}

// loosen lets a file that is not followed be forgotten, after others.
func (j *journal) loosen(s subject, t *trail) {
	if t.followed || t.loose {
		return
	}
	t.loose = true
	j.loose = append(j.loose, s)
	for len(j.loose) > maxLoose {
		oldest := j.loose[0]
		j.loose = j.loose[1:]
		if t := j.trails[oldest]; t.followed {
			t.loose = false
		} else {
			delete(j.trails, oldest)
		}
	}
}

// about returns what is remembered of files that had the path, in the order of time.
func (j *journal) about(path string) []Decision {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []Decision
	for _, t := range j.trails {
		if slices.ContainsFunc(t.decisions, func(d Decision) bool { return d.Path == path }) {
			all = append(all, t.decisions...)
		}
	}
	slices.SortStableFunc(all, func(a, b Decision) int { return a.Time.Compare(b.Time) })
	return all
}

// decided remembers a decision, says it in the log, and counts what was lost for
// cause. id is the zero identity while the file's is not known.
func (s *Source) decided(id identity, cause string, d Decision) {
	s.remember(id, d)
	s.metrics.lost(cause, d.Lost)
	s.say(d)
}

// remember keeps a decision that is not worth a line in the log.
func (s *Source) remember(id identity, d Decision) {
	about := subject{identity: id}
	if id == (identity{}) {
		about.path = d.Path
	} else {
		d.Identity = id.text()
	}
	s.journal.add(about, d)
}

func (s *Source) say(d Decision) {
	message, level := d.What.message()
	attributes := []slog.Attr{slog.String("path", d.Path), slog.String("reason", d.Reason)}
	if d.What != Unusable && d.What != Unread && d.What != Undeleted && d.What != LeftOut {
		attributes = append(attributes, slog.Int64("position", d.Position), slog.Int64("size", d.Size))
	}
	if d.Lost > 0 || d.What == ReadAnew {
		attributes = append(attributes, slog.Int64("bytes_lost_unread", d.Lost))
	}
	if d.Lost > 0 && d.What == Vanished {
		message, level = "file is gone and was not read to its end", slog.LevelError
	}
	s.log.LogAttrs(context.Background(), level, message, attributes...)
}

// relatedTo reports that the base name of a file may be that of a copy or a rotated
// form of the file original: its name, or that without its extension, a separator,
// and more.
func relatedTo(original, name string) bool {
	if name == original {
		return false
	}
	stem := original
	if dot := strings.LastIndexByte(original, '.'); dot > 0 {
		stem = original[:dot]
	}
	for _, prefix := range []string{original, stem} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && len(rest) > 1 && strings.IndexByte(".-_", rest[0]) >= 0 {
			return true
		}
	}
	return false
}
