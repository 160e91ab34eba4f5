package file

import "slices"

// maxUnpackers is how many decoders a lane has open.
const maxUnpackers = 2

// unpackers are the files of a lane that have a decoder open, the one that was used
// last at the end. They belong to the lane's tailer.
type unpackers struct{ open []unpacker }

type unpacker struct {
	file    *file
	packed  *packed // of a content that may be gone
	waiting bool    // for more to be written
}

// admit says whether the file may be decompressed now. It takes the place of one
// that waits to be written on; while others have more to give, it waits for them: they
// are in turn, or have none.
func (u *unpackers) admit(f *file) bool {
	u.tidy()
	i := slices.IndexFunc(u.open, func(o unpacker) bool { return o.file == f })
	switch {
	case i >= 0:
		u.open = slices.Delete(u.open, i, i+1)
	case len(u.open) == maxUnpackers:
		i := slices.IndexFunc(u.open, func(o unpacker) bool { return o.waiting })
		if i < 0 {
			return false
		}
		u.open[i].packed.evict()
		u.open = slices.Delete(u.open, i, i+1)
	}
	u.open = append(u.open, unpacker{file: f, packed: f.packed})
	return true
}

// tidy closes the decoders of contents that are gone.
func (u *unpackers) tidy() {
	u.open = slices.DeleteFunc(u.open, func(o unpacker) bool {
		o.file.mu.Lock()
		defer o.file.mu.Unlock()
		if o.file.packed != o.packed {
			o.packed.close()
		}
		return o.file.packed != o.packed
	})
}

// leave follows a turn of the file, the last that was admitted.
func (u *unpackers) leave(result outcome) {
	last := &u.open[len(u.open)-1]
	last.waiting = result == drained
	if last.packed.decoder == nil && (result == drained || result == replaced) {
		u.open = u.open[:len(u.open)-1]
	}
}

// drop closes the file's decoder.
func (u *unpackers) drop(f *file) {
	u.open = slices.DeleteFunc(u.open, func(o unpacker) bool {
		if o.file == f {
			o.packed.close()
		}
		return o.file == f
	})
}

// evict lets others have the file's decoder: it is not in turn any more. What comes
// then is decompressed again.
func (u *unpackers) evict(f *file) {
	u.open = slices.DeleteFunc(u.open, func(o unpacker) bool {
		if o.file == f {
			o.packed.evict()
		}
		return o.file == f
	})
}

func (u *unpackers) close() {
	for _, o := range u.open {
		o.packed.close()
	}
	u.open = nil
}
