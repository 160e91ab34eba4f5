package wire

import (
	"sync"

	"google.golang.org/grpc/mem"
)

// BufferPool hands out byte buffers by size. Unlike gRPC's default pool it has
// tiers between 32 KiB and 1 MiB, where batches lie, and does not clear what it
// hands out. It is safe for concurrent use.
type BufferPool struct {
	tiers [bufferTiers]sync.Pool
}

var _ mem.BufferPool = (*BufferPool)(nil)

const bufferTiers = 8

// tierSize returns the bytes of the buffers of a tier: 4K, 16K, 64K, 128K, 256K, 512K, 1M, 2M.
func tierSize(tier int) int {
	if tier < 2 {
		return 4 << 10 << (2 * tier)
	}
	return 64 << 10 << (tier - 2)
}

// NewBufferPool returns an empty pool.
func NewBufferPool() *BufferPool { return &BufferPool{} }

// Get returns a buffer of that length with any content. One larger than the
// largest tier is made for the call.
func (p *BufferPool) Get(length int) *[]byte {
	for tier := range p.tiers {
		size := tierSize(tier)
		if length > size {
			continue
		}
		if b, ok := p.tiers[tier].Get().(*[]byte); ok {
			*b = (*b)[:length]
			return b
		}
		b := make([]byte, length, size)
		return &b
	}
	b := make([]byte, length)
	return &b
}

// Put takes a buffer back that Get returned.
func (p *BufferPool) Put(b *[]byte) {
	for tier := range p.tiers {
		if cap(*b) == tierSize(tier) {
			p.tiers[tier].Put(b)
			return
		}
	}
}
