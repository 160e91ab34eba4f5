package file

import (
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

func TestAHeldRecordIsCompleteWhenItsFileRests(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.Multiline = &Multiline{Start: regexp.MustCompile(`^\d`), Timeout: 300 * time.Millisecond, MaxLines: 100}
	r.write("a.log", "1\n a\n")
	r.start()
	r.expect("1\n a")
	r.write("a.log", " b\n2\n")
	r.expect("1\n a", " b", "2")
	r.commit()
	r.crash()
	r.write("a.log", "3\n")
	r.start()
	r.expect("3")
}

func TestAHeldRecordIsReadAgainAfterACrash(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.Multiline = &Multiline{Start: regexp.MustCompile(`^\d`), Timeout: time.Hour, MaxLines: 100}
	r.write("a.log", "1\n2\n a\n")
	r.start()
	r.expect("1")
	r.commit()
	r.crash()
	r.write("a.log", " b\n3\n")
	r.start()
	r.expect("2\n a\n b")
}

// TestTheRestOfACutLineIsSkippedOverARestart stops in the middle of it.
func TestTheRestOfACutLineIsSkippedOverARestart(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.OnLongLine, r.config.MaxLine = Truncate, 1000
	long := strings.Repeat("x", 100_000)
	r.write("a.log", "one\n"+long)
	r.start()
	r.expect("one", long[:1000])
	sourcetest.Eventually(t, func() bool { r.commit(); return r.lag() == 0 }, "a lag of 0")
	r.crash()
	r.write("a.log", long+"\ntwo\n")
	r.start()
	r.expect("two")
	if lost := r.lost(lostTruncatedLine); lost != 2*len(long)-1000 {
		t.Errorf("%d bytes are lost, expected %d", lost, 2*len(long)-1000)
	}
}

// TestMemoryIsBoundedWhateverTheLine reads a line of 256 MiB, as it is and out of a
// file of some hundred KiB.
func TestMemoryIsBoundedWhateverTheLine(t *testing.T) {
	const size = 256 << 20
	r := newRig(t, "*.log")
	r.config.OnLongLine, r.config.MaxLine, r.config.Decompress = Truncate, 64<<10, true
	line := strings.Repeat("x", size)
	r.write("bomb.log", gzipOf(t, line+"\nafter\n"))
	r.write("plain.log", "plain\n")
	f, err := os.OpenFile(r.path("plain.log"), os.O_APPEND|os.O_WRONLY, 0)
	r.must(err)
	for range 256 {
		_, err := f.WriteString(line[:size/256])
		r.must(err)
	}
	r.must(f.Close())
	line = ""
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r.start()
	sourcetest.Eventually(t, func() bool { return slices.Contains(r.lane.Values(), "after") }, "the line behind the long one")
	sourcetest.Eventually(t, func() bool { r.commit(); return r.lag() == 0 }, "a lag of 0")
	runtime.ReadMemStats(&now)
	if used := now.HeapSys - before.HeapSys; now.HeapSys > before.HeapSys && used > 64<<20 {
		t.Errorf("the heap grew by %d bytes", used)
	}
	if lost := r.lost(lostTruncatedLine); lost != 2*(size-64<<10) {
		t.Errorf("%d bytes are lost", lost)
	}
}
