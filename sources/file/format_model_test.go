package file

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/barnabas-agent/barnabas/core/charset"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// TestFormatsAgainstAWholeFile reads files of every format, while they are written
// in pieces that end anywhere and the agent crashes, and compares what it reads with
// what a decoder makes of the whole file.
func TestFormatsAgainstAWholeFile(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "formats")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &formatModel{T: rt, t: t, path: filepath.Join(dir, "a.log"), positions: sourcetest.Positions{}, clock: time.Now()}
		m.choose()
		m.begin()
		defer m.end()
		rt.Repeat(map[string]func(*rapid.T){
			"write":      func(rt *rapid.T) { m.write(rapid.IntRange(0, 80).Draw(rt, "bytes")) },
			"write more": func(rt *rapid.T) { m.write(rapid.IntRange(0, 400).Draw(rt, "bytes")) },
			"read":       func(*rapid.T) { m.read() },
			"read again": func(*rapid.T) { m.read() },
			"deliver":    func(rt *rapid.T) { m.lane.Deliver(rapid.IntRange(1, 4).Draw(rt, "records")) },
			"commit":     func(*rapid.T) { m.commit() },
			"crash":      func(*rapid.T) { m.crash() },
		})
		m.write(len(m.rest))
		m.read()
		if err := os.Rename(m.path, m.path+".1"); err != nil { // so that its last line is complete
			rt.Fatal(err)
		}
		m.clock = m.clock.Add(time.Minute)
		m.read()
		m.read()
		if read := len(m.lane.Records()); read != len(m.want)-m.durable {
			rt.Fatalf("%d records are read, %d expected: %q", read, len(m.want)-m.durable, m.want[m.durable:])
		}
		m.commit()
		if m.lane.Deliver(1 << 30); m.tracks() {
			for _, s := range m.source.Status() {
				if s.Lag != 0 {
					rt.Fatalf("%+v lags after all is delivered", s)
				}
			}
		}
	})
}

type formatModel struct {
	*rapid.T
	t         *testing.T
	path      string
	clock     time.Time
	positions sourcetest.Positions
	rules     rules
	rest      string // not written yet
	want      []string

	source    *Source
	discovers *discoverer
	tailer    *tailer
	lane      *sourcetest.Lane
	durable   int // records before what the run reads
	committed int // records that are delivered, and whose positions are durable
}

func (m *formatModel) begin() {
	config := configOf(filepath.Join(filepath.Dir(m.path), "*.log"))
	config.Format, config.Charset, config.MaxLine = m.rules.format, m.rules.charset, m.rules.maxLine
	config.OnLongLine, config.Multiline, config.Decompress = m.rules.onLongLine, m.rules.multiline, m.rules.decompress
	config.Saved = m.positions.Saved()
	config.Now = func() time.Time { return m.clock }
	m.source = newSource(m.t, config)
	m.discovers = newDiscoverer(m.source, 1)
	m.lane = sourcetest.NewLane(m.t)
	m.lane.Transforms()
	m.tailer = newTailer(m.source, m.lane, m.discovers.inboxes[0], m.discovers.room)
}

func (m *formatModel) end() {
	m.tailer.unpackers.close()
	m.source.Close()
}

func (m *formatModel) tracks() bool { return len(m.source.Status()) > 0 }

func (m *formatModel) write(n int) {
	n = min(n, len(m.rest))
	appendTo(m.t, m.path, m.rest[:n])
	m.rest = m.rest[n:]
}

func (m *formatModel) read() {
	m.discovers.poll(m.clock)
	for m.tailer.take(); m.tailer.ready.len() > 0; m.tailer.take() {
		if err := m.tailer.turn(context.Background()); err != nil {
			m.Fatal(err)
		}
		m.discovers.recut(m.clock)
	}
	records := m.lane.Records()
	for i, r := range records {
		value := r.Value
		if r.Code != "" {
			value = "!" + value
		}
		if m.durable+i >= len(m.want) || m.want[m.durable+i] != value {
			m.Fatalf("record %d of a run that begins behind %d is %q, expected %q", i, m.durable, value, m.want[min(len(m.want), m.durable+i):])
		}
	}
}

func (m *formatModel) commit() {
	m.positions.Commit(m.source)
	m.committed = m.durable + len(m.lane.Records()) - m.lane.Undelivered()
}

// crash loses what is not committed.
func (m *formatModel) crash() {
	m.end()
	m.durable = m.committed
	m.begin()
}

// choose draws the rules, the content, and what is expected of it.
func (m *formatModel) choose() {
	r := &m.rules
	r.maxLine = rapid.IntRange(16, 24).Draw(m.T, "max_line")
	r.onLongLine = rapid.SampledFrom([]LongLine{Split, Split, Truncate, Quarantine}).Draw(m.T, "on_long_line")
	r.format = rapid.SampledFrom([]Format{Lines, Lines, CRI, Docker}).Draw(m.T, "format")
	name := ""
	if r.format == Lines {
		name = rapid.SampledFrom([]string{"utf-8", "utf-16", "utf-32be", "shift_jis", "utf-8"}).Draw(m.T, "encoding")
		r.charset, _ = charset.Lookup(name)
	}
	joining := func(start, follow string) *Multiline {
		l := &Multiline{Timeout: time.Hour, MaxLines: rapid.IntRange(1, 5).Draw(m.T, "max_lines")}
		if start != "" {
			l.Start = regexp.MustCompile(start)
		} else {
			l.Continue = regexp.MustCompile(follow)
		}
		return l
	}
	switch rapid.IntRange(0, 3).Draw(m.T, "multiline") {
	case 0:
		r.multiline = joining(`^\d`, "")
	case 1:
		r.multiline = joining("", `^\s`)
	}
	fragments := m.content(name)
	m.want = wholeFile(r, fragments)
	if rapid.Bool().Draw(m.T, "compressed") {
		r.decompress = true
		m.rest = m.compressed(m.rest)
	}
}

// part is one line of a file, as the reference decoder is told of it.
type part struct {
	stream   int
	complete bool
	text     string
}

// content makes the file, and returns what it holds.
func (m *formatModel) content(encoding string) []part {
	word := rapid.StringOfN(rapid.SampledFrom([]rune("12a b\"\\\té日")), 0, 30, 60)
	switch encoding {
	case "utf-8", "":
		word = rapid.OneOf(word, rapid.SampledFrom([]string{"", strings.Repeat("x", m.rules.maxLine), strings.Repeat("y", 3*m.rules.maxLine)}))
	case "shift_jis":
		word = rapid.StringOfN(rapid.SampledFrom([]rune("12a b日本ｱ")), 0, 30, 60)
	}
	const at = "2016-10-06T00:17:09.669794202Z"
	var parts []part
	var file strings.Builder
	for range rapid.IntRange(0, 30).Draw(m.T, "lines") {
		p := part{complete: true, text: word.Draw(m.T, "text")}
		switch m.rules.format {
		case Lines:
			file.WriteString(p.text + "\n")
		case CRI:
			p.stream, p.complete = m.partial()
			file.WriteString(at + " " + []string{"stdout", "stderr"}[p.stream] + " " + map[bool]string{true: "F", false: "P"}[p.complete] + " " + p.text + "\n")
		case Docker:
			p.stream, p.complete = m.partial()
			text := p.text
			if p.complete {
				text += "\n"
			}
			line, err := json.Marshal(map[string]string{"log": text, "stream": []string{"stdout", "stderr"}[p.stream], "time": at})
			if err != nil {
				m.Fatal(err)
			}
			file.WriteString(string(line) + "\n")
		}
		parts = append(parts, p)
	}
	m.rest = file.String()
	if m.rules.format == Lines && rapid.Bool().Draw(m.T, "without end") && len(parts) > 0 {
		m.rest = strings.TrimSuffix(m.rest, "\n")
		if parts[len(parts)-1].text == "" {
			parts = parts[:len(parts)-1] // an empty line without an end is none
		}
	}
	if m.rules.charset != nil {
		layout := m.rules.charset.Layout(m.rules.charset.Layouts() - 1)
		encoded, err := layout.Encode(m.rest)
		if err != nil {
			m.Fatal(err)
		}
		m.rest = encoded
		if encoding == "utf-16" {
			m.rest = "\xff\xfe" + m.rest
		}
	}
	return parts
}

func (m *formatModel) partial() (stream int, complete bool) {
	return rapid.IntRange(0, 1).Draw(m.T, "stream"), rapid.IntRange(0, 2).Draw(m.T, "partial") > 0
}

func (m *formatModel) compressed(content string) string {
	pack := gzipOf
	if rapid.Bool().Draw(m.T, "zstd") {
		pack = func(t testing.TB, s string) string { return zstdOf(t, s) }
	}
	var b strings.Builder
	for content != "" {
		n := min(len(content), rapid.IntRange(1, 400).Draw(m.T, "member"))
		b.WriteString(pack(m.t, content[:n]))
		content = content[n:]
	}
	return b.String()
}

// made is a record of the reference decoder: where its first byte stands, and a "!"
// before what is refused.
type made struct {
	first int
	value string
}

// wholeFile makes the records of all lines of a file at once.
func wholeFile(r *rules, parts []part) []string {
	var all []made
	for stream := range 2 {
		var group []made // of messages
		flush := func() {
			if len(group) > 0 {
				values := make([]string, len(group))
				for i, g := range group {
					values[i] = g.value
				}
				all = append(all, made{group[0].first, strings.Join(values, "\n")})
				group = nil
			}
		}
		text, firsts, open := "", []int(nil), false // the line of each byte
		finish := func(first int) {
			if len(text) > r.maxLine {
				flush()
				firsts[0] = first
				all = append(all, longMessage(r, text, firsts)...)
			} else if r.multiline == nil {
				all = append(all, made{first, text})
			} else {
				length := 0
				for _, g := range group {
					length += len(g.value) + 1
				}
				if len(group) == r.multiline.MaxLines || length+len(text) > r.maxLine || r.multiline.begins([]byte(text)) {
					flush()
				}
				group = append(group, made{first, text})
			}
			text, firsts, open = "", nil, false
		}
		first := 0
		for i, p := range parts {
			if p.stream != stream {
				continue
			}
			if !open {
				first, open = i, true
			}
			text += p.text
			firsts = append(firsts, slices.Repeat([]int{i}, len(p.text))...)
			if p.complete {
				finish(first)
			}
		}
		if open {
			finish(first)
		}
		flush()
	}
	slices.SortStableFunc(all, func(a, b made) int { return a.first - b.first })
	values := make([]string, len(all))
	for i, record := range all {
		values[i] = record.value
	}
	return values
}

func longMessage(r *rules, text string, firsts []int) []made {
	var all []made
	for at := 0; at < len(text); {
		end := min(at+r.maxLine, len(text))
		for r.charset != nil && end < len(text) && !utf8.RuneStart(text[end]) {
			end--
		}
		value := text[at:end]
		if r.onLongLine == Quarantine {
			value = "!" + value
		}
		all = append(all, made{firsts[at], value})
		if r.onLongLine == Truncate {
			break
		}
		at = end
	}
	return all
}
