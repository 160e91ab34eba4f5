package producer

import "sync/atomic"

// chunkRows is the most records that share one delivery marker.
const chunkRows = 64

// murmur2 is the hash of Kafka's Java client (org.apache.kafka.common.utils.Utils.murmur2),
// which its default partitioner applies to the serialized key.
func murmur2(data []byte) int32 {
	const (
		seed = uint32(0x9747b28c)
		m    = uint32(0x5bd1e995)
		r    = 24
	)
	h := seed ^ uint32(len(data))
	for len(data) >= 4 {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h *= m
		h ^= k
		data = data[4:]
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(data[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return int32(h)
}

// keyPartition is where the Java client puts a key among count partitions.
func keyPartition(key []byte, count int32) int32 {
	return (murmur2(key) & 0x7fffffff) % count
}

// turns deals keyless records out in runs of chunkRows, so that they share
// markers and batches, over all partitions in turn. Safe for concurrent use.
type turns struct{ next atomic.Uint32 }

func (t *turns) take(count int32) int32 {
	return int32((t.next.Add(1) - 1) % uint32(count))
}
