package file

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

func gzipOf(t testing.TB, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zstdOf(t testing.TB, content string, options ...zstd.EOption) string {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, options...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// packers are the ways to compress that every test goes through.
func packers(t *testing.T, test func(t *testing.T, pack func(string) string)) {
	t.Run("gzip", func(t *testing.T) { test(t, func(s string) string { return gzipOf(t, s) }) })
	t.Run("zstd", func(t *testing.T) { test(t, func(s string) string { return zstdOf(t, s) }) })
}

func numberedLines(from, to int) (content string, values []string) {
	var b strings.Builder
	for n := from; n < to; n++ {
		line := fmt.Sprintf("%06d %x", n, rand.Uint64())
		values = append(values, line)
		b.WriteString(line + "\n")
	}
	return b.String(), values
}

func (r *rig) lag() int64 {
	var lag int64
	for _, s := range r.source.Status() {
		lag += s.Lag
	}
	return lag
}

func TestCompressedFilesAreReadByTheirContent(t *testing.T) {
	packers(t, func(t *testing.T, pack func(string) string) {
		r := newRig(t, "*.log")
		r.config.Decompress = true
		first, a := numberedLines(0, 30000)
		second, b := numberedLines(30000, 30010)
		r.write("a.log", pack(first)+pack("")+pack(second)+"\x00\x00\x00")
		r.start()
		r.expect(append(a, b...)...)
		if lag := r.lag(); lag == 0 {
			t.Error("no lag before anything is delivered")
		}
		r.commit()
		sourcetest.Eventually(t, func() bool { return r.lag() == 0 }, "a lag of 0")
		third, c := numberedLines(30010, 30020)
		r.write("a.log", pack(third))
		r.write("plain.log", "plain\n")
		r.lane.Wait(30021)
		if got := slices.DeleteFunc(r.lane.Values()[30010:], func(v string) bool { return v == "plain" }); !slices.Equal(got, c) {
			t.Errorf("read %q", got)
		}
	})
}

func TestCompressedFilesAreResumedInTheMiddle(t *testing.T) {
	packers(t, func(t *testing.T, pack func(string) string) {
		r := newRig(t, "*.log")
		r.config.Decompress = true
		var content strings.Builder
		var values []string
		for n := range 10 {
			lines, v := numberedLines(1000*n, 1000*n+1000)
			content.WriteString(pack(lines))
			values = append(values, v...)
		}
		r.write("a.log", content.String())
		for delivered := 0; delivered < len(values); delivered += 777 {
			r.start()
			r.expect(values[delivered:]...)
			r.lane.Deliver(777)
			r.positions.Commit(r.source)
			r.crash()
		}
		r.start()
		r.polled()
		r.expect("polled")
		sourcetest.Eventually(t, func() bool { r.commit(); return r.lag() == 0 }, "a lag of 0")
	})
}

func TestACompressedFileThatIsStillWritten(t *testing.T) {
	packers(t, func(t *testing.T, pack func(string) string) {
		r := newRig(t, "*.log")
		r.config.Decompress = true
		content, values := numberedLines(0, 5000)
		packed := pack(content)
		r.start()
		for rest := packed; rest != ""; {
			n := min(len(rest), 1+rand.IntN(len(packed)/10))
			r.write("a.log", rest[:n])
			rest = rest[n:]
			r.polled()
			if rand.IntN(4) == 0 {
				r.crash()
				r.start()
			}
		}
		sourcetest.Eventually(t, func() bool { return len(r.ofA()) >= len(values) }, "all lines")
		if got := r.ofA(); !slices.Equal(got, values) {
			t.Errorf("%d values, expected %d", len(got), len(values))
		}
	})
}

// ofA returns what was read of files other than those of polled.
func (r *rig) ofA() []string {
	return slices.DeleteFunc(r.lane.Values(), func(v string) bool { return v == "polled" })
}

func TestDamageIsSaidAndCounted(t *testing.T) {
	packers(t, func(t *testing.T, pack func(string) string) {
		r := newRig(t, "*.log")
		r.config.Decompress = true
		content, values := numberedLines(0, 1000)
		more, rest := numberedLines(1000, 30000)
		second := []byte(pack(more))
		for i := range second[len(second)/2:] {
			second[len(second)/2+i] ^= 0x55
		}
		r.write("a.log", pack(content)+string(second))
		r.write("b.log", "fine\n")
		r.start()
		sourcetest.Eventually(t, func() bool { return r.lost(lostCorrupt) > 0 }, "a loss")
		got := slices.DeleteFunc(r.lane.Values(), func(v string) bool { return v == "fine" })
		if len(got) < 1000 || !slices.Equal(got[:1000], values) {
			t.Errorf("%d records, what comes before the damage is missing", len(got))
		}
		for i, v := range got[1000 : len(got)-1] { // the last is cut
			if v != rest[i] {
				t.Fatalf("record %d is %q", i, v)
			}
		}
		if lost, most := r.lost(lostCorrupt), len(second); lost > most || lost < most/4 {
			t.Errorf("%d bytes are lost of %d", lost, most)
		}
		r.commit()
		sourcetest.Eventually(t, func() bool { r.commit(); return r.lag() == 0 }, "a lag of 0")
		lost := r.lost(lostCorrupt)
		r.crash()
		r.start()
		r.polled()
		r.expect("polled")
		if again := r.lost(lostCorrupt); again != lost {
			t.Errorf("%d bytes are lost after a restart, %d before", again, lost)
		}
	})
}

func TestOnceReadsCompressedFiles(t *testing.T) {
	packers(t, func(t *testing.T, pack func(string) string) {
		r := newRig(t, "*.log")
		r.config.Decompress, r.config.Once = true, true
		want := []string{}
		for n := range 7 {
			content, values := numberedLines(100000*n, 100000*n+3000)
			r.write(fmt.Sprintf("%d.log", n), pack(content)+pack("last"))
			want = append(want, append(values, "last")...)
		}
		content, _ := numberedLines(0, 9000)
		cut := pack(content)
		r.write("cut.log", cut[:len(cut)-10])
		r.write("short.log", "\x1f")
		r.start()
		if err := r.running.Wait(); err != nil {
			t.Fatal(err)
		}
		got := r.lane.Values()
		for _, v := range want {
			if !slices.Contains(got, v) {
				t.Fatalf("%q is missing", v)
			}
		}
		if !slices.Contains(got, "\x1f") || len(got) < len(want)+5000 {
			t.Errorf("%d records", len(got))
		}
	})
}

func TestARotatedCompressedFileIsReleased(t *testing.T) {
	packers(t, func(t *testing.T, pack func(string) string) {
		r := newRig(t, "*.log")
		r.config.Decompress = true
		r.write("a.log", pack("one\ntwo"))
		r.start()
		r.expect("one")
		r.rename("a.log", "a.old")
		r.expect("one", "two")
		r.commit()
		r.tracked()
	})
}

func TestStartAtEndOfACompressedFile(t *testing.T) {
	packers(t, func(t *testing.T, pack func(string) string) {
		r := newRig(t, "*.log")
		r.config.Decompress, r.config.StartAt = true, End
		content, _ := numberedLines(0, 20000)
		r.write("a.log", pack(content))
		r.start()
		r.tracked("a.log")
		r.polled()
		r.write("a.log", pack("new\n"))
		r.expect("polled", "new")
	})
}

func TestARewrittenCompressedFileIsReadAnew(t *testing.T) {
	packers(t, func(t *testing.T, pack func(string) string) {
		r := newRig(t, "*.log")
		r.config.Decompress = true
		content, values := numberedLines(0, 2000)
		r.write("a.log", pack(content))
		r.start()
		r.expect(values...)
		r.must(os.Truncate(r.path("a.log"), 0))
		r.write("a.log", "plain\n")
		r.expect(append(values, "plain")...)
		r.must(os.Truncate(r.path("a.log"), 0))
		r.write("a.log", pack("packed\n"))
		r.expect(append(values, "plain", "packed")...)
	})
}

func TestAFileThatWasReadAsItIsBeginsAnewWhenItIsDecompressed(t *testing.T) {
	r := newRig(t, "*.log")
	r.write("a.log", gzipOf(t, "one\n")+"\n")
	r.write("b.log", "b\n")
	r.start()
	r.lane.Wait(2)
	r.commit()
	r.crash()
	r.config.Decompress = true
	r.start()
	r.expect("one")
}

func TestAWindowOfZstdThatIsTooLargeIsRefused(t *testing.T) {
	r := newRig(t, "*.log")
	r.config.Decompress = true
	var said lockedBuffer
	r.config.Logger = said.logger()
	content, values := numberedLines(0, 100)
	r.write("a.log", zstdOf(t, content)+zstdOf(t, strings.Repeat("x", 20<<20), zstd.WithWindowSize(16<<20)))
	r.write("b.log", "fine\n")
	r.start()
	sourcetest.Eventually(t, func() bool { return strings.Contains(said.String(), "window of 16777216 bytes, 8388608 is the most") }, "an error")
	r.commit()
	if got := slices.DeleteFunc(r.lane.Values(), func(v string) bool { return v == "fine" }); !slices.Equal(got, values) {
		t.Errorf("%d records, expected %d", len(got), len(values))
	}
	if r.lag() == 0 || r.lost(lostCorrupt) > 0 {
		t.Error("what can't be decompressed counts as delivered, or as lost")
	}
}

// lockedBuffer keeps what a logger says.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *lockedBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }
