package sdk

import "testing"

// A small plugin stays small, and one with much that lives is not collected all the time.
func TestMemoryIsBoundedByWhatLives(t *testing.T) {
	for live, want := range map[uint64]int64{0: 18 << 20, 7 << 20: 18 << 20, 8 << 20: 20 << 20, 1 << 30: 2<<30 + 4<<20} {
		if got := memoryLimit(live); got != want {
			t.Errorf("%d MiB live: %d MiB, want %d", live>>20, got>>20, want>>20)
		}
	}
}
