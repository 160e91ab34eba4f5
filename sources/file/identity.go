package file

import (
	"bytes"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"
)

const (
	// headSize is how many of a file's first bytes identify it.
	headSize = 1024
	// guardSize is how many bytes before a position prove that the position still fits.
	guardSize = 64
)

// generationKind says what tells the successive files of one inode number apart.
type generationKind uint8

const (
	generationNone  generationKind = iota // the filesystem gives neither
	generationInode                       // FS_IOC_GETVERSION: changes with each reuse of an inode
	generationBirth                       // statx: nanoseconds of the inode's birth
)

// inode names a file while it exists.
type inode struct {
	device uint64
	number uint64
}

// identity names a file beyond its deletion, as far as the filesystem can tell.
type identity struct {
	inode
	kind       generationKind
	generation uint64
}

// String is the part of a checkpoint's key that names the file.
func (i identity) String() string {
	return fmt.Sprintf("%x-%x-%d%x", i.device, i.number, i.kind, i.generation)
}

// head is the hash of a file's first bytes as they were first seen. It grows with
// the file to headSize bytes.
type head struct {
	length int
	digest xxhash.Digest
}

func (h *head) sum() uint64 {
	if h.length == 0 {
		return xxhash.Sum64(nil)
	}
	return h.digest.Sum64()
}

func (h *head) add(b []byte) {
	if h.length == 0 {
		h.digest.Reset()
	}
	h.length += len(b)
	h.digest.Write(b) //nolint:errcheck // never fails
}

// extend reads what a file of size bytes has more of it. NULs at the end may be room
// that is reserved and still to be written: they are none of it before others follow.
func (h *head) extend(fd int, size int64) error {
	more := int(min(headSize, size)) - h.length
	if more <= 0 {
		return nil
	}
	var buffer [headSize]byte
	if err := readFull(fd, buffer[:more], int64(h.length)); err != nil {
		return err
	}
	h.add(bytes.TrimRight(buffer[:more], "\x00"))
	return nil
}

// evidence is what an open file shows of itself.
type evidence struct {
	identity identity
	size     int64
	modified int64 // nanoseconds since the Unix epoch
	lastLine int64 // behind the last "\n"; read only when a start at the end is asked for
	// Hashes of the stretches that the saved state names; meaningless when the
	// file is too short to have them.
	head  uint64
	guard uint64
	first head   // what head is the sum of
	tail  []byte // the bytes that guard is the hash of

	// Of a file that may be a copy:
	changed int64 // the inode, nanoseconds since the Unix epoch
	related bool  // its name is that of the other file, and more
	matches bool  // it is one that is read anyway
	busy    bool  // somebody has it open for writing
	repeats bool  // the bytes before the position stand somewhere before too
}

// decision says where reading of a file begins.
type decision struct {
	position int64
	resumed  bool   // from the saved position
	reason   string // for people
}

// decide compares an open file with the state saved for its inode, nil if there
// is none. Any doubt begins the file anew: duplicates, never a gap. fromEnd
// places a file without state behind its last complete line.
func decide(saved *state, found evidence, fromEnd bool) decision {
	anew := func(reason string) decision { return decision{reason: reason} }
	switch {
	case saved == nil && fromEnd:
		return decision{position: found.lastLine, reason: `start_at is "end"`}
	case saved == nil:
		return anew("it is new")
	case saved.identity.inode != found.identity.inode:
		return anew("it is another inode")
	case saved.identity != found.identity:
		return anew("its inode was reused for another file")
	case found.size < saved.size:
		return anew("it is shorter than before: it was truncated")
	case found.head != saved.headHash:
		return anew("its first bytes are others than before: it was rewritten")
	case found.guard != saved.guardHash:
		return anew("the bytes before the saved position are others than before: it was rewritten")
	case found.size == saved.size && saved.modified != 0 && found.modified != saved.modified:
		return decision{position: saved.position, resumed: true, reason: "it was touched, and its first bytes and those before the saved position are as before"}
	default:
		return decision{position: saved.position, resumed: true, reason: "it is the file of the saved position"}
	}
}

// copySlack is how much later than its copy a file may have been changed: lines
// that were written between the copy and the cut, which a sync of the copy delays.
const copySlack = time.Minute

// couldBeCopy says why a file is no copy of a content that is gone, by what a stat
// says of it; "" if it may be one.
func couldBeCopy(gone *state, found *evidence) string {
	switch {
	case found.identity.device != gone.identity.device:
		return "it is on another filesystem"
	case found.identity.inode == gone.identity.inode:
		return "it is the file itself"
	case found.size < max(gone.position, int64(gone.headLength)):
		return "it is shorter than what is known of the content"
	case found.changed < gone.modified-int64(copySlack):
		return "it is older than the content"
	default:
		return ""
	}
}

// decideCopy compares a file with the state of a content that was cut. A copy is
// read from the content's position on; with any doubt of that whole, or if it is
// read anyway not in the content's place: duplicates, never a gap. A file that is
// not certain to be a copy of something that was followed, and is not read anyway,
// is none.
func decideCopy(gone *state, found evidence) (verdict decision, isCopy bool) {
	none := func(reason string) (decision, bool) { return decision{reason: reason}, false }
	whole := func(reason string) (decision, bool) { return decision{reason: reason}, true }
	reason := couldBeCopy(gone, &found)
	switch {
	case reason != "":
		return none(reason)
	case gone.headLength == 0 || int64(gone.headLength) < min(headSize, gone.position):
		return none("too little is known of the content")
	case found.head != gone.headHash:
		return none("its first bytes are others")
	case found.guard != gone.guardHash:
		return none("the bytes before the position are others")
	case gone.headLength < headSize && !found.related:
		return none("its content is short, and its name another")
	case found.repeats:
		return whole("it may be a copy of the file that was cut: its lines repeat, so it is read whole")
	case found.matches && (!found.related || found.busy || found.size < gone.size):
		return whole("it may be a copy of the file that was cut: in doubt it is read whole")
	default:
		return decision{position: gone.position, resumed: true, reason: "it is a copy of the file that was cut"}, true
	}
}
