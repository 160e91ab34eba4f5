// Package stdin is the source of what is piped into the agent: lines of its
// standard input.
//
// A pipe can't be read again, so what is read goes through a spool, as what comes
// from a socket does: a line that has been read survives a stop and a crash of the
// agent. Nothing is read that the spool has no room for: a full one has the writer
// of the pipe wait.
package stdin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/spool"
)

const (
	// readSize is what one system call reads: what a pipe holds by default (pipe(7)).
	readSize = 64 << 10
	// grace is how long what was read may take to get into the spool at a stop.
	grace = 2 * time.Second
)

// Config is all that a source needs.
type Config struct {
	Input   *os.File     // borrowed: it is neither closed nor made non-blocking
	MaxLine int          // bytes of a line without its end; longer ones are split
	Spool   *spool.Spool // closed by whoever opened it
	Logger  *slog.Logger
	Now     func() time.Time
}

// Source reads lines until the input ends. Run is called once.
type Source struct {
	config Config
	log    *slog.Logger
}

// New makes a source and reads nothing.
func New(config Config) *Source {
	return &Source{config: config, log: config.Logger}
}

// Run reads until ctx ends, or the input does and all of it is submitted.
func (s *Source) Run(ctx context.Context, lanes []record.Lane) error {
	return s.config.Spool.Run(ctx, lanes, s.read)
}

// Checkpoint implements the pipeline's source.
func (s *Source) Checkpoint(dst []record.Checkpoint) []record.Checkpoint {
	return s.config.Spool.Checkpoint(dst)
}

// Committed frees what the spool has delivered.
func (s *Source) Committed() { s.config.Spool.Committed() }

// read puts lines into the spool. What was read when ctx ends is kept, a line
// without its end included: nobody could read the rest of it.
func (s *Source) read(ctx context.Context) error {
	wake, err := newWaker(ctx)
	if err != nil {
		return err
	}
	defer wake.close()
	keep, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })()
	lines := splitter{max: s.config.MaxLine, buffer: make([]byte, 0, s.config.MaxLine+readSize)}
	for {
		err := s.fill(ctx, wake, &lines)
		ended := err != nil
		entries := lines.cut(ended, s.config.Now().UnixMilli())
		if taken, failed := s.config.Spool.Enqueue(keep, entries); failed != nil {
			return fmt.Errorf("standard input: %d lines were read and can't be kept: %w", len(entries)-taken, failed)
		}
		lines.drop()
		switch {
		case errors.Is(err, errEnd):
			s.log.Info("standard input has ended")
			return nil
		case ended:
			return err
		}
	}
}

// errEnd is the end of the input.
var errEnd = errors.New("the input has ended")

// fill waits for something to read, and for room for it, and reads.
func (s *Source) fill(ctx context.Context, wake *waker, lines *splitter) error {
	// A line takes at least its end.
	if err := s.config.Spool.Room(ctx, readSize+1, len(lines.buffer)+readSize); err != nil {
		return err
	}
	if err := wake.wait(ctx, s.config.Input); err != nil {
		return err
	}
	target := lines.buffer[len(lines.buffer):]
	n, err := unix.Read(int(s.config.Input.Fd()), target[:readSize])
	switch {
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		return nil // another process has read it
	case err != nil:
		return fmt.Errorf("read standard input: %w", err)
	case n == 0:
		return errEnd
	}
	lines.buffer = lines.buffer[:len(lines.buffer)+n]
	return nil
}

// waker ends a wait for input when a context ends: a blocking read would hold
// its thread, and what it reads, for ever.
type waker struct {
	event int // an eventfd; owned
	stop  func() bool
	told  chan struct{} // closed when the context's end has been told
}

func newWaker(ctx context.Context) (*waker, error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	w := &waker{event: event, told: make(chan struct{})}
	w.stop = context.AfterFunc(ctx, func() {
		defer close(w.told)
		one := [8]byte{1} // a count of 1 or, with the other byte order, a large one: either wakes
		_, _ = unix.Write(event, one[:])
	})
	return w, nil
}

// close releases the event, which nobody tells any more.
func (w *waker) close() {
	if !w.stop() {
		<-w.told
	}
	_ = unix.Close(w.event)
}

// wait returns once a read of input does not wait, or ctx has ended.
func (w *waker) wait(ctx context.Context, input *os.File) error {
	for {
		both := []unix.PollFd{{Fd: int32(input.Fd()), Events: unix.POLLIN}, {Fd: int32(w.event), Events: unix.POLLIN}}
		_, err := unix.Poll(both, -1)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for standard input: %w", err)
		case err == nil && both[0].Revents != 0:
			return nil // the end and an error are the read's to tell
		}
	}
}

// Problem says why nothing is read, "" when something is.
func (s *Source) Problem() string { return s.config.Spool.Status().Problem }
