package main

import "encoding/binary"

// Constants of MurmurHash2 as Kafka's org.apache.kafka.common.utils.Utils.murmur2
// has them.
const (
	seed       = 0x9747b28c
	multiplier = 0x5bd1e995
	shift      = 24
)

// hash is Kafka's Utils.murmur2: MurmurHash2 of 32 bits, whose result Java reads
// as a signed int.
func hash(key []byte) int32 {
	h := uint32(seed) ^ uint32(len(key))
	for len(key) >= 4 {
		k := binary.LittleEndian.Uint32(key)
		k *= multiplier
		k ^= k >> shift
		k *= multiplier
		h *= multiplier
		h ^= k
		key = key[4:]
	}
	switch len(key) {
	case 3:
		h ^= uint32(key[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(key[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(key[0])
		h *= multiplier
	}
	h ^= h >> 13
	h *= multiplier
	h ^= h >> 15
	return int32(h)
}

// partitionForKey is Kafka's BuiltInPartitioner.partitionForKey: the hash without
// its sign bit, modulo the number of partitions.
func partitionForKey(key []byte, partitions int32) int32 {
	return hash(key) & 0x7fffffff % partitions
}
