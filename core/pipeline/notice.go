package pipeline

import (
	"log/slog"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// noticeEvery is how often the log tells of refused records: a plugin that
// refuses all of a busy pipeline's would else fill a disk with lines.
const noticeEvery = 10 * time.Second

// notice tells the log of refused records, the first at once, more of them
// together. It is used by one goroutine.
type notice struct {
	log  *slog.Logger
	text string

	last    time.Time
	records int            // not told yet
	example record.Failure // one of them
}

// tell adds records that failed.
func (n *notice) tell(failures []record.Failure) {
	if n.records == 0 {
		n.example = failures[0]
	}
	n.records += len(failures)
	if time.Since(n.last) >= noticeEvery {
		n.flush()
	}
}

// flush tells of what is left.
func (n *notice) flush() {
	if n.records == 0 {
		return
	}
	n.log.Warn(n.text, "records", n.records, example(n.example))
	n.records, n.last = 0, time.Now()
}

// example describes one of several failures.
func example(f record.Failure) slog.Attr {
	return slog.Group("example", "stage", f.Stage, "code", f.Code, "error", f.Message)
}
