package main

import (
	"bufio"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"testing"
)

// The vectors are those of Kafka's own UtilsTest.testMurmur2.
func TestHashIsKafkas(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := hash([]byte(key)); got != want {
			t.Errorf("hash(%q) = %d, want %d", key, got, want)
		}
	}
}

// TestJavaVectors compares with what Kafka's Java class gave for random keys of
// 0 to 39 bytes.
func TestJavaVectors(t *testing.T) {
	file, err := os.Open("testdata/java_vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	compared := 0
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if fields[0] == "#" {
			continue
		}
		key, err := hex.DecodeString(strings.TrimPrefix(fields[0], "-"))
		if err != nil {
			t.Fatal(err)
		}
		got := []int32{hash(key), partitionForKey(key, 6), partitionForKey(key, 1000)}
		for i, g := range got {
			if strconv.Itoa(int(g)) != fields[i+1] {
				t.Errorf("key %s: got %v, want %v", fields[0], got, fields[1:])
				break
			}
		}
		compared++
	}
	if err := lines.Err(); err != nil || compared != 120 {
		t.Errorf("compared %d vectors, %v", compared, err)
	}
}

func BenchmarkHash(b *testing.B) {
	key := []byte("a-little-bit-long-string")
	b.SetBytes(int64(len(key)))
	for b.Loop() {
		hash(key)
	}
}
