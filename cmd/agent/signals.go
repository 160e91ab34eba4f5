package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// sameSignal is the time in which a repeated signal is the same request:
// timeout(1), and shells that end a job, send it to the process and to its group.
const sameSignal = 100 * time.Millisecond

// signalWatch turns the process's signals into what the agent does.
type signalWatch struct {
	signals chan os.Signal // owned by the runtime; closed by nobody
	log     *slog.Logger
	stop    context.CancelCauseFunc // at the first signal to end
	abort   func()                  // at the second
	now     func() time.Time

	ended   chan struct{} // closed by end
	running sync.WaitGroup
}

// watchSignals takes the signals over until end is called.
func watchSignals(log *slog.Logger, stop context.CancelCauseFunc, abort func()) *signalWatch {
	w := &signalWatch{
		signals: make(chan os.Signal, 8), log: log, stop: stop, abort: abort, now: time.Now,
		ended: make(chan struct{}),
	}
	// With SIGPIPE taken over, a reader of the output that goes away is an error
	// of that write and not the end of the agent.
	signal.Notify(w.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	w.running.Go(w.run)
	return w
}

// end gives the signals back.
func (w *signalWatch) end() {
	signal.Stop(w.signals)
	close(w.ended)
	w.running.Wait()
}

func (w *signalWatch) run() {
	var first time.Time // when the agent was asked to stop
	for {
		select {
		case got := <-w.signals:
			switch {
			case got == syscall.SIGPIPE:
			case got == syscall.SIGHUP:
				w.log.Info("SIGHUP: nothing changed, this version does not reload its configuration")
			case first.IsZero():
				first = w.now()
				w.log.Info("stopping", "signal", got.String())
				w.stop(errStopped)
			case w.now().Sub(first) >= sameSignal:
				w.abort()
			}
		case <-w.ended:
			return
		}
	}
}
