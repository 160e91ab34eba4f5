package pluginhost

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/barnabas-agent/barnabas/core/wire"
)

func TestLogLinesKeepTheirLevelAndFields(t *testing.T) {
	for line, want := range map[string]struct {
		level   slog.Level
		message string
		fields  string
	}{
		`{"@level":"warn","@message":"low disk","@timestamp":"x","free":7}`: {slog.LevelWarn, "low disk", "[fields=[free=7]]"},
		`{"@message":1}`: {slog.LevelInfo, `{"@message":1}`, "[]"},
		`{"@message":"a\nb","pipeline":"forged"}`: {slog.LevelInfo, `a\nb`, "[fields=[pipeline=forged]]"},
		"[ERROR] no":      {slog.LevelError, "[ERROR] no", "[]"},
		"\x1b[31mred\xff": {slog.LevelInfo, `\x1b[31mred\xff`, "[]"},
	} {
		entry := parseLogLine([]byte(line))
		got := strings.ReplaceAll(slog.GroupValue(entry.attrs()...).String(), " ", "")
		if entry.level != want.level || entry.message != want.message || got != want.fields {
			t.Errorf("%s: got %v %q %s", line, entry.level, entry.message, got)
		}
	}
}

func FuzzLogLine(f *testing.F) {
	for _, seed := range []string{`{"@message":1,"@level":{}}`, `{"@message":"x","a":{"b":[1]}}`, "plain", "\x00\x7f\u202e", "panic: x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		entry := parseLogLine(line)
		for _, text := range append([]string{entry.message}, fieldTexts(entry.fields)...) {
			if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q is not printable", text)
			}
		}
		if len(entry.fields) > maxLogFields || len(entry.message) > maxLogLine+16 {
			t.Errorf("%d fields, %d bytes", len(entry.fields), len(entry.message))
		}
	})
}

func fieldTexts(fields []slog.Attr) []string {
	var all []string
	for _, f := range fields {
		all = append(all, f.Key, f.Value.String())
	}
	return all
}

func FuzzLineSplitter(f *testing.F) {
	f.Add([]byte("a\nb\n\nc"), 2)
	f.Add(bytes.Repeat([]byte("x"), 2*maxLogLine), 4096)
	f.Fuzz(func(t *testing.T, text []byte, chunk int) {
		var got []string
		s := lineSplitter{line: func(line []byte, cut bool) {
			if len(line) > maxLogLine || cut && len(line) != maxLogLine {
				t.Errorf("a line of %d bytes, cut: %v", len(line), cut)
			}
			got = append(got, string(line))
		}}
		chunk = max(chunk, 1)
		for rest := text; len(rest) > 0; {
			n := min(chunk, len(rest))
			s.Write(rest[:n])
			rest = rest[n:]
		}
		s.flush()
		var want []string
		for line := range strings.SplitSeq(string(text), "\n") {
			if line != "" {
				want = append(want, line[:min(len(line), maxLogLine)])
			}
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func FuzzDescription(f *testing.F) {
	f.Add([]byte(`{"name":"redact","kind":"STAGE_KIND_INTERCEPTOR","version":"1","protocolVersions":[1]}`))
	f.Add([]byte(`{"name":"\u001b[2J"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := parseDescription(text)
		if err == nil && (d.Name == "" || sanitize(d.Name, 1<<20) != d.Name) {
			t.Errorf("accepted the name %q", d.Name)
		}
	})
}

func TestCrashOutputBeginsWithItsReason(t *testing.T) {
	out := newOutput(discard())
	out.keep([]byte("starting\npanic: no such thing\n\ngoroutine 1 [running]:\n" + strings.Repeat("frame\n", 100)))
	if got := out.last(40); got != "panic: no such thing\n\ngoroutine 1 [runni" {
		t.Errorf("got %q", got)
	}
	quiet := newOutput(discard())
	quiet.keep([]byte("first line\nsecond line\nthird\x07"))
	if got := quiet.last(12); got != `third\a` {
		t.Errorf("got %q", got)
	}
	quiet.keep(bytes.Repeat([]byte("y"), 5*outputKept))
	if len(quiet.kept) > 2*outputKept {
		t.Errorf("%d bytes are kept", len(quiet.kept))
	}
}

func TestHandshakeLineIsBounded(t *testing.T) {
	line, rest, err := readHandshake(strings.NewReader(strings.Repeat("x", 3*maxHandshake)))
	if err != nil || len(line) != maxHandshake {
		t.Errorf("%d bytes, %v", len(line), err)
	}
	if left, err := io.ReadAll(rest); err != nil || len(left) != 2*maxHandshake {
		t.Errorf("%d bytes left, %v", len(left), err)
	}
	line, _, err = readHandshake(strings.NewReader("1|1|unix|/x|grpc"))
	if line != "1|1|unix|/x|grpc" || !errors.Is(err, io.EOF) {
		t.Errorf("%q, %v", line, err)
	}
}

func TestSocketsElsewhereAreRefused(t *testing.T) {
	r := &run{dir: "/run/x/plugin-dir1"}
	for address, ok := range map[string]bool{
		"/run/x/plugin-dir1/plugin2":         true,
		"/run/x/plugin-dir1/../other/plugin": false,
		"/var/run/docker.sock":               false,
		"plugin2":                            false,
	} {
		if _, _, err := r.PluginToHost("unix", address); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func peer(pid, uid int) wire.Peer { return wire.Peer{PID: pid, UID: uint32(uid)} }

// TestAnotherProcessIsNoPeer has the test itself listen: its user is right, its group is not.
func TestAnotherProcessIsNoPeer(t *testing.T) {
	f := newFixture(t)
	s := f.start(t, f.spec(Interceptor, "trial", trial{}))
	if err := s.supervisors[0].current.checkPeer(peer(s.Status().PID, os.Geteuid())); err != nil {
		t.Errorf("the plugin itself: %v", err)
	}
	if s.supervisors[0].current.checkPeer(peer(os.Getpid(), os.Geteuid())) == nil {
		t.Error("a process of another group was accepted")
	}
	if s.supervisors[0].current.checkPeer(peer(s.Status().PID, os.Geteuid()+1)) == nil {
		t.Error("a process of another user was accepted")
	}
}
