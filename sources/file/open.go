package file

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/charset"
)

// getVersion is FS_IOC_GETVERSION of linux/fs.h where ioctl numbers have the
// generic layout and a long 8 bytes; elsewhere no filesystem knows the number,
// and the birth time is used.
const getVersion = 0x80087601

var errNotRegular = errors.New("it is not a regular file")

// openBeneath opens the regular file at the relative path below root. Links in
// root are the operator's and are followed, none below it, and it never waits
// for the other end of a FIFO. With Linux before 5.6 only the last component is
// kept from being a link.
func openBeneath(root, relative string) (*os.File, error) {
	path := filepath.Join(root, relative)
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat2(dir, relative, &unix.OpenHow{
		Flags:   flags,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // EPERM: a container's filter of system calls
		fd, err = unix.Openat(dir, relative, flags, 0)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// isShort reports that process or system have no descriptor left.
func isShort(err error) bool { return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) }

// look is what a stat of a file says.
type look struct {
	inode    inode
	size     int64
	modified int64 // nanoseconds since the Unix epoch
	changed  int64 // the inode, which no program can set back; nanoseconds since the Unix epoch
	links    uint64
	regular  bool
}

func lookOf(stat *unix.Stat_t) look {
	return look{
		inode:    inode{device: stat.Dev, number: stat.Ino},
		size:     stat.Size,
		modified: stat.Mtim.Nano(),
		changed:  stat.Ctim.Nano(),
		links:    uint64(stat.Nlink), //nolint:unconvert // narrower on other architectures
		regular:  stat.Mode&unix.S_IFMT == unix.S_IFREG,
	}
}

// lookAt stats an open file.
func lookAt(fd int) (look, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return look{}, fmt.Errorf("stat: %w", err)
	}
	return lookOf(&stat), nil
}

// identify finds out what tells the open file from others that had, or will
// have, its inode number.
func identify(fd int, in inode) identity {
	if version, err := unix.IoctlGetUint32(fd, getVersion); err == nil {
		return identity{inode: in, kind: generationInode, generation: uint64(version)}
	}
	if born := bornAt(fd, ""); born != 0 {
		return identity{inode: in, kind: generationBirth, generation: born}
	}
	return identity{inode: in}
}

// bornAt returns when the file at path, or with "" the open one, was made, in
// nanoseconds since the Unix epoch; 0 if its filesystem doesn't say.
func bornAt(fd int, path string) uint64 {
	var stat unix.Statx_t
	err := unix.Statx(fd, path, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME, &stat)
	if err != nil || stat.Mask&unix.STATX_BTIME == 0 {
		return 0
	}
	return uint64(stat.Btime.Sec)*1e9 + uint64(stat.Btime.Nsec)
}

// gather reads the evidence that decide needs beside the saved state.
func gather(f *os.File, id identity, l look, saved *state) (evidence, error) {
	found := evidence{identity: id, size: l.size, modified: l.modified}
	if saved == nil || l.size < max(saved.position, int64(saved.headLength)) {
		return found, nil
	}
	return found, found.compare(int(f.Fd()), saved)
}

// compare reads the stretches of an open file that a state names.
func (e *evidence) compare(fd int, saved *state) error {
	if err := e.first.extend(fd, int64(saved.headLength)); err != nil {
		return err
	}
	e.head = e.first.sum()
	e.tail = make([]byte, saved.guardLength)
	err := readFull(fd, e.tail, saved.position-int64(saved.guardLength))
	e.guard = xxhash.Sum64(e.tail)
	return err
}

// hashAt hashes length bytes, at most headSize, from offset on.
func hashAt(fd int, offset int64, length int) (uint64, error) {
	var buffer [headSize]byte
	if err := readFull(fd, buffer[:length], offset); err != nil {
		return 0, err
	}
	return xxhash.Sum64(buffer[:length]), nil
}

// readFull fills b from offset on; the file's end before that is io.ErrUnexpectedEOF.
func readFull(fd int, b []byte, offset int64) error {
	for len(b) > 0 {
		n, err := unix.Pread(fd, b, offset)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("read at %d: %w", offset, err)
		case n == 0:
			return io.ErrUnexpectedEOF
		default:
			b, offset = b[n:], offset+int64(n)
		}
	}
	return nil
}

// lastLineEnd returns the position behind the last newline before size.
func (r *rules) lastLineEnd(f *os.File, size int64) (int64, error) {
	layout, err := r.layoutOf(f)
	if err != nil {
		return 0, fmt.Errorf("find the last line: %w", err)
	}
	buffer := make([]byte, 64<<10) // whole code units, as all before end is
	for end := size - size%int64(layout.Unit); end > 0; {
		start := max(0, end-int64(len(buffer)))
		chunk := buffer[:end-start]
		if _, err := f.ReadAt(chunk, start); err != nil {
			return 0, fmt.Errorf("find the last line: %w", err)
		}
		if i := layout.LastIndex(chunk); i >= 0 {
			return start + int64(i+len(layout.Newline)), nil
		}
		end = start
	}
	return 0, nil
}

// layoutOf returns how a file's newlines are written, by its first bytes where
// those decide.
func (r *rules) layoutOf(f *os.File) (*charset.Layout, error) {
	if r.charset == nil {
		return &charset.Layout{Unit: 1, Newline: []byte{'\n'}}, nil
	}
	head := make([]byte, r.charset.HeadSize())
	n, err := pread(int(f.Fd()), head, 0)
	layout, _ := r.charset.Begin(head[:n])
	return r.charset.Layout(layout), err
}
