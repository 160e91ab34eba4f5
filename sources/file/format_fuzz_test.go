package file

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/barnabas-agent/barnabas/core/charset"
	"github.com/barnabas-agent/barnabas/core/record"
)

func FuzzCRI(f *testing.F) {
	for _, seed := range []string{"2016-10-06T00:17:09.669794202Z stdout P log content 1", "1 stderr F", "1 stdout F:x  ", "", "1  stdout F x", "1 stdout FP x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, ok := parseCRI(line, nil)
		if ok && (!bytes.HasSuffix(line, m.text) || m.time < 0 || m.stream > streamErr) {
			t.Errorf("%q: %+v", line, m)
		}
	})
}

// FuzzDocker compares with encoding/json what both understand.
func FuzzDocker(f *testing.F) {
	for _, seed := range []string{
		`{"log":"a\n","stream":"stdout","time":"2024-01-02T03:04:05.006Z"}`, `{"log":"\ud83d\ude00\ud800\"\\\/\b\f\r\t","attrs":{"a":[1,{}]}}`,
		`{"log":"a","log":"b\n"}`, `{"l\u006fg":"x"}`, `{`, `{"log":1}`, `{"log":"a",}`, `{"x":}`, `[[[[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		m, ok := parseDocker(line, nil)
		if !bytes.Equal(before, line) {
			t.Fatalf("%q was changed", before)
		}
		var object map[string]json.RawMessage
		var log string
		if json.Unmarshal(line, &object) != nil || !utf8.Valid(line) || json.Unmarshal(object["log"], &log) != nil || object["log"][0] != '"' {
			return
		}
		if m.complete {
			m.text = append(bytes.Clone(m.text), '\n')
		}
		if ok && string(m.text) != log {
			t.Errorf("%q: %q, expected %q", line, m.text, log)
		}
	})
}

// FuzzAssembler reads a content at once, and while it grows by any steps, with the
// situation as it is saved between any two of them.
func FuzzAssembler(f *testing.F) {
	f.Add([]byte("1 a\n b\n2 c\nd"), uint8(0), uint8(3))
	f.Add([]byte("1 stdout P a\n1 stderr F b\n1 stdout F c\nx\n"), uint8(1), uint8(5))
	f.Add([]byte("1 stdout P aaaaaaaaaaaaaaaaaaaaa\n1 stderr F b\n1 stdout F cccccccccccccc\n"), uint8(2+16), uint8(1))
	f.Add([]byte(`{"log":"aaaaaaaaaaaaaaaaaaaaaaaaaaa","stream":"stdout"}`+"\n"+`{"log":"\"b\n","stream":"stderr"}`+"\n"), uint8(3+8), uint8(9))
	f.Add([]byte("\x0a\x00a\x00\x0a\x00\xd8\x00\x0a\x00"), uint8(4), uint8(1))
	f.Fuzz(func(t *testing.T, content []byte, choice, step uint8) {
		if len(content) > 4<<10 {
			return
		}
		r := fuzzedRules(choice)
		whole, stepped := assembled(t, &r, content, len(content)), assembled(t, &r, content, int(step)+1)
		if !slices.Equal(whole, stepped) {
			t.Errorf("at once %q, in steps %q", whole, stepped)
		}
	})
}

func fuzzedRules(choice uint8) rules {
	r := rules{maxLine: 16, onLongLine: LongLine(choice / 8 % 3)}
	switch choice % 5 {
	case 1, 2:
		r.format = CRI
	case 3:
		r.format = Docker
	case 4:
		r.charset, _ = charset.Lookup("utf-16le")
	}
	if choice >= 128 {
		r.multiline = &Multiline{Start: regexp.MustCompile(`^\d`), Timeout: time.Hour, MaxLines: 3}
	}
	return r
}

// assembled returns the values of a content that grows by step bytes.
func assembled(t *testing.T, r *rules, all []byte, step int) []string {
	framer := newFramer(r)
	if framer.charset != nil {
		framer.charset.use(0)
	}
	var values []string
	v := view{content: &content{}}
	v.content.last = 0
	for written := 0; ; written = min(written+max(step, 1), len(all)) {
		for {
			b := &record.Batch{Topics: []string{"t"}}
			window := window{data: all[v.position:written], last: written == len(all)}
			block := make([]byte, 0, 8<<10)
			if r.inPlace() {
				block = append(block, window.data...)[:0]
				window.data = block[:len(window.data)]
			}
			b.Value.AddBlock(block)
			framer.assemble(b, &v, window, time.Unix(0, 0))
			used, at := framer.assembler.position()
			if r.inPlace() {
				b.Value.Blocks[0] = block[:used]
			}
			for i := range b.Rows() {
				if b.Ends[i] <= b.Offsets[i] {
					t.Fatalf("a record reaches from %d to %d", b.Offsets[i], b.Ends[i])
				}
				values = append(values, string(b.Value.Bytes(i)))
			}
			v.position, v.content.last = v.position+int64(used), max(v.content.last, framer.assembler.out.at)
			if encoded := at.encode(); encoded != nil {
				decoded, ok := decodeSituation(encoded)
				if !ok || decoded != at {
					t.Fatalf("%+v is saved as %+v", at, decoded)
				}
			}
			v.situation = at
			if !framer.assembler.stopped {
				break
			}
		}
		if written == len(all) {
			return values
		}
	}
}
