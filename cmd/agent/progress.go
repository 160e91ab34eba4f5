package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// screen is a terminal whose last line is a live one: what is written goes above it.
type screen struct {
	to io.Writer

	mu   sync.Mutex
	live string // shown now, without line end; "" when there is none
}

// clearLine returns to the line's beginning and empties it (ECMA-48 EL).
const clearLine = "\r\x1b[K"

// Write writes above the live line.
func (s *screen) Write(p []byte) (n int, err error) {
	err = s.around(func() error {
		var failed error
		n, failed = s.to.Write(p)
		return failed
	})
	return n, err
}

// above writes a text above the live line to another stream, which may be the same terminal.
func (s *screen) above(to io.Writer, text string) error {
	return s.around(func() error {
		_, err := io.WriteString(to, text)
		return err
	})
}

// around takes the live line away while something is written.
func (s *screen) around(write func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == "" {
		return write()
	}
	// What matters is what is written; a terminal without its live line is none the worse.
	_, _ = io.WriteString(s.to, clearLine)
	err := write()
	_, _ = io.WriteString(s.to, s.live)
	return err
}

// show replaces the live line. A terminal that can't be written to is no reason to stop.
func (s *screen) show(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live != "" || line != "" {
		_, _ = io.WriteString(s.to, clearLine+line)
	}
	s.live = line
}

// fit cuts a line to the terminal's width: one that wraps could not be cleared.
func (s *screen) fit(line string) string {
	file, ok := s.to.(*os.File)
	if !ok {
		return line
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil || width <= 1 || len(line) < width {
		return line
	}
	return line[:width-1]
}

// showProgress keeps the live line until ctx ends; only a terminal has one.
func (a *agent) showProgress(ctx context.Context) {
	if !isTerminal(a.shown) {
		return
	}
	defer a.shown.show("")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.shown.show(a.shown.fit(a.progress()))
		case <-ctx.Done():
			return
		}
	}
}

// progress is the live line.
func (a *agent) progress() string {
	total, rates := a.meter.read("")
	line := fmt.Sprintf("%s records/s  %s/s  lag %s  %d unacknowledged  %d delivered",
		thousands(int64(rates.DeliveredRecords)), bytesText(int64(rates.DeliveredBytes)), bytesText(a.lag()), a.unacknowledged(), total.DeliveredRecords)
	if total.QuarantinedRecords > 0 {
		line += fmt.Sprintf("  %d quarantined", total.QuarantinedRecords)
	}
	return line
}
