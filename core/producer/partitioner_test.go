package producer

import (
	"testing"

	"pgregory.net/rapid"
)

// The values are those of org.apache.kafka.common.utils.UtilsTest.testMurmur2.
func TestMurmur2IsTheJavaClients(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := murmur2([]byte(key)); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}

func TestKeyPartitionIsAPartition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOf(rapid.Byte()).Draw(t, "key")
		count := rapid.Int32Range(1, 10000).Draw(t, "count")
		if p := keyPartition(key, count); p < 0 || p >= count {
			t.Fatalf("partition %d of %d", p, count)
		}
	})
}

func TestTurnsDealAllPartitions(t *testing.T) {
	var dealt turns
	dealt.next.Store(1<<32 - 10) // it wraps
	seen := map[int32]int{}
	for range 80 {
		seen[dealt.take(4)]++
	}
	for p := range int32(4) {
		if seen[p] != 20 {
			t.Errorf("partition %d had %d of 80 turns", p, seen[p])
		}
	}
}
