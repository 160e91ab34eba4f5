package file

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// damagedBehind is good lines, packed, and a member behind them that is damaged from its
// first block on.
func damagedBehind(pack func(string) string, lines int) (content string, values []string) {
	text, values := numberedLines(0, lines)
	more, _ := numberedLines(lines, lines+2000)
	second := []byte(pack(more))
	for i := range second[12:] {
		second[12+i] ^= 0x55
	}
	return pack(text) + string(second), values
}

// TestWhatStandsBeforeDamageSurvivesARestart: that the rest of a file is lost says nothing
// of records which were on their way when the agent stopped.
func TestWhatStandsBeforeDamageSurvivesARestart(t *testing.T) {
	packers(t, func(t *testing.T, pack func(string) string) {
		r := newRig(t, "*.log")
		r.config.Decompress = true
		content, values := damagedBehind(pack, 2000)
		r.write("a.log", content)
		r.start()
		sourcetest.Eventually(t, func() bool { return r.lost(lostCorrupt) > 0 }, "a loss")
		r.expect(values...)
		r.lane.Deliver(700)
		r.positions.Commit(r.source)
		r.crash()
		r.start()
		r.expect(values[700:]...)
		r.commit()
		sourcetest.Eventually(t, func() bool { r.commit(); return r.lag() == 0 }, "a lag of 0")
	})
}

// TestADamagedFileIsReadToItsEndAfterARestart too: it is let go once it has no name, and
// a run that reads once ends.
func TestADamagedFileIsReadToItsEndAfterARestart(t *testing.T) {
	packers(t, func(t *testing.T, pack func(string) string) {
		r := newRig(t, "*.log")
		r.config.Decompress = true
		content, values := damagedBehind(pack, 100)
		r.write("a.log", content)
		r.start()
		r.expect(values...)
		sourcetest.Eventually(t, func() bool { r.commit(); return r.lag() == 0 && r.lost(lostCorrupt) > 0 }, "a lag of 0")
		r.crash()
		r.config.Once = true
		r.start()
		if err := r.running.Wait(); err != nil {
			t.Fatal(err)
		}
		r.source.Close()
		r.config.Once = false
		r.start()
		r.tracked("a.log")
		r.must(os.Remove(r.path("a.log")))
		r.tracked()
	})
}

// TestFilesThatCanNotBeDecompressedLeaveDecodersToOthers of their lane.
func TestFilesThatCanNotBeDecompressedLeaveDecodersToOthers(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.Decompress = true
	refused := zstdOf(t, strings.Repeat("x", 20<<20), zstd.WithWindowSize(16<<20))
	for n := range maxUnpackers + 1 {
		r.write(fmt.Sprintf("a%d.log", n), refused)
	}
	content, values := numberedLines(0, 100)
	r.write("b.log", gzipOf(t, content))
	r.write("c.log", "fine\n")
	r.start()
	r.lane.Wait(len(values) + 1)
	if got := r.lane.Values(); !slices.Contains(got, "fine") || !slices.Contains(got, values[99]) {
		t.Errorf("%d records", len(got))
	}
}
