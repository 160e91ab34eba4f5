package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
)

// Layout of a bbolt file, version 2, in the machine's byte order
// (go.etcd.io/bbolt, internal/common/{page,meta,inode}.go).
const (
	pageSize         = 4096
	pageHeaderSize   = 16
	elementSize      = 16
	bucketHeaderSize = 16
	metaSize         = 64
	boltMagic        = 0xED0CDAED
	boltVersion      = 2
	branchPage       = 0x01
	leafPage         = 0x02
	bucketElement    = 0x01
	maxDepth         = 32 // of pages; bbolt needs 4 for a billion keys
)

// contents is what a positions file holds.
type contents struct {
	pairs []pair
	lost  bool
}

// newerFormatError refuses a file that a newer agent wrote.
type newerFormatError struct{ format string }

func (e *newerFormatError) Error() string {
	return fmt.Sprintf("has format %q, this agent knows %s: start the agent version that wrote it, or a newer one", e.format, formatVersion)
}

// parse reads the image of a positions file and checks every byte that it uses.
// It takes any bytes, ends on any of them, and returns either all that was
// committed or an error.
func parse(image []byte) (contents, error) {
	root, err := newestRoot(image)
	if err != nil {
		return contents{}, err
	}
	p := parser{image: image, seen: make([]bool, len(image)/pageSize), buckets: make(map[string][]pair)}
	if err := p.tree(root, "", 0); err != nil {
		return contents{}, err
	}
	return p.contents()
}

// newestRoot returns the root page of the newer of the two meta pages that is whole.
func newestRoot(image []byte) (uint64, error) {
	var root, newest uint64
	found := false
	for start := 0; start <= pageSize; start += pageSize {
		if len(image) < start+pageHeaderSize+metaSize {
			break
		}
		meta := image[start+pageHeaderSize:][:metaSize]
		hash := fnv.New64a()
		hash.Write(meta[:56])
		if binary.NativeEndian.Uint32(meta) != boltMagic || binary.NativeEndian.Uint32(meta[4:]) != boltVersion ||
			binary.NativeEndian.Uint32(meta[8:]) != pageSize || binary.NativeEndian.Uint64(meta[56:]) != hash.Sum64() {
			continue
		}
		if transaction := binary.NativeEndian.Uint64(meta[48:]); !found || transaction > newest {
			root, newest, found = binary.NativeEndian.Uint64(meta[16:]), transaction, true
		}
	}
	if !found {
		return 0, errors.New("neither of its two headers is whole")
	}
	return root, nil
}

// parser walks the pages that a root refers to, each at most once.
type parser struct {
	image   []byte
	seen    []bool
	buckets map[string][]pair
}

// tree reads the page id and all below it into bucket; "" is the root, which holds buckets alone.
func (p *parser) tree(id uint64, bucket string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("page %d is nested too deeply", id)
	}
	page, err := p.page(id)
	if err != nil {
		return err
	}
	if binary.NativeEndian.Uint64(page) != id {
		return fmt.Errorf("page %d says that it is another", id)
	}
	switch binary.NativeEndian.Uint16(page[8:]) {
	case branchPage:
		return p.branch(page, bucket, depth)
	case leafPage:
		return p.leaf(page, bucket, depth)
	default:
		return fmt.Errorf("page %d is of no known kind", id)
	}
}

// page returns the bytes of page id with those it overflows into.
func (p *parser) page(id uint64) ([]byte, error) {
	pages := uint64(len(p.seen))
	if id < 2 || id >= pages {
		return nil, fmt.Errorf("page %d is outside the file", id)
	}
	overflow := uint64(binary.NativeEndian.Uint32(p.image[id*pageSize+12:]))
	if overflow >= pages-id {
		return nil, fmt.Errorf("page %d ends outside the file", id)
	}
	for n := id; n <= id+overflow; n++ {
		if p.seen[n] {
			return nil, fmt.Errorf("page %d is used twice", n)
		}
		p.seen[n] = true
	}
	return p.image[id*pageSize : (id+overflow+1)*pageSize], nil
}

func (p *parser) branch(page []byte, bucket string, depth int) error {
	for i := range int(binary.NativeEndian.Uint16(page[10:])) {
		element, err := span(page, uint64(pageHeaderSize+i*elementSize), elementSize)
		if err != nil {
			return err
		}
		if err := p.tree(binary.NativeEndian.Uint64(element[8:]), bucket, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) leaf(page []byte, bucket string, depth int) error {
	for i := range int(binary.NativeEndian.Uint16(page[10:])) {
		start := uint64(pageHeaderSize + i*elementSize)
		element, err := span(page, start, elementSize)
		if err != nil {
			return err
		}
		keyStart := start + uint64(binary.NativeEndian.Uint32(element[4:]))
		keySize := uint64(binary.NativeEndian.Uint32(element[8:]))
		key, err := span(page, keyStart, keySize)
		if err != nil {
			return err
		}
		value, err := span(page, keyStart+keySize, uint64(binary.NativeEndian.Uint32(element[12:])))
		if err != nil {
			return err
		}
		isBucket := binary.NativeEndian.Uint32(element)&bucketElement != 0
		switch {
		case isBucket != (bucket == ""):
			return fmt.Errorf("entry %q is at the wrong level", key)
		case isBucket:
			err = p.bucket(string(key), value, depth)
		default:
			p.buckets[bucket] = append(p.buckets[bucket], pair{key: string(key), value: value})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket reads a bucket: a tree of its own, or one leaf page inside the value.
func (p *parser) bucket(name string, value []byte, depth int) error {
	if name == "" || len(value) < bucketHeaderSize {
		return fmt.Errorf("bucket %q has no header", name)
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return p.tree(root, name, depth+1)
	}
	inline, err := span(value, bucketHeaderSize, pageHeaderSize)
	if err != nil {
		return err
	}
	if binary.NativeEndian.Uint16(inline[8:]) != leafPage {
		return fmt.Errorf("bucket %q is of no known kind", name)
	}
	return p.leaf(value[bucketHeaderSize:], name, depth+1)
}

// span returns size bytes from start on, if they are all inside page.
func span(page []byte, start, size uint64) ([]byte, error) {
	if start > uint64(len(page)) || size > uint64(len(page))-start {
		return nil, errors.New("an entry reaches outside its page")
	}
	return page[start : start+size], nil
}

// contents checks the entries of all buckets against their checksums and the sum.
func (p *parser) contents() (contents, error) {
	meta := make(map[string][]byte)
	for _, m := range p.buckets[metaBucket] {
		meta[m.key] = m.value
	}
	if format := string(meta[formatKey]); format != formatVersion {
		if n, err := strconv.ParseUint(format, 10, 32); err == nil && n > 1 {
			return contents{}, &newerFormatError{format: format}
		}
		return contents{}, fmt.Errorf("format %q is unknown", format)
	}
	want, err := decodeSum(meta[sumKey])
	if err != nil {
		return contents{}, err
	}
	_, lost := meta[lostKey]
	c := contents{lost: lost}
	var got sum
	for _, e := range p.buckets[positionsBucket] {
		value, err := decodeValue(e.key, e.value)
		if err != nil {
			return contents{}, fmt.Errorf("key %q: %w", e.key, err)
		}
		got.add(e.key, value)
		c.pairs = append(c.pairs, pair{key: e.key, value: value})
	}
	if got != want {
		return contents{}, fmt.Errorf("holds %d keys where %d were committed, or others", got.count, want.count)
	}
	return c, nil
}
