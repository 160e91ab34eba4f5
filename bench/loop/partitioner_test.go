package main

import (
	"fmt"
	"testing"

	kafkatest "github.com/barnabas-agent/barnabas/test/kafka"
)

func TestMurmur2IsKafkas(t *testing.T) {
	const partitions = 6
	choose, err := partitioner(options{partitioner: "murmur2", partitions: partitions, keyFrom: 1, keyTo: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var keys [][]byte
	for i := range 1000 {
		keys = append(keys, fmt.Append(nil, i*i*i)[:], []byte{byte(i), 0xff, byte(i >> 8), 0x80}[:i%5])
	}
	for i, want := range kafkatest.JavaPartitions(t, keys, partitions) {
		partition, key := choose(append([]byte("|"), keys[i]...))
		if partition != want || string(key) != string(keys[i]) {
			t.Errorf("key %q: cut %q for partition %d, Kafka's own producer chooses %d", keys[i], key, partition, want)
		}
	}
}
