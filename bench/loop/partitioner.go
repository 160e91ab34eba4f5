package main

import (
	"encoding/binary"
	"fmt"
)

// chooser returns the partition of a line, and its key if it has one.
type chooser func(line []byte) (partition int32, key []byte)

// runLength is how many records in a row go to one partition with -partitioner runs.
const runLength = 64

func partitioner(o options) (chooser, error) {
	n := int64(o.partitions)
	var count int64
	switch o.partitioner {
	case "turn":
		return func([]byte) (int32, []byte) {
			count++
			return int32((count - 1) % n), nil
		}, nil
	case "runs":
		return func([]byte) (int32, []byte) {
			count++
			return int32((count - 1) / runLength % n), nil
		}, nil
	case "murmur2":
		return func(line []byte) (int32, []byte) {
			to := min(o.keyTo, len(line))
			key := line[min(o.keyFrom, to):to]
			return int32(int64(murmur2(key)&0x7fffffff) % n), key
		}, nil
	default:
		return nil, fmt.Errorf("no partitioner %q: turn, runs or murmur2", o.partitioner)
	}
}

// murmur2 is the hash of org.apache.kafka.common.utils.Utils.murmur2.
func murmur2(data []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
	)
	h := uint32(seed) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := binary.LittleEndian.Uint32(data) * m
		k ^= k >> 24
		h = h*m ^ k*m
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
	return h ^ h>>15
}
