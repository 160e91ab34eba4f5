package file

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/charset"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// read lets a source read one file to its end, and returns the records.
func readOnce(t *testing.T, change func(*Config), content string) []sourcetest.Record {
	t.Helper()
	r := newRig(t, "*.log")
	r.config.Once = true
	r.config.MaxLine = 16
	change(&r.config)
	r.write("a.log", content)
	r.start()
	if err := r.running.Wait(); err != nil {
		t.Fatal(err)
	}
	r.lane.Deliver(1 << 30)
	for _, s := range r.source.Status() {
		if s.Lag != 0 {
			t.Errorf("%+v lags after all was read", s)
		}
	}
	return r.lane.Records()
}

// expectValues compares values; a refused one is written with a "!" before it.
func expectValues(t *testing.T, records []sourcetest.Record, want ...string) {
	t.Helper()
	got := make([]string, len(records))
	for i, r := range records {
		got[i] = r.Value
		if r.Code != "" {
			got[i] = "!" + got[i]
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("read %q, expected %q", got, want)
	}
}

func x(n int) string { return strings.Repeat("x", n) }

func TestLongLines(t *testing.T) {
	for name, c := range map[string]struct {
		policy  LongLine
		content string
		want    []string
	}{
		"truncate":                {Truncate, "a\n" + x(40) + "\nb\n", []string{"a", x(16), "b"}},
		"truncate exact":          {Truncate, x(16) + "\n" + x(17) + "\n", []string{x(16), x(16)}},
		"truncate without end":    {Truncate, x(40), []string{x(16)}},
		"quarantine":              {Quarantine, "a\n" + x(40) + "\nb\n", []string{"a", "!" + x(16), "!" + x(16), "!" + x(8), "b"}},
		"quarantine exact":        {Quarantine, x(16) + "\n" + x(17) + "\n", []string{x(16), "!" + x(16), "!x"}},
		"quarantine twice":        {Quarantine, x(32) + "\n" + x(18) + "\n", []string{"!" + x(16), "!" + x(16), "!" + x(16), "!xx"}},
		"quarantine without end":  {Quarantine, x(18), []string{"!" + x(16), "!xx"}},
		"truncate in the middle":  {Truncate, x(16) + "\n" + x(400) + "\n\nc\n", []string{x(16), x(16), "", "c"}},
		"truncate one after next": {Truncate, x(50) + "\n" + x(50) + "\n" + x(50) + "\nb", []string{x(16), x(16), x(16), "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			expectValues(t, readOnce(t, func(config *Config) { config.OnLongLine = c.policy }, c.content), c.want...)
		})
	}
}

func TestCRI(t *testing.T) {
	const at = "2016-10-06T00:17:09.669794202Z "
	for name, c := range map[string]struct {
		policy  LongLine
		content string
		want    []string
	}{
		"full":                   {Split, at + "stdout F one\n" + at + "stderr F two\n", []string{"one", "two"}},
		"partial":                {Split, at + "stdout P one\n" + at + "stdout F two\n", []string{"onetwo"}},
		"spaces are the message": {Split, at + "stdout F  a  \n", []string{" a  "}},
		"empty":                  {Split, at + "stdout F \n" + at + "stdout F\n", []string{"", ""}},
		"more tags":              {Split, at + "stdout P:x a\n" + at + "stdout F:y:z b\n", []string{"ab"}},
		"interleaved": {Split, at + "stdout P a\n" + at + "stderr P b\n" + at + "stdout F c\n" + at + "stderr F d\n" + at + "stdout F e\n",
			[]string{"ac", "bd", "e"}},
		"order of first lines": {Split, at + "stderr P b\n" + at + "stdout F c\n" + at + "stdout F d\n" + at + "stderr F e\n", []string{"be", "c", "d"}},
		"not of the format":    {Split, "plain\n" + at + "stdout P a\n2016 stdin F x\n" + at + "stdout F b\n\n", []string{"plain", "ab", "2016 stdin F x", ""}},
		"unfinished":           {Split, at + "stdout P a\n" + at + "stdout P b\n", []string{"ab"}},
		"no end of line":       {Split, at + "stdout F abc", []string{"abc"}},
		"long":                 {Split, at + "stdout F " + x(40) + "\n", []string{x(16), x(16), x(8)}},
		"long in parts":        {Split, at + "stdout P " + x(10) + "\n" + at + "stdout P " + x(10) + "\n" + at + "stdout F " + x(10) + "\n", []string{x(16), x(14)}},
		"exact in parts":       {Split, at + "stdout P " + x(16) + "\n" + at + "stdout F \n", []string{x(16)}},
		"truncated in parts": {Truncate, at + "stdout P " + x(10) + "\n" + at + "stdout P " + x(10) + "\n" + at + "stderr F e\n" + at + "stdout F " + x(10) + "\n" + at + "stdout F z\n",
			[]string{x(16), "e", "z"}},
		"refused in parts": {Quarantine, at + "stdout P " + x(10) + "\n" + at + "stderr F e\n" + at + "stdout F " + x(10) + "\n" + at + "stdout F z\n",
			[]string{"!" + x(16), "e", "!" + x(4), "z"}},
	} {
		t.Run(name, func(t *testing.T) {
			expectValues(t, readOnce(t, func(config *Config) { config.Format, config.OnLongLine = CRI, c.policy }, c.content), c.want...)
		})
	}
}

func TestDocker(t *testing.T) {
	const rest = `,"stream":"stdout","time":"2024-01-02T03:04:05.006Z"}` + "\n"
	for name, c := range map[string]struct {
		content string
		want    []string
	}{
		"full":          {`{"log":"one\n"` + rest, []string{"one"}},
		"partial":       {`{"log":"one "` + rest + `{"log":"two\n"` + rest, []string{"one two"}},
		"escapes":       {`{"log":"\"\\\/\b\f\r\t\u0041\u00e9\n"` + rest, []string{"\"\\/\b\f\r\tAé"}},
		"newline only":  {`{"log":"\n"` + rest, []string{""}},
		"two newlines":  {`{"log":"a\n\n"` + rest, []string{"a\n"}},
		"any order":     {`{"time":"x","attrs":{"a":[1,"}",null]},"stream":"stderr","log":"a\n"}` + "\n", []string{"a"}},
		"other stream":  {`{"log":"a\n","stream":"stdin"}` + "\n", []string{`{"log":"a\n","stream":"stdin"}`}},
		"broken":        {`{"log":"a\n"` + "\n" + `{"log":"\x"}` + "\n", []string{`{"log":"a\n"`, `{"log":"\x"}`}},
		"no log":        {`{"stream":"stdout"}` + "\n", []string{`{"stream":"stdout"}`}},
		"long in parts": {`{"log":"0123456789"` + rest + `{"log":"abcdefghij\n"` + rest, []string{"0123456789abcdef", "ghij"}},
	} {
		t.Run(name, func(t *testing.T) {
			change := func(config *Config) {
				config.Format = Docker
				if !strings.HasPrefix(name, "long") {
					config.MaxLine = 64
				}
			}
			expectValues(t, readOnce(t, change, c.content), c.want...)
		})
	}
	pair := `{"log":"\ud83d\ude00\ud800x\ude00\n"` + rest
	expectValues(t, readOnce(t, func(config *Config) { config.Format = Docker }, pair), "😀\uFFFDx\uFFFD")
}

func TestTimesOfContainers(t *testing.T) {
	now := time.Date(2024, 1, 2, 3, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2024-01-02T03:04:05.006Z":       now.Add(4*time.Minute + 5006*time.Millisecond),
		"2024-01-02T04:59:05.5+01:00":    now.Add(59*time.Minute + 5500*time.Millisecond),
		"2024-01-02T04:00:01Z":           now, // too far ahead
		"2023-01-02T04:00:01.123456789Z": time.Date(2023, 1, 2, 4, 0, 1, 123e6, time.UTC),
		"1969-01-01T00:00:00Z":           now,
		"2024-13-02T04:00:01Z":           now,
		"2024":                           now,
	} {
		for format, content := range map[Format]string{
			CRI:    text + " stdout F a\n",
			Docker: `{"log":"a\n","stream":"stdout","time":"` + text + `"}` + "\n",
		} {
			records := readOnce(t, func(config *Config) {
				config.Format = format
				config.Now = func() time.Time { return now }
			}, content)
			if len(records) != 1 || records[0].Value != "a" || records[0].Timestamp != want.UnixMilli() {
				t.Errorf("%v %s: %+v, expected %d", format, text, records, want.UnixMilli())
			}
		}
	}
}

func encode(t testing.TB, name, text string) string {
	t.Helper()
	c, err := charset.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	layout := c.Layout(c.Layouts() - 1)
	encoded, err := layout.Encode(text)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func TestEncodings(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		want    []string
	}{
		"utf-16":       {"\xff\xfe" + encode(t, "utf-16le", "añ\n\u010a€\n😀"), []string{"añ", "\u010a€", "😀"}},
		"utf-16be":     {encode(t, "utf-16be", "a\nb\n"), []string{"a", "b"}},
		"utf-16le":     {"\xff\xfe" + encode(t, "utf-16le", "a\r\n\nb\n"), []string{"a\r", "", "b"}},
		"utf-32":       {"\x00\x00\xfe\xff" + encode(t, "utf-32be", "a\n😀\n"), []string{"a", "😀"}},
		"utf-32le":     {encode(t, "utf-32le", "a\n😀\n"), []string{"a", "😀"}},
		"windows-1252": {"\x80uro\n\xe9\n", []string{"€uro", "é"}},
		"shift_jis":    {encode(t, "shift_jis", "日本語\nテスト\n"), []string{"日本語", "テスト"}},
		"gb18030":      {encode(t, "gb18030", "中文\n€\n"), []string{"中文", "€"}},
		"euc-kr":       {encode(t, "euc-kr", "한국\n"), []string{"한국"}},
		"big5":         {encode(t, "big5", "繁體\n"), []string{"繁體"}},
		"ibm037":       {encode(t, "ibm037", "abc\ndef\n"), []string{"abc", "def"}},
		"euc-jp":       {"a\xff\nb\n\xa4", []string{"a\uFFFD", "b", "\uFFFD"}},
		"utf-16be ":    {"\x00a\x00\n\xd8\x00\x00b\x00\n\x00", []string{"a", "\uFFFDb", "\uFFFD"}},
		"latin1":       {strings.Repeat("\xe9", 20) + "\n" + strings.Repeat("\xe9", 8) + "\n", []string{strings.Repeat("é", 8), strings.Repeat("é", 8), strings.Repeat("é", 4), strings.Repeat("é", 8)}},
		"iso-8859-1":   {x(16) + "\n" + x(17) + "\n" + x(15) + "\xe9\n", []string{x(16), x(16), "x", x(15), "é"}},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := charset.Lookup(name)
			if err != nil {
				t.Fatal(err)
			}
			expectValues(t, readOnce(t, func(config *Config) { config.Charset = set }, c.content), c.want...)
		})
	}
}

func TestMultiline(t *testing.T) {
	start := &Multiline{Start: regexp.MustCompile(`^\d`), Timeout: time.Minute, MaxLines: 3}
	follow := &Multiline{Continue: regexp.MustCompile(`^\s|^}$`), Timeout: time.Minute, MaxLines: 3}
	for name, c := range map[string]struct {
		rule    *Multiline
		policy  LongLine
		content string
		want    []string
	}{
		"start":            {start, Split, "1a\nb\n2\n3\nc\n", []string{"1a\nb", "2", "3\nc"}},
		"no first start":   {start, Split, "a\nb\n1\n", []string{"a\nb", "1"}},
		"continue":         {follow, Split, "a\n b\nc\n}\r\nd", []string{"a\n b", "c\n}\r", "d"}},
		"max_lines":        {start, Split, "1\na\nb\nc\nd\n2\n", []string{"1\na\nb", "c\nd", "2"}},
		"max_line":         {start, Split, "1234567\nabcdefgh\nx\n2\n", []string{"1234567\nabcdefgh", "x", "2"}},
		"above max_line":   {start, Split, "12345678\nabcdefgh\nx\n2\n", []string{"12345678", "abcdefgh\nx", "2"}},
		"long line":        {start, Split, "1\n" + x(20) + "\na\n2\n", []string{"1", x(16), "xxxx", "a", "2"}},
		"long truncated":   {start, Truncate, "1\n" + x(20) + "\na\n2\n", []string{"1", x(16), "a", "2"}},
		"long refused":     {start, Quarantine, "1\n" + x(20) + "\na\n2\n", []string{"1", "!" + x(16), "!xxxx", "a", "2"}},
		"empty lines":      {start, Split, "1\n\n\n2\n\n", []string{"1\n\n", "2\n"}},
		"last without end": {start, Split, "1\na", []string{"1\na"}},
	} {
		t.Run(name, func(t *testing.T) {
			change := func(config *Config) { config.Multiline, config.OnLongLine = c.rule, c.policy }
			expectValues(t, readOnce(t, change, c.content), c.want...)
			change = func(config *Config) {
				config.Multiline, config.OnLongLine = c.rule, c.policy
				config.Charset, _ = charset.Lookup("utf-16")
			}
			expectValues(t, readOnce(t, change, "\xff\xfe"+encode(t, "utf-16", c.content)), c.want...)
			change = func(config *Config) { config.Multiline, config.OnLongLine, config.Format = c.rule, c.policy, CRI }
			var lines strings.Builder
			for line := range strings.Lines(c.content) {
				lines.WriteString("2016-10-06T00:17:09.669794202Z stdout F " + strings.TrimSuffix(line, "\n") + "\n")
			}
			expectValues(t, readOnce(t, change, lines.String()), c.want...)
		})
	}
}

func TestMultilineOfTwoStreams(t *testing.T) {
	line := func(at, rest string) string { return "2016-10-06T00:17:" + at + "Z " + rest + "\n" }
	change := func(config *Config) {
		config.Format = CRI
		config.Multiline = &Multiline{Start: regexp.MustCompile(`^\d`), Timeout: 5 * time.Second, MaxLines: 100}
	}
	expectValues(t, readOnce(t, change, line("01", "stdout F 1")+line("01", "stderr F 2")+line("02", "stdout F a")+
		line("02", "stderr F b")+line("03", "stdout F 3")+line("03", "stderr F c")), "1\na", "2\nb\nc", "3")
	expectValues(t, readOnce(t, change, line("01", "stderr F 1")+line("02", "stdout F 2")+line("06", "stdout F a")+
		line("07", "stderr F b")), "1", "2\na", "b")
}
