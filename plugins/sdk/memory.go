package sdk

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// collectAt is GOGC where the environment does not set it: what a plugin
	// allocates dies with its batch.
	collectAt = 400
	// smallMemory, in bytes, is what a plugin may use before it is collected more
	// often than collectAt says. With the pages of its file, which are not
	// counted, the process of an interpreted expression stays below 40 MiB.
	smallMemory = 18 << 20
	// besideHeap, in bytes, is what the runtime needs beside the heap.
	besideHeap = 4 << 20
)

// boundMemory makes the collector trade memory for time only while there is
// little of it: a plugin with much that lives may use twice of it, as with Go's
// own default, so that no plugin spends its time collecting. What the environment
// sets stands: GOGC, and with GOMEMLIMIT there is no other limit.
func boundMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		followHeap(nil)
	}
}

// collected is an object that nothing refers to, so that its cleanup runs after
// the next collection.
type collected struct{ _ *byte }

// followHeap sets the memory limit by what the last collection left, and again after the next one.
func followHeap(*byte) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetMemoryLimit(memoryLimit(live[0].Value.Uint64()))
	runtime.AddCleanup(new(collected), followHeap, nil)
}

// memoryLimit is the limit for a heap of which live bytes are in use.
func memoryLimit(live uint64) int64 {
	return max(smallMemory, 2*int64(live)+besideHeap)
}
