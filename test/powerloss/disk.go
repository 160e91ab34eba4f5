package powerloss

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// sector is what a disk writes as a whole or not at all.
const sector = 512

// disk is a folder, as programs see it and as it would be without power.
type disk struct {
	root        string
	folder      *node
	descriptors map[string]*descriptor
}

type descriptor struct {
	node   *node
	offset int64
	append bool
}

// node is a file or a folder. What is pending is visible and not durable.
type node struct {
	isDir bool

	content, durable []byte
	pending          []change

	names, durableNames map[string]*node
	pendingNames        []rename
}

// change is one write, or a truncation where data is nil.
type change struct {
	offset int64 // or the new length
	data   []byte
}

// rename says what one call does to the names of a folder, all of it at once.
type rename map[string]*node // nil: the name is gone

func newDisk(root string) (*disk, error) {
	d := &disk{root: filepath.Clean(root), folder: newFolder(), descriptors: map[string]*descriptor{}}
	err := filepath.WalkDir(d.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == d.root {
			return err
		}
		parent, name, err := d.parent(path)
		if err != nil {
			return err
		}
		n := newFolder()
		if !entry.IsDir() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			n = &node{content: content, durable: slices.Clone(content)}
		}
		parent.names[name], parent.durableNames[name] = n, n
		return nil
	})
	return d, err
}

func newFolder() *node {
	return &node{isDir: true, names: map[string]*node{}, durableNames: map[string]*node{}}
}

// inside returns a path below the root, and whether it is there.
func (d *disk) inside(path string) (string, bool) {
	path = filepath.Clean(path)
	if path == d.root {
		return ".", true
	}
	return strings.CutPrefix(path, d.root+"/")
}

// parent returns the folder that a path below the root lies in, and its name there.
func (d *disk) parent(path string) (*node, string, error) {
	below, ok := d.inside(path)
	if !ok {
		return nil, "", fmt.Errorf("%s is outside of %s", path, d.root)
	}
	n := d.folder
	parts := strings.Split(below, "/")
	for _, part := range parts[:len(parts)-1] {
		if n = n.names[part]; n == nil || !n.isDir {
			return nil, "", fmt.Errorf("%s: no folder %s is known", path, part)
		}
	}
	return n, parts[len(parts)-1], nil
}

// apply does what a call did. It reports whether that was something inside the folder.
func (d *disk) apply(c *call) (bool, error) {
	switch c.name {
	case "openat":
		return d.open(c)
	case "close":
		delete(d.descriptors, c.arguments[0])
		return false, nil
	case "write", "pwrite64", "ftruncate", "fsync", "fdatasync":
		return d.applyToFile(c)
	case "mmap":
		if d.descriptors[c.arguments[4]] != nil && strings.Contains(c.arguments[2], "PROT_WRITE") && strings.Contains(c.arguments[3], "MAP_SHARED") {
			return false, errors.New("writes through a mapping can't be followed")
		}
		return false, nil
	case "renameat", "renameat2", "unlinkat", "mkdirat":
		if c.result < 0 {
			return false, nil
		}
		return d.applyToNames(c)
	}
	for _, argument := range c.arguments {
		if d.descriptors[argument] != nil {
			return false, errors.New("this call can't be followed")
		}
		if path, err := unquote(argument); err == nil {
			if _, inside := d.inside(string(path)); inside {
				return false, errors.New("this call can't be followed")
			}
		}
	}
	return false, nil
}

func (d *disk) open(c *call) (bool, error) {
	path, err := unquote(c.arguments[1])
	if err != nil {
		return false, err
	}
	below, inside := d.inside(string(path))
	if c.result < 0 || !inside {
		return false, nil
	}
	flags := c.arguments[2]
	number := strconv.FormatInt(c.result, 10)
	if below == "." {
		d.descriptors[number] = &descriptor{node: d.folder}
		return false, nil
	}
	folder, name, err := d.parent(string(path))
	if err != nil {
		return false, err
	}
	n, made := folder.names[name], false
	if n == nil {
		n, made = &node{}, true
		folder.change(rename{name: n})
	}
	if strings.Contains(flags, "O_TRUNC") && len(n.content) > 0 {
		n.change(change{offset: 0})
		made = true
	}
	d.descriptors[number] = &descriptor{node: n, append: strings.Contains(flags, "O_APPEND")}
	return made, nil
}

// applyToFile does what is done through a descriptor.
func (d *disk) applyToFile(c *call) (bool, error) {
	open := d.descriptors[c.arguments[0]]
	if open == nil {
		return false, nil
	}
	n := open.node
	switch c.name {
	case "fsync", "fdatasync":
		n.sync(c.result >= 0)
		return true, nil
	case "ftruncate":
		length, err := strconv.ParseInt(c.arguments[1], 10, 64)
		if err != nil || c.result < 0 {
			return false, err
		}
		n.change(change{offset: length})
		return true, nil
	}
	if c.result <= 0 {
		return false, nil
	}
	data, err := unquote(c.arguments[1])
	if err != nil {
		return false, err
	}
	at := open.offset
	switch {
	case c.name == "pwrite64":
		if at, err = strconv.ParseInt(c.arguments[3], 10, 64); err != nil {
			return false, err
		}
	case open.append:
		at = int64(len(n.content))
	}
	if c.name == "write" {
		open.offset = at + c.result
	}
	n.change(change{offset: at, data: data[:c.result]})
	return true, nil
}

// applyToNames does what is done to names.
func (d *disk) applyToNames(c *call) (bool, error) {
	quoted := []int{1}
	if strings.HasPrefix(c.name, "rename") {
		quoted = []int{1, 3}
	}
	folders, names := make([]*node, 2), make([]string, 2)
	touched := false
	for i, argument := range quoted {
		path, err := unquote(c.arguments[argument])
		if err != nil {
			return false, err
		}
		if _, inside := d.inside(string(path)); !inside {
			continue
		}
		if folders[i], names[i], err = d.parent(string(path)); err != nil {
			return false, err
		}
		touched = true
	}
	switch {
	case !touched:
		return false, nil
	case c.name == "mkdirat":
		folders[0].change(rename{names[0]: newFolder()})
	case c.name == "unlinkat":
		folders[0].change(rename{names[0]: nil})
	case folders[0] != folders[1]:
		return false, errors.New("a move between folders can't be followed")
	default:
		folders[0].change(rename{names[0]: nil, names[1]: folders[0].names[names[0]]})
	}
	return true, nil
}

// change makes something visible that is not durable.
func (n *node) change(one any) {
	switch one := one.(type) {
	case change:
		n.content = one.on(n.content)
		n.pending = append(n.pending, one)
	case rename:
		one.on(n.names)
		n.pendingNames = append(n.pendingNames, one)
	}
}

// sync makes what is pending durable, or loses it for good.
func (n *node) sync(worked bool) {
	if worked {
		for _, one := range n.pending {
			n.durable = one.on(n.durable)
		}
		for _, one := range n.pendingNames {
			one.on(n.durableNames)
		}
	}
	n.pending, n.pendingNames = nil, nil
}

func (c change) on(content []byte) []byte {
	end := c.offset + int64(len(c.data))
	if c.data == nil && end < int64(len(content)) {
		return slices.Clone(content[:end])
	}
	if grow := end - int64(len(content)); grow > 0 {
		content = append(content, make([]byte, grow)...)
	}
	copy(content[c.offset:], c.data)
	return content
}

func (r rename) on(names map[string]*node) {
	for name, n := range r {
		if n == nil {
			delete(names, name)
			continue
		}
		names[name] = n
	}
}

func (d *disk) dirty() bool { return d.folder.dirty(map[*node]bool{}) }

func (n *node) dirty(seen map[*node]bool) bool {
	if seen[n] {
		return false
	}
	seen[n] = true
	if len(n.pending)+len(n.pendingNames) > 0 {
		return true
	}
	for _, below := range n.names {
		if below.dirty(seen) {
			return true
		}
	}
	return false
}

// lose writes what is left into target.
func (d *disk) lose(random *rand.Rand, target string) error {
	return d.folder.lose(random, target)
}

func (n *node) lose(random *rand.Rand, target string) error {
	names := n.namesLeft(random)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		below, path := names[name], filepath.Join(target, name)
		if below.isDir {
			if err := os.Mkdir(path, 0o700); err != nil {
				return err
			}
			if err := below.lose(random, path); err != nil {
				return err
			}
			continue
		}
		if err := os.WriteFile(path, below.left(random), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// namesLeft chooses which pending changes of names are there: the first few, as
// with a journal, or any.
func (n *node) namesLeft(random *rand.Rand) map[string]*node {
	names := maps.Clone(n.durableNames)
	inOrder, most := random.IntN(2) == 0, random.IntN(len(n.pendingNames)+1)
	for i, one := range n.pendingNames {
		if inOrder && i < most || !inOrder && random.IntN(2) == 0 {
			one.on(names)
		}
	}
	return names
}

// left chooses what of the pending content is there.
func (n *node) left(random *rand.Rand) []byte {
	content := slices.Clone(n.durable)
	manner := random.IntN(4)
	for _, one := range n.pending {
		switch manner {
		case 0: // nothing
		case 1: // everything
			content = one.on(content)
		case 2: // whole writes
			if random.IntN(2) == 0 {
				content = one.on(content)
			}
		default:
			content = one.torn(content, random)
		}
	}
	return content
}

// torn puts some of a write's sectors into place, and perhaps its length alone.
func (c change) torn(content []byte, random *rand.Rand) []byte {
	if c.data == nil {
		if random.IntN(2) == 0 {
			return c.on(content)
		}
		return content
	}
	if random.IntN(2) == 0 {
		end := max(c.offset+int64(len(c.data)), int64(len(content)))
		content = change{offset: end}.on(content)
	}
	for at := int64(0); at < int64(len(c.data)); {
		next := min(int64(len(c.data)), (c.offset+at)/sector*sector+sector-c.offset)
		if random.IntN(2) == 0 {
			content = change{offset: c.offset + at, data: c.data[at:next]}.on(content)
		}
		at = next
	}
	return content
}
