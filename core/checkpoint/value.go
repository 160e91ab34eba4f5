package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	valueVersion    = 1
	valueHeaderSize = 5
	sumSize         = 12
)

var errChecksum = errors.New("checksum does not fit")

// pair is one position as a source gave it.
type pair struct {
	key   string
	value []byte
}

// checksum covers the key too, so that a value never passes under another's key.
func checksum(key string, value []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Update(0, table, []byte(key)), table, value)
}

// encodeValue puts a source's value into the layout of the file.
func encodeValue(key string, value []byte) []byte {
	encoded := make([]byte, valueHeaderSize, valueHeaderSize+len(value))
	encoded[0] = valueVersion
	binary.LittleEndian.PutUint32(encoded[1:], checksum(key, value))
	return append(encoded, value...)
}

// decodeValue returns a copy of the source's value. It takes any bytes.
func decodeValue(key string, encoded []byte) ([]byte, error) {
	if len(encoded) < valueHeaderSize {
		return nil, fmt.Errorf("value of %d bytes is shorter than its header", len(encoded))
	}
	if encoded[0] != valueVersion {
		return nil, fmt.Errorf("value has layout %d, %d is known", encoded[0], valueVersion)
	}
	value := append([]byte{}, encoded[valueHeaderSize:]...)
	if checksum(key, value) != binary.LittleEndian.Uint32(encoded[1:]) {
		return nil, errChecksum
	}
	return value, nil
}

// sum is an order-free digest over all pairs of a file.
type sum struct {
	count  uint64
	digest uint32
}

func (s *sum) add(key string, value []byte) {
	s.count++
	s.digest ^= checksum(key, value)
}

func (s *sum) remove(key string, value []byte) {
	s.count--
	s.digest ^= checksum(key, value)
}

func (s *sum) encode() []byte {
	encoded := make([]byte, 0, sumSize)
	encoded = binary.LittleEndian.AppendUint64(encoded, s.count)
	return binary.LittleEndian.AppendUint32(encoded, s.digest)
}

func decodeSum(encoded []byte) (sum, error) {
	if len(encoded) != sumSize {
		return sum{}, fmt.Errorf("sum of %d bytes, %d expected", len(encoded), sumSize)
	}
	return sum{count: binary.LittleEndian.Uint64(encoded), digest: binary.LittleEndian.Uint32(encoded[8:])}, nil
}
