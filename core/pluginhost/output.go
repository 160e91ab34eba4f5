package pluginhost

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Bounds of what a plugin's output may cost the agent.
const (
	maxLogLine    = 8 << 10                // bytes of a line that are looked at; the rest of it is left out
	linesPerSec   = 100                    // lines logged; what is above is counted
	bytesPerSec   = 64 << 20               // bytes read; a plugin that prints more is slowed down
	readChunk     = 32 << 10               // bytes per read
	outputKept    = 64 << 10               // last bytes kept as the crash output
	outputShown   = 2 << 10                // last bytes shown in an error
	drainDeadline = 200 * time.Millisecond // for output in a pipe that a grandchild holds open
)

// output takes what a plugin prints: it keeps the last of it, and logs lines
// with their control characters escaped, at most so many a second.
type output struct {
	logger *slog.Logger
	lines  *rate.Limiter
	bytes  *rate.Limiter

	mu      sync.Mutex
	kept    []byte // guarded by mu: the last bytes, up to twice outputKept
	skipped int    // guarded by mu: lines over the limit and not reported yet
	dumping bool   // guarded by mu: a crash's report has begun
}

// newOutput returns an output that logs to logger.
func newOutput(logger *slog.Logger) *output {
	return &output{
		logger: logger,
		lines:  rate.NewLimiter(linesPerSec, linesPerSec),
		bytes:  rate.NewLimiter(bytesPerSec, bytesPerSec),
	}
}

// drain reads a pipe to its end, or to the deadline that follows the process's
// end, and closes it. keep says whether what is read belongs to the crash output.
func (o *output) drain(pipe *os.File, from io.Reader, keep bool) {
	defer pipe.Close()
	lines := lineSplitter{line: o.log}
	chunk := make([]byte, readChunk)
	for {
		n, err := from.Read(chunk)
		if n > 0 {
			if keep {
				o.keep(chunk[:n])
			}
			_, _ = lines.Write(chunk[:n]) // it takes everything
			// The limiter's burst exceeds a chunk and the context never ends, so this only waits.
			_ = o.bytes.WaitN(context.Background(), n)
		}
		if err != nil {
			lines.flush()
			o.reportSkipped()
			return
		}
	}
}

// keep remembers the last bytes printed.
func (o *output) keep(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = append(o.kept, b...)
	if over := len(o.kept) - outputKept; over > outputKept {
		o.kept = append(o.kept[:0], o.kept[over:]...)
	}
}

// last returns up to n bytes, escaped: of what was printed last, or of a crash's
// report from its beginning, where the reason stands.
func (o *output) last(n int) string {
	o.mu.Lock()
	kept := string(o.kept)
	o.mu.Unlock()
	if at := crashReport(kept); at >= 0 {
		kept = kept[at:]
		kept = kept[:min(n, len(kept))]
	} else if over := len(kept) - n; over > 0 {
		kept = kept[over:]
		if _, rest, found := strings.Cut(kept, "\n"); found {
			kept = rest
		}
	}
	var b strings.Builder
	for line := range strings.Lines(kept) {
		b.WriteString(sanitize(strings.TrimRight(line, "\r\n"), maxLogLine))
		b.WriteByte('\n')
	}
	return strings.TrimRight(b.String(), "\n")
}

// crashReport returns where Go's runtime began to report a crash, or -1.
func crashReport(printed string) int {
	for at := 0; at < len(printed); {
		if isCrash(printed[at:]) {
			return at
		}
		next := strings.IndexByte(printed[at:], '\n')
		if next < 0 {
			break
		}
		at += next + 1
	}
	return -1
}

// isCrash reports whether a line begins a crash's report of Go's runtime.
func isCrash(line string) bool {
	return strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") || strings.HasPrefix(line, "SIGQUIT: ")
}

// log writes one line, or counts it when there are too many.
func (o *output) log(line []byte, cut bool) {
	if len(line) == 0 {
		return
	}
	if !o.lines.Allow() {
		o.mu.Lock()
		o.skipped++
		o.mu.Unlock()
		return
	}
	o.reportSkipped()
	entry := parseLogLine(line)
	if o.inCrash(string(line)) {
		entry.level = slog.LevelDebug // it comes again, whole, with the report of the restart
	}
	if cut {
		entry.message += " … (line cut)"
	}
	o.logger.LogAttrs(context.Background(), entry.level, entry.message, entry.attrs()...)
}

// inCrash reports whether a line belongs to a crash's report, which lasts to the end.
func (o *output) inCrash(line string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dumping = o.dumping || isCrash(line)
	return o.dumping
}

// reportSkipped says how many lines were left out since the last time.
func (o *output) reportSkipped() {
	o.mu.Lock()
	skipped := o.skipped
	o.skipped = 0
	o.mu.Unlock()
	if skipped > 0 {
		o.logger.Warn("the plugin prints too much; lines were left out", "lines", skipped)
	}
}

// lineSplitter cuts a stream into lines of bounded length. It is a writer for
// go-plugin's copy of a plugin's output; one goroutine uses it.
type lineSplitter struct {
	line func(line []byte, cut bool) // gets each line without its end; cut: the rest is left out
	part []byte
	cut  bool
}

// Write never fails and keeps nothing of b.
func (s *lineSplitter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			s.add(b)
			break
		}
		s.add(b[:end])
		s.flush()
		b = b[end+1:]
	}
	return n, nil
}

// add appends to the line as far as it may grow.
func (s *lineSplitter) add(b []byte) {
	room := maxLogLine - len(s.part)
	if len(b) > room {
		b, s.cut = b[:room], true
	}
	s.part = append(s.part, b...)
}

// flush hands the line on, if there is one, and begins the next.
func (s *lineSplitter) flush() {
	if len(s.part) > 0 {
		s.line(s.part, s.cut)
	}
	s.part, s.cut = s.part[:0], false
}

// maxHandshake bounds the first line of a plugin's output.
const maxHandshake = 4 << 10

// readHandshake returns the first line that a plugin prints on its stdout,
// without its end, and what is left to read.
func readHandshake(stdout io.Reader) (line string, rest *bufio.Reader, err error) {
	reader := bufio.NewReaderSize(stdout, maxHandshake)
	first, err := reader.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = nil
	}
	return strings.TrimRight(string(first), "\r\n"), reader, err
}
