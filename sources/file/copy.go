package file

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// logrotate's copytruncate, and scripts that do the same, copy a file and cut it.
// What was not read by then is in the copy alone. The copy is read in the file's
// place, and before the file's new content, where what it shows proves it to be one
// (decideCopy).

const (
	// maxCopyNames is how many names a folder may have in which a copy may have any
	// name. In a larger one its name must be that of the file and more.
	maxCopyNames = 256
	// maxCopyOpens bounds the files that are opened in search of one copy.
	maxCopyOpens = 32
	// copyAttempts bounds the looks at a folder whose files are renamed meanwhile.
	copyAttempts = 3
	// copyWindow is how much before the position is searched for the guard: where it
	// stands twice, lines repeat.
	copyWindow = 1 << 20
	// copyPatience is how long a copy may have a writer after the file was cut:
	// logrotate closes it a moment later.
	copyPatience = time.Second
	// copyQuiet is how long a file that may become a copy is not read after its last
	// change: longer than a sync of a large copy takes before the cut.
	copyQuiet = 5 * time.Second
	// copyMost is how long it is not read in any case: two programs may write the
	// same to both.
	copyMost = time.Minute
)

// copied is an open file that holds a content which is gone elsewhere. It belongs to
// whoever found it.
type copied struct {
	handle  *os.File
	path    string
	root    string
	name    string // below root
	look    look
	id      identity
	found   evidence
	verdict decision
	tracked bool // it is followed already, or has a position of its own
}

// findCopy looks in the folder of a content that is gone for a file that holds it;
// nil if there is none. Of several it is the longest. The caller closes its handle.
func (d *discoverer) findCopy(gone *state) *copied {
	if gone.size == 0 {
		return nil
	}
	for range copyAttempts - 1 {
		if best, renamed := d.bestCopy(gone); best != nil || !renamed {
			return best
		}
	}
	best, _ := d.bestCopy(gone)
	return best
}

// bestCopy looks once. It may have missed a file that was renamed meanwhile.
func (d *discoverer) bestCopy(gone *state) (best *copied, renamed bool) {
	for n, c := range d.copyCandidates(gone) {
		if n == maxCopyOpens {
			break
		}
		found, err := d.inspectCopy(gone, c)
		if errors.Is(err, fs.ErrNotExist) {
			renamed = true
			continue
		}
		if err != nil {
			d.source.log.Debug("file could not be compared with one that was cut", "path", c.real, "error", err)
		}
		if found == nil {
			continue
		}
		if best == nil || found.look.size > best.look.size {
			best, found = found, best
		}
		if found != nil {
			found.handle.Close()
		}
	}
	return best, renamed
}

// copyCandidates returns the files in the folder of a content that may be its copy
// by what a stat says, those with related names first, then the latest.
func (d *discoverer) copyCandidates(gone *state) []candidate {
	dir, base := filepath.Dir(gone.real), filepath.Base(gone.real)
	var stat unix.Stat_t
	entries, err := readDirectory(dir, &stat)
	if err != nil || stat.Dev != gone.identity.device {
		return nil
	}
	var all []candidate
	for _, entry := range entries {
		related := relatedTo(base, entry.Name())
		if !entry.Type().IsRegular() || !related && len(entries) > maxCopyNames {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		if unix.Lstat(path, &stat) != nil {
			continue
		}
		c := candidate{path: gone.path, real: path, root: dir, relative: entry.Name(), look: lookOf(&stat)}
		found := evidence{identity: identity{inode: c.look.inode}, size: c.look.size, changed: c.look.changed, related: related}
		if couldBeCopy(gone, &found) == "" {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		ra, rb := relatedTo(base, a.relative), relatedTo(base, b.relative)
		if ra != rb {
			return cmp.Compare(btoi(rb), btoi(ra))
		}
		return cmp.Compare(b.look.changed, a.look.changed)
	})
	return all
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// inspectCopy opens a candidate and returns it if it is a copy.
func (d *discoverer) inspectCopy(gone *state, c candidate) (*copied, error) {
	handle, err := openBeneath(c.root, c.relative)
	if err != nil {
		return nil, err
	}
	fd := int(handle.Fd())
	found, err := gatherCopy(fd, gone)
	if err != nil {
		handle.Close()
		return nil, err
	}
	found.related = relatedTo(filepath.Base(gone.real), c.relative)
	found.matches = d.source.walker.inspectCreated(c.real) != nil
	found.busy = writersOf(fd) == writersSome
	verdict, ok := decideCopy(gone, found)
	if !ok {
		handle.Close()
		return nil, nil
	}
	l, err := lookAt(fd)
	if err != nil {
		handle.Close()
		return nil, err
	}
	_, known := d.tracked[l.inode]
	return &copied{
		handle: handle, path: c.real, root: c.root, name: c.relative, look: l, id: found.identity, found: found, verdict: verdict,
		tracked: known || len(d.orphans[l.inode]) > 0,
	}, nil
}

// gatherCopy reads what decideCopy needs of an open file.
func gatherCopy(fd int, gone *state) (evidence, error) {
	l, err := lookAt(fd)
	if err != nil {
		return evidence{}, err
	}
	found := evidence{identity: identify(fd, l.inode), size: l.size, modified: l.modified, changed: l.changed}
	if l.size < max(gone.position, int64(gone.headLength)) { // it may be shorter than the content became before the cut
		return found, nil
	}
	if err := found.compare(fd, gone); err != nil || found.guard != gone.guardHash || found.head != gone.headHash {
		return found, err
	}
	found.repeats, err = repeats(fd, found.tail, gone.position)
	return found, err
}

// repeats reports that the bytes before position stand somewhere before too.
func repeats(fd int, tail []byte, position int64) (bool, error) {
	start := max(0, position-copyWindow)
	window := make([]byte, position-start)
	if err := readFull(fd, window, start); err != nil {
		return false, err
	}
	return len(tail) > 0 && bytes.Index(window, tail) < len(window)-len(tail), nil
}

// follow makes the copy a file that is read in place of the content that is gone.
// stream is the content where records of it may be on their way, else nil.
func (c *copied) follow(d *discoverer, gone *state, stream *content) *file {
	named := candidate{path: gone.path, real: gone.real, root: c.root, relative: c.name, look: c.look}
	own := d.source.walker.inspectCreated(c.path)
	if own != nil {
		named.path, named.real = own.path, own.real
	}
	if gone.compression != notCompressed {
		c.verdict = decision{reason: c.verdict.reason + "; what is compressed is read from its beginning"}
	}
	f := newFile(c.handle, c.id, named, d.source.config.Host, &d.source.rules, c.verdict.position)
	f.key = d.source.key(c.id)
	f.rotated = own == nil // one with a name that matches may still be written to: its last line waits for its end
	f.head = c.found.first
	if c.verdict.resumed {
		f.tail = c.found.tail
		if gone.form == f.rules.form() {
			f.situation = gone.situation
		}
		f.content.origin.File = gone.path
		if stream != nil {
			f.content = stream
		}
	}
	if err := f.head.extend(f.fd, c.look.size); err != nil {
		d.source.log.Debug("the first bytes of a copy can't be read", "path", c.path, "error", err)
	}
	return f
}

// rescue looks for a copy of what an earlier run did not deliver of a content that is
// gone, and follows it. It returns the file, nil if there is none, and how many of
// the content's bytes nobody will read.
func (d *discoverer) rescue(gone *state, now time.Time) (f *file, lost int64) {
	c := d.findCopy(gone)
	if c == nil {
		return nil, gone.size - gone.position
	}
	lost = max(0, gone.size-c.look.size)
	if c.tracked {
		c.handle.Close()
		return nil, lost
	}
	f = c.follow(d, gone, nil)
	f.lane = slices.Index(d.load, slices.Min(d.load))
	if before := d.before(gone.path); before != nil {
		f.lane = before.lane
	}
	d.insert(f, now)
	d.left[gone.path] = f
	d.readCopy(c, now)
	return f, lost
}

func (d *discoverer) readCopy(c *copied, now time.Time) {
	if r := d.source.resting[c.id.inode]; r != nil {
		d.lift(r) // it was held
	}
	d.source.decided(c.id, "", Decision{
		Time: now, Path: c.path, What: ReadCopy, Reason: c.verdict.reason, Position: c.verdict.position, Size: c.look.size,
	})
}

// errHeld says that a file may become a copy, and is not followed yet.
var errHeld = errors.New("it may be a copy in the making")

// hold is a file that may be a copy in the making.
type hold struct {
	look  look
	first time.Time
	since time.Time // when look was last another
}

// forgetHeld drops what is known of names that no file which waits has any more.
func (d *discoverer) forgetHeld() {
	for real := range d.held {
		if r := d.beds[real]; r == nil || r.reason != FileWaits {
			delete(d.held, real)
		}
	}
}

// holds reports that a file which was never followed is not to be read yet, because
// so far it equals one that is followed and has its name and more: if that one is
// cut now, it was a copy. A copy by hand ends the wait by being quiet.
func (d *discoverer) holds(handle *os.File, c *candidate, now time.Time) bool {
	if d.source.config.Once {
		return false
	}
	fd := int(handle.Fd())
	l, err := lookAt(fd)
	if err != nil || len(d.orphans[l.inode]) > 0 || d.tracked[l.inode] != nil {
		return false
	}
	original := d.originalOf(c.real)
	if original == nil {
		return d.wakesOriginal(l, c, now)
	}
	equal := original.mayBecome(fd, l.size)
	d.look(original, now) // if it was cut meanwhile, the copy is found here
	if d.tracked[l.inode] != nil {
		delete(d.held, c.real)
		return true
	}
	equal = equal || original.isCut()
	h := d.held[c.real]
	if h == nil && !equal {
		return false
	}
	if h == nil || h.look.inode != l.inode {
		h = &hold{look: l, first: now, since: now}
		d.held[c.real] = h
		d.source.decided(identify(fd, l.inode), "", Decision{
			Time: now, Path: c.path, What: HeldBack, Size: l.size, Reason: "it equals the beginning of " + original.name() + ", as a copy in the making does",
		})
	}
	if h.look != l {
		h.look, h.since = l, now
	}
	waits := now.Sub(h.since) < copyQuiet && now.Sub(h.first) < copyMost && equal
	if !waits {
		delete(d.held, c.real)
	}
	return waits
}

// wakesOriginal opens the file at rest whose copy a file at path may be by its name, so that
// both can be compared. It reports that this one is not to be read before that.
func (d *discoverer) wakesOriginal(l look, c *candidate, now time.Time) bool {
	var original *resting
	for _, name := range originalsOf(c.real) {
		if r := d.beds[name]; r != nil && r.saved != nil {
			original = r
			break
		}
	}
	h := d.held[c.real]
	if h != nil && h.look.inode != l.inode {
		h = nil
	}
	if original == nil || h != nil && now.Sub(h.first) >= copyQuiet {
		delete(d.held, c.real)
		return false
	}
	if h == nil {
		d.held[c.real] = &hold{look: l, first: now, since: now}
		if original.reason != FileWaits {
			d.enqueue([]*resting{d.waiter(original, &original.candidate)})
		}
	}
	d.moving = true
	return true
}

// isCut reports that what was read of the file is gone, and it did not begin anew yet.
func (f *file) isCut() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.truncated
}

// originalOf returns the followed file whose copy a file at path may be by its name.
func (d *discoverer) originalOf(path string) *file {
	for _, name := range originalsOf(path) {
		if f := d.names[name]; f != nil && !f.isClosed() {
			return f
		}
	}
	return nil
}

// originalsOf returns the paths of which a file at path may be a copy by its name, the
// shortest first.
func originalsOf(path string) []string {
	dir, base := filepath.Split(path)
	extension := filepath.Ext(base)
	var all []string
	for i := 1; i < len(base); i++ {
		if base[i] != '.' && base[i] != '-' && base[i] != '_' {
			continue
		}
		for _, name := range []string{base[:i], base[:i] + extension} {
			if relatedTo(name, base) {
				all = append(all, dir+name)
			}
		}
	}
	return all
}

// mayBecome reports that an open file of size bytes has the same beginning as this
// one, and the same bytes before what is read of it.
func (f *file) mayBecome(fd int, size int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.truncated {
		return true // its copy is being looked for
	}
	if f.head.length == 0 {
		return false
	}
	length := int(min(size, int64(f.head.length)))
	var mine, other [headSize]byte
	if readFull(f.fd, mine[:length], 0) != nil || readFull(fd, other[:length], 0) != nil || !bytes.Equal(mine[:length], other[:length]) {
		return false
	}
	if size < f.cursor {
		return true
	}
	var tail [guardSize]byte
	before := tail[:len(f.tail)]
	return readFull(fd, before, f.cursor-int64(len(before))) == nil && bytes.Equal(before, f.tail)
}
