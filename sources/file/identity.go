package file

import "fmt"

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

// evidence is what an open file shows of itself.
type evidence struct {
	identity identity
	size     int64
	lastLine int64 // behind the last "\n"; read only when a start at the end is asked for
	// Hashes of the stretches that the saved state names; meaningless when the
	// file is too short to have them.
	head  uint64
	guard uint64
	tail  []byte // the bytes that guard is the hash of
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
	case found.size < saved.position:
		return anew("it is shorter than the saved position: it was truncated")
	case found.head != saved.headHash:
		return anew("its first bytes are others than before: it was rewritten")
	case found.guard != saved.guardHash:
		return anew("the bytes before the saved position are others than before: it was rewritten")
	default:
		return decision{position: saved.position, resumed: true, reason: "it is the file of the saved position"}
	}
}
