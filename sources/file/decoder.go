package file

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// compression is how the bytes of a file are compressed.
type compression uint8

const (
	notCompressed compression = iota
	gzipped
	zstandard
	compressionCount
)

const (
	// magicSize is how many of a file's first bytes show how it is compressed.
	magicSize = 4
	// maxWindow is the most that a frame of zstd may have its decoder remember: what
	// every decoder should accept (RFC 8878, 3.1.1.1.2), and the most that zstd uses
	// up to level 19.
	maxWindow = 8 << 20
	// inputSize is the room for compressed bytes of each open decoder.
	inputSize = 32 << 10
	// outputSize is the same for what they give.
	outputSize = 64 << 10
)

// sniff tells the compression by a file's first bytes; certain is false if more of
// them could change that.
func sniff(head []byte) (kind compression, certain bool) {
	for _, known := range []struct {
		magic string
		kind  compression
	}{{"\x1f\x8b\x08", gzipped}, {"\x28\xb5\x2f\xfd", zstandard}} {
		n := min(len(known.magic), len(head))
		if n > 0 && known.magic[:n] == string(head[:n]) {
			return known.kind, n == len(known.magic)
		}
	}
	return notCompressed, len(head) > 0
}

// moment says why a decoder stops for a moment.
type moment uint8

const (
	produced moment = iota // bytes were decoded
	starved                // all input is used
	between                // a member or frame has ended, or none has begun
	finished               // all is decoded: the input has ended
	failed                 // it can't go on
)

// refusedError says that what is compressed is sound but asks for more than the
// agent gives.
type refusedError struct{ reason string }

func (e *refusedError) Error() string { return e.reason }

var errStopped = errors.New("decoder stopped")

// decoder decompresses what it is fed, as a coroutine: it stops where it has no
// input, and goes on with more. It is closed by the tailer that opened it.
type decoder struct {
	resume func() (moment, bool)
	stop   func()

	// Both sides use these, and never at once.
	input    []byte     // not used yet
	ended    bool       // no more follows
	output   []byte     // where to decode to
	decoded  int        // bytes of output, with produced
	err      error      // with failed
	begun    bool       // a member has, and has not ended
	fed      int64      // bytes that input ever had
	buffered func() int // of input, not used yet
}

func newDecoder(kind compression) *decoder {
	d := &decoder{output: make([]byte, outputSize)}
	decode := d.gzip
	if kind == zstandard {
		decode = d.zstd
	}
	d.resume, d.stop = iter.Pull(func(yield func(moment) bool) {
		source := bufio.NewReaderSize(&feed{d, yield}, inputSize)
		d.buffered = source.Buffered
		err := decode(source, yield)
		switch {
		case errors.Is(err, errStopped):
		case err == nil:
			yield(finished)
		default:
			d.err = err
			yield(failed)
		}
	})
	return d
}

// used is how many bytes of input the members so far and the begun one have used.
func (d *decoder) used() int64 { return d.fed - int64(len(d.input)) - int64(d.buffered()) }

// feed gives the decoder its input.
type feed struct {
	decoder *decoder
	yield   func(moment) bool
}

func (f *feed) Read(p []byte) (int, error) {
	d := f.decoder
	for len(d.input) == 0 {
		if d.ended {
			return 0, io.EOF
		}
		if !f.yield(starved) {
			return 0, errStopped
		}
	}
	n := copy(p, d.input)
	d.input = d.input[n:]
	return n, nil
}

// more says whether another member begins. What pads the last one is passed over.
func (d *decoder) more(source *bufio.Reader, yield func(moment) bool) (bool, error) {
	d.begun = false
	if !yield(between) {
		return false, errStopped
	}
	for {
		next, err := source.Peek(1)
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, err
		case next[0] != 0:
			d.begun = true
			return true, nil
		}
		source.Discard(1) // can't fail: it was there
	}
}

// copy decodes one member.
func (d *decoder) copy(from io.Reader, yield func(moment) bool) error {
	for {
		n, err := from.Read(d.output)
		if n > 0 {
			if d.decoded = n; !yield(produced) {
				return errStopped
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (d *decoder) gzip(source *bufio.Reader, yield func(moment) bool) error {
	var z gzip.Reader
	for {
		if more, err := d.more(source, yield); !more {
			return err
		}
		if err := z.Reset(source); err != nil {
			return noEOF(err)
		}
		z.Multistream(false)
		if err := d.copy(&z, yield); err != nil {
			return err
		}
	}
}

func (d *decoder) zstd(source *bufio.Reader, yield func(moment) bool) error {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	for {
		if more, err := d.more(source, yield); !more {
			return err
		}
		frame, err := beginFrame(source)
		if err != nil {
			return noEOF(err)
		}
		if frame == nil {
			continue // one to skip
		}
		if err := z.Reset(frame); err != nil {
			return noEOF(err)
		}
		if err := d.copy(z, yield); err != nil {
			return err
		}
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// frame reads one frame of zstd to its end and no further (RFC 8878, 3.1.1).
type frame struct {
	source   *bufio.Reader
	ready    []byte // of headers, read and not given yet
	left     int    // bytes of the block, or of the checksum
	last     bool   // no block follows
	checksum bool   // stands behind the last block
	header   [3]byte
}

// beginFrame returns nil for a frame that is there to be skipped, which it does.
func beginFrame(source *bufio.Reader) (*frame, error) {
	start, err := source.Peek(5)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(start[1:4], []byte("\x2a\x4d\x18")) && start[0]&0xf0 == 0x50 {
		if start, err = source.Peek(8); err != nil {
			return nil, err
		}
		size := int(start[4]) | int(start[5])<<8 | int(start[6])<<16 | int(start[7])<<24
		_, err = source.Discard(8 + size)
		return nil, err
	}
	descriptor := start[4]
	length := 5 + [4]int{0, 1, 2, 4}[descriptor&3] + [4]int{0, 2, 4, 8}[descriptor>>6]
	if descriptor&0x20 == 0 { // a window, else its size is that of the content
		length++
	} else if descriptor>>6 == 0 {
		length++
	}
	if start, err = source.Peek(length); err != nil {
		return nil, err
	}
	var h zstd.Header
	if err := h.Decode(start); err != nil {
		return nil, err
	}
	size := h.WindowSize
	if h.SingleSegment {
		size = h.FrameContentSize
	}
	switch {
	case size > maxWindow:
		return nil, &refusedError{fmt.Sprintf("zstd asks for a window of %d bytes, %d is the most: compress it without --long and --ultra", size, maxWindow)}
	case h.DictionaryID != 0:
		return nil, &refusedError{fmt.Sprintf("zstd asks for dictionary %d, and there is none: compress it without", h.DictionaryID)}
	}
	f := &frame{source: source, checksum: h.HasCheckSum, ready: bytes.Clone(start)}
	_, err = source.Discard(length)
	return f, err
}

func (f *frame) Read(p []byte) (int, error) {
	for len(f.ready) == 0 && f.left == 0 {
		switch {
		case !f.last:
			if _, err := io.ReadFull(f.source, f.header[:]); err != nil {
				return 0, noEOF(err)
			}
			f.ready = f.header[:]
			f.last = f.header[0]&1 != 0
			f.left = int(f.header[0])>>3 | int(f.header[1])<<5 | int(f.header[2])<<13
			if f.header[0]>>1&3 == 1 { // one byte, so often
				f.left = 1
			}
		case f.checksum:
			f.checksum, f.left = false, 4
		default:
			return 0, io.EOF
		}
	}
	if len(f.ready) > 0 {
		n := copy(p, f.ready)
		f.ready = f.ready[n:]
		return n, nil
	}
	n, err := f.source.Read(p[:min(len(p), f.left)])
	f.left -= n
	if err != nil {
		err = noEOF(err)
	}
	return n, err
}
