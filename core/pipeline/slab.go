package pipeline

import (
	"math/bits"
	"sync"
)

const (
	minBlock = 4 << 10
	// keepPerClass bounds the free blocks of one size, so that a burst of a size does not stay for ever.
	keepPerClass = 8
)

// slab hands out the blocks that sources read into. It is the only place where
// a pipeline's payload memory is made, in powers of two from 4 KiB. Safe for
// concurrent use.
type slab struct {
	mu   sync.Mutex
	free [bits.UintSize][][]byte // by class: blocks of minBlock << class bytes
}

// blockSize rounds size up to the size of the block that get would return.
func blockSize(size int) int {
	if size <= minBlock {
		return minBlock
	}
	return 1 << bits.Len(uint(size-1))
}

// get returns an empty block with room for at least size bytes.
func (s *slab) get(size int) []byte {
	n := blockSize(size)
	class := bits.TrailingZeros(uint(n / minBlock))
	s.mu.Lock()
	defer s.mu.Unlock()
	if free := s.free[class]; len(free) > 0 {
		block := free[len(free)-1]
		s.free[class] = free[:len(free)-1]
		return block
	}
	return make([]byte, 0, n)
}

// put takes back a block that get returned and nothing refers to any more.
func (s *slab) put(block []byte) {
	class := bits.TrailingZeros(uint(cap(block) / minBlock))
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free[class]) < keepPerClass {
		s.free[class] = append(s.free[class], block[:0])
	}
}
