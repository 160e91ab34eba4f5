package framing

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// outcome is what became of a stream.
type outcome struct {
	frames []string
	reason Reason // "" for none
	begun  int
	last   string // frame made by Finish
}

// cut feeds the chunks one by one.
func cut(t testing.TB, method Method, limit int, chunks ...[]byte) outcome {
	c := NewCutter(method, limit)
	var o outcome
	for _, chunk := range chunks {
		rest := slices.Clone(chunk) // owned: whatever keeps a part of a chunk must copy it
		given := rest
		for {
			frame, next, ok, err := c.Next(rest)
			var broken *Error
			if errors.As(err, &broken) {
				o.reason = broken.Reason
				return o
			}
			if err != nil {
				t.Fatal(err)
			}
			if cap(c.begun) > limit {
				t.Fatalf("%d bytes are held, %d are the most", cap(c.begun), limit)
			}
			if !ok {
				break
			}
			if len(frame) > limit {
				t.Fatalf("a frame of %d bytes, %d are the most", len(frame), limit)
			}
			o.frames = append(o.frames, string(frame))
			rest = next
		}
		for i := range given {
			given[i] = 'X'
		}
	}
	o.begun = c.Begun()
	if frame, ok := c.Finish(); ok {
		o.last = string(frame)
	}
	return o
}

func TestFrames(t *testing.T) {
	long := strings.Repeat("x", 17)
	for _, test := range []struct {
		method Method
		stream string
		want   outcome
	}{
		{Newline, "", outcome{}},
		{Newline, "a\nbc\n", outcome{frames: []string{"a", "bc"}}},
		{Newline, "a\r\n\n\x00\xff\n", outcome{frames: []string{"a\r", "", "\x00\xff"}}},
		{Newline, "a\nbc", outcome{frames: []string{"a"}, begun: 2, last: "bc"}},
		{Newline, long[:16] + "\n", outcome{frames: []string{long[:16]}}},
		{Newline, "a\n" + long + "\nb\n", outcome{frames: []string{"a"}, reason: TooLong}},
		{NUL, "a\nb\x00c", outcome{frames: []string{"a\nb"}, begun: 1, last: "c"}},
		{NUL, long, outcome{reason: TooLong}},
		{OctetCounting, "1 a10 <13>a\n<0>r", outcome{frames: []string{"a", "<13>a\n<0>r"}}},
		{OctetCounting, "3 ab", outcome{begun: 3}},
		{OctetCounting, "1", outcome{begun: 1}},
		{OctetCounting, "16 " + long[:16], outcome{frames: []string{long[:16]}}},
		{OctetCounting, "17 " + long, outcome{reason: TooLong}},
		{OctetCounting, "999999999 <13>x", outcome{reason: TooLong}},
		{OctetCounting, strings.Repeat("9", 400), outcome{reason: TooLong}},
		{OctetCounting, "-1 a", outcome{reason: Invalid}},
		{OctetCounting, "+1 a", outcome{reason: Invalid}},
		{OctetCounting, "0 ", outcome{reason: Invalid}},
		{OctetCounting, "01 a", outcome{reason: Invalid}},
		{OctetCounting, " 1 a", outcome{reason: Invalid}},
		{OctetCounting, "1\ta", outcome{reason: Invalid}},
		{OctetCounting, "1a", outcome{reason: Invalid}},
		{OctetCounting, "10 <13>a\n<0>root logged in\n", outcome{frames: []string{"<13>a\n<0>r"}, reason: Invalid}},
		{Syslog, "<13>a\n<14>b\n", outcome{frames: []string{"<13>a", "<14>b"}}},
		{Syslog, "5 <13>a3 <1>", outcome{frames: []string{"<13>a", "<1>"}}},
		{Syslog, "5 <13>a<14>b\n", outcome{frames: []string{"<13>a"}, reason: Invalid}},
		{Syslog, "<13>a\n5 <13>b", outcome{frames: []string{"<13>a"}, reason: Invalid}},
		{Syslog, "<13>a\nforged\n", outcome{frames: []string{"<13>a"}, reason: Invalid}},
		{Syslog, "GET / HTTP/1.1\r\n", outcome{reason: Invalid}},
		{Syslog, "\x16\x03\x01\x02", outcome{reason: Invalid}},
		{Syslog, "<13>a", outcome{begun: 5, last: "<13>a"}},
		{LengthPrefix, "\x00\x00\x00\x02ab\x00\x00\x00\x00\x00\x00\x00\x01\n", outcome{frames: []string{"ab", "", "\n"}}},
		{LengthPrefix, "\x00\x00\x00", outcome{begun: 3}},
		{LengthPrefix, "\x00\x00\x00\x02a", outcome{begun: 5}},
		{LengthPrefix, "\xff\xff\xff\xff", outcome{reason: TooLong}},
		{LengthPrefix, "\x00\x00\x00\x11", outcome{reason: TooLong}},
	} {
		t.Run(fmt.Sprintf("%d %.30q", test.method, test.stream), func(t *testing.T) {
			whole := cut(t, test.method, 16, []byte(test.stream))
			expect(t, whole, test.want)
			var single [][]byte
			for i := range len(test.stream) {
				single = append(single, []byte(test.stream[i:i+1]))
			}
			expect(t, cut(t, test.method, 16, single...), test.want)
		})
	}
}

func expect(t testing.TB, got, want outcome) {
	t.Helper()
	if !slices.Equal(got.frames, want.frames) || got.reason != want.reason || got.begun != want.begun || got.last != want.last {
		t.Errorf("%+v, expected %+v", got, want)
	}
}

// A frame that a framing can carry comes back as it was, whatever the chunks.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		method := Method(rapid.IntRange(int(Newline), int(LengthPrefix)).Draw(rt, "method"))
		frames := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 300)).Draw(rt, "frames")
		counted := rapid.Bool().Draw(rt, "counted")
		var stream []byte
		var want []string
		for _, f := range frames {
			f = carried(method, counted, f)
			stream = encode(stream, method, counted, f)
			want = append(want, string(f))
		}
		got := cut(t, method, 300, chunks(rt, stream)...)
		if !slices.Equal(got.frames, want) || got.reason != "" || got.begun != 0 {
			rt.Fatalf("%q, broken: %q, %d bytes begun; expected %q", got.frames, got.reason, got.begun, want)
		}
	})
}

// carried changes a frame into one that the method can carry.
func carried(method Method, counted bool, f []byte) []byte {
	switch {
	case method == NUL:
		return bytes.ReplaceAll(f, []byte{0}, []byte{1})
	case method == Newline:
		return bytes.ReplaceAll(f, []byte("\n"), []byte("\r"))
	case method == Syslog && !counted:
		return append([]byte("<"), bytes.ReplaceAll(f[min(1, len(f)):], []byte("\n"), []byte("\r"))...)
	case (method == OctetCounting || method == Syslog) && len(f) == 0:
		return []byte("-") // RFC 6587: MSG-LEN begins with a nonzero digit
	default:
		return f
	}
}

func encode(dst []byte, method Method, counted bool, f []byte) []byte {
	switch {
	case method == OctetCounting || method == Syslog && counted:
		return append(fmt.Appendf(dst, "%d ", len(f)), f...)
	case method == LengthPrefix:
		return AppendLengthPrefix(dst, f)
	case method == NUL:
		return append(append(dst, f...), 0)
	default:
		return append(append(dst, f...), '\n')
	}
}

func chunks(rt *rapid.T, stream []byte) [][]byte {
	var all [][]byte
	for len(stream) > 0 {
		n := rapid.IntRange(1, len(stream)).Draw(rt, "chunk")
		all, stream = append(all, stream[:n]), stream[n:]
	}
	return all
}

// FuzzChunks: any chunking gives the frames that the whole stream gives, and
// nothing is held beyond the limit.
func FuzzChunks(f *testing.F) {
	for method := Newline; method <= LengthPrefix; method++ {
		for _, stream := range []string{
			"a\nbc\n", "5 <13>a10 <13>a\n<0>r", "<13>a\n5 <13>b", "99999999999999999999 a", "007 a", "-1 a", "\x00\x00\x00\x02ab\xff\xff\xff\xff", "a\x00b",
		} {
			f.Add(uint8(method), uint8(16), []byte(stream), []byte{1, 2, 3})
		}
	}
	f.Fuzz(func(t *testing.T, method, limit uint8, stream, sizes []byte) {
		m, most := Method(method%5), max(1, int(limit))
		var pieces [][]byte
		for rest, i := stream, 0; len(rest) > 0; i++ {
			n := len(rest)
			if len(sizes) > 0 {
				n = min(n, 1+int(sizes[i%len(sizes)]))
			}
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		expect(t, cut(t, m, most, pieces...), cut(t, m, most, stream))
	})
}

// A stream of 1 GiB without an end is given up after the limit, not held.
func TestEndlessFrame(t *testing.T) {
	for _, method := range []Method{Newline, NUL} {
		c := NewCutter(method, 64<<10)
		chunk := bytes.Repeat([]byte("x"), 4<<10)
		read := 0
		for ; read < 1<<30; read += len(chunk) {
			if _, _, _, err := c.Next(chunk); err != nil {
				break
			}
		}
		if read > 64<<10 || cap(c.begun) > 64<<10 {
			t.Errorf("given up after %d bytes with %d held", read, cap(c.begun))
		}
	}
}

// An announced length costs nothing until bytes arrive.
func TestAnnouncedLengthIsNotAllocated(t *testing.T) {
	c := NewCutter(OctetCounting, 1<<20)
	if _, _, _, err := c.Next([]byte("1048576 ab")); err != nil {
		t.Fatal(err)
	}
	if cap(c.begun) > 64 {
		t.Errorf("%d bytes are held for 2", cap(c.begun))
	}
}

func TestFramesOfAChunkAreNotCopied(t *testing.T) {
	c := NewCutter(Newline, 100)
	chunk := []byte("abc\ndef\n")
	allocated := testing.AllocsPerRun(100, func() {
		rest := chunk
		for ok := true; ok; {
			_, rest, ok, _ = c.Next(rest)
		}
	})
	if allocated != 0 {
		t.Errorf("%v allocations", allocated)
	}
}

func TestDatagrams(t *testing.T) {
	for _, test := range []struct {
		method   Method
		in, want string
	}{
		{Newline, "a\nb\n", "a\nb"}, {Newline, "a\n\n", "a\n"}, {Newline, "a\x00", "a\x00"}, {Newline, "\n", ""}, {Newline, "", ""},
		{NUL, "a\x00", "a"}, {NUL, "a\n", "a\n"},
		{Syslog, "<13>a\x00", "<13>a"}, {Syslog, "<13>a\n", "<13>a"}, {Syslog, "5 <13>a", "5 <13>a"},
	} {
		if got := string(Datagram(test.method, []byte(test.in))); got != test.want {
			t.Errorf("%d %q: %q, expected %q", test.method, test.in, got, test.want)
		}
	}
}
