package file

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"
)

// A content that is gone was cut, or overwritten. The discoverer notices it by the
// size, the tailer by the bytes before the cursor, and at the end of what there is
// by the first bytes too. From then on nobody reads the file, until the discoverer
// has looked for a copy of what is gone and begins the file anew.

// gone is what is known of a content that can't be read any more.
type gone struct {
	size     int64 // the largest that was known
	modified int64
	missed   int64 // bytes of further contents, which came and went since
	reason   string
}

// Why a content is gone that was not cut.
const (
	rewritten = "the bytes before the position are others than before: it was rewritten"
	otherHead = "its first bytes are others than before: it was rewritten"
)

// cuts tells the discoverer which files the tailers have found replaced.
type cuts struct {
	wake chan struct{} // of one element, never closed; sent to by put

	mu    sync.Mutex
	files []*file
}

func newCuts() *cuts { return &cuts{wake: make(chan struct{}, 1)} }

// put never waits.
func (c *cuts) put(f *file) {
	c.mu.Lock()
	c.files = append(c.files, f)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *cuts) take() []*file {
	c.mu.Lock()
	defer c.mu.Unlock()
	files := c.files
	c.files = nil
	return files
}

// suspectLocked prepares for a change of the file to size bytes. The discoverer looks
// at the bytes before the cursor itself, so that a size which it takes is one of the
// content that is read, and at the first ones where the tailer will not soon or the
// former are few.
func (f *file) suspectLocked(size int64) {
	if f.truncated || size < f.size {
		return
	}
	compare := f.keptLocked
	if f.size > max(f.cursor, f.scanned) || len(f.tail) < guardSize || f.yielding {
		compare = f.provenLocked
	}
	if same, err := compare(); err == nil && !same {
		f.replacedLocked(rewritten)
		return
	}
	f.unproven = true
}

// measureLocked takes the file's size at this moment.
func (f *file) measureLocked(size int64) {
	switch {
	case size >= f.size:
	case f.truncated:
		f.gone.missed += f.size
	default:
		f.replacedLocked("it is shorter than before: it was truncated")
	}
	f.size = size
}

// replacedLocked gives the content up, with the size that was last taken of it.
func (f *file) replacedLocked(reason string) {
	if !f.truncated {
		f.truncated = true
		f.gone = gone{size: max(f.size, f.scanned, f.cursor), modified: f.seen.modified, reason: reason}
		f.size = 0 // of what came instead
	}
}

// provenLocked compares the first bytes, and those before the cursor, with what
// was read.
func (f *file) provenLocked() (bool, error) {
	var buffer [headSize]byte
	first := buffer[:f.head.length]
	if err := readFull(f.fd, first, 0); err != nil {
		return false, shortIsNil(err)
	}
	if f.head.length > 0 && xxhash.Sum64(first) != f.head.sum() {
		return false, nil
	}
	return f.keptLocked()
}

// keptLocked compares the bytes before the cursor with what was read.
func (f *file) keptLocked() (bool, error) {
	var buffer [guardSize]byte
	before := buffer[:len(f.tail)]
	if err := readFull(f.fd, before, f.cursor-int64(len(before))); err != nil {
		return false, shortIsNil(err)
	}
	return bytes.Equal(before, f.tail), nil
}

// shortIsNil makes the end of a file no error.
func shortIsNil(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// readableLocked reports that the content can be read on. Where less is read than a
// guard takes, the first bytes are looked at before.
func (f *file) readableLocked() bool {
	if len(f.tail) < guardSize && !f.truncated && !f.closed {
		if same, err := f.provenLocked(); err == nil && !same {
			f.replacedLocked(otherHead)
		}
	}
	return !f.truncated && !f.closed
}

// pause ends a turn of reading. It reports whether the content is gone.
func (f *file) pause(result outcome) (cut bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reading = false
	switch {
	case f.truncated || f.closed:
	case result == replaced:
		f.replacedLocked(rewritten)
	case result == drained && f.unproven:
		proved, err := f.provenLocked()
		if err != nil {
			return false, err
		}
		if !proved {
			f.replacedLocked(otherHead)
		} else {
			f.unproven = false
		}
	}
	return f.truncated, nil
}

// past describes the content that is gone, with everything before position read, and
// why it is; nil if there is none, or the tailer still reads.
func (f *file) past() (past *state, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.truncated || f.reading || f.closed {
		return nil, ""
	}
	past = &state{
		identity: f.identity, path: f.path, real: f.real,
		position: f.cursor, size: max(f.gone.size, f.cursor), modified: f.gone.modified,
		headLength: f.head.length, headHash: f.head.sum(),
		guardLength: len(f.tail), guardHash: xxhash.Sum64(f.tail),
		situation: f.situation, form: f.rules.form(),
	}
	if f.packed != nil {
		past.compression = f.packed.kind
	}
	return past, f.gone.reason
}

// restart begins the file anew after its content is gone, to be read behind before,
// and returns how many bytes of contents that came and went were not read. An error
// leaves it as it was.
func (f *file) restart(before *file) (missed int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l, err := lookAt(f.fd)
	if err != nil {
		return 0, err
	}
	var first head // before anything is another: with an error all stays as it is
	if err := first.extend(f.fd, l.size); err != nil {
		return 0, err
	}
	f.measureLocked(l.size)
	missed = f.gone.missed
	f.content = f.newContent(0)
	f.cursor, f.scanned, f.tail, f.head = 0, 0, nil, first
	f.situation, f.held, f.idleAt, f.layout = situation{}, false, 0, unknownLayout
	f.packed, f.sniffed, f.padded = nil, false, false // the tailer closes its decoder
	f.size, f.seen = l.size, l
	f.gone, f.unproven, f.truncated = gone{}, false, false
	f.limit = f.onceLimit(l.size)
	if before != nil {
		f.after = before
	}
	return missed, nil
}

// recut looks at the files that the tailers have found replaced.
func (d *discoverer) recut(now time.Time) {
	for _, f := range d.source.cuts.take() {
		d.look(f, now)
	}
}

// replaced takes the consequences of a content that is gone: what was not read of
// it is read from its copy, where there is one, and the file begins anew behind that.
func (d *discoverer) replaced(f *file, past *state, reason string, now time.Time) {
	c := d.searchCopy(f, past, now)
	if c != nil && c.found.busy && !c.tracked && now.Sub(f.cut) < copyPatience {
		c.handle.Close()
		return // its writer is about to close it: the next look
	}
	lost := max(0, past.size-past.position)
	var before *file
	d.source.checkpoints.Lock() // the positions of both become durable together
	if c != nil {
		lost = max(0, past.size-c.look.size)
	}
	switch {
	case c == nil:
	case c.tracked:
		c.handle.Close()
	default:
		before = c.follow(d, past, f.stream())
		before.after, before.awaited = f.predecessor(), true
	}
	missed, err := f.restart(before)
	if err == nil && before != nil {
		before.lane = f.lane
		d.insert(before, now)
	}
	d.source.checkpoints.Unlock()
	switch {
	case err != nil:
		if before != nil {
			c.handle.Close()
		}
		d.fail(f.name(), err, now)
		return
	case before != nil:
		d.readCopy(c, now)
	}
	f.cut = time.Time{}
	d.begunAnew(f, reason, lost+missed, now)
	d.inboxes[f.lane].notice(f)
}

// searchCopy looks for a copy. For a file that is rewritten again and again, and read
// each time, that is not done each time, unless names came or went in its folder: a
// copy may hold more than was known of the file.
func (d *discoverer) searchCopy(f *file, past *state, now time.Time) *copied {
	if f.cut.IsZero() {
		f.cut = now
	}
	folder, err := changeOf(filepath.Dir(past.real))
	if past.size <= past.position && now.Sub(f.searched) < copyPatience && err == nil && folder == f.folder {
		return nil
	}
	c := d.findCopy(past)
	if c == nil {
		f.searched, f.folder = now, folder
	}
	return c
}

// changeOf returns when names of a folder last came or went, in nanoseconds since the
// Unix epoch.
func changeOf(dir string) (int64, error) {
	var stat unix.Stat_t
	err := unix.Stat(dir, &stat)
	return stat.Mtim.Nano(), err
}

// begunAnew says so, the more seldom the more often it happens.
func (d *discoverer) begunAnew(f *file, reason string, lost int64, now time.Time) {
	decision := Decision{
		Time: now, Path: f.name(), What: ReadAnew, Reason: reason, Size: f.seen.size, Lost: lost,
	}
	if _, report := f.rewrites.failed(now); report {
		d.source.decided(f.identity, lostTruncated, decision)
		return
	}
	d.source.metrics.lost(lostTruncated, lost)
	d.source.remember(f.identity, decision)
}

// stream returns the content that is gone.
func (f *file) stream() *content {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.content
}

// predecessor returns the file that is read before this one.
func (f *file) predecessor() *file {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.after
}
