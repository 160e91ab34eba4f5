package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
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
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == "" {
		return s.to.Write(p)
	}
	if _, err := io.WriteString(s.to, clearLine); err != nil {
		return 0, err
	}
	n, err := s.to.Write(p)
	if err == nil {
		_, err = io.WriteString(s.to, s.live)
	}
	return n, err
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

// showProgress keeps the live line until ctx ends; only a terminal has one.
func (a *agent) showProgress(ctx context.Context, shown *screen) {
	if !isTerminal(shown) {
		return
	}
	defer shown.show("")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			shown.show(a.progress())
		case <-ctx.Done():
			return
		}
	}
}

// progress is the live line.
func (a *agent) progress() string {
	total, rates := a.meter.read("")
	var lag int64
	for _, l := range a.lines {
		for _, s := range l.sources {
			for _, f := range s.Status() {
				lag += f.Lag
			}
		}
	}
	line := fmt.Sprintf("%s records/s  %s/s  lag %s  %d unacknowledged  %d delivered",
		thousands(int64(rates.DeliveredRecords)), bytesText(int64(rates.DeliveredBytes)), bytesText(lag), a.unacknowledged(), total.DeliveredRecords)
	if total.QuarantinedRecords > 0 {
		line += fmt.Sprintf("  %d quarantined", total.QuarantinedRecords)
	}
	return line
}

// thousands writes a number with its thousands apart.
func thousands(n int64) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// bytesText writes a number of bytes for people.
func bytesText(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB"}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}
