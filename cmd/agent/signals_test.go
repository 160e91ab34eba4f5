package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watched runs a signalWatch on signals of the test's own.
func watched(t *testing.T, test func(send func(os.Signal), stopped context.Context, aborted func() int, log *bytes.Buffer)) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var mu sync.Mutex
		aborts := 0
		ctx, stop := context.WithCancelCause(t.Context())
		defer stop(nil)
		w := &signalWatch{
			signals: make(chan os.Signal, 8), log: slog.New(slog.NewTextHandler(&log, nil)), stop: stop,
			abort: func() { mu.Lock(); aborts++; mu.Unlock() },
			now:   time.Now, ended: make(chan struct{}),
		}
		w.running.Go(w.run)
		defer w.end()
		send := func(s os.Signal) { w.signals <- s; synctest.Wait() }
		test(send, ctx, func() int { mu.Lock(); defer mu.Unlock(); return aborts }, &log)
	})
}

func TestFirstSignalStopsAndSecondAborts(t *testing.T) {
	watched(t, func(send func(os.Signal), stopped context.Context, aborted func() int, log *bytes.Buffer) {
		send(syscall.SIGTERM)
		if !errors.Is(context.Cause(stopped), errStopped) {
			t.Errorf("stopped by %v", context.Cause(stopped))
		}
		if !strings.Contains(log.String(), "msg=stopping signal=terminated") {
			t.Errorf("the log says: %s", log)
		}
		<-time.After(time.Second)
		send(syscall.SIGINT)
		if aborted() != 1 {
			t.Errorf("the second signal aborted %d times", aborted())
		}
	})
}

func TestSignalSentToProcessAndGroupIsOne(t *testing.T) {
	watched(t, func(send func(os.Signal), stopped context.Context, aborted func() int, _ *bytes.Buffer) {
		send(syscall.SIGTERM)
		send(syscall.SIGTERM)
		if stopped.Err() == nil || aborted() != 0 {
			t.Errorf("stopped: %v, aborted %d times", stopped.Err(), aborted())
		}
	})
}

func TestHangupAndBrokenPipesDoNotStop(t *testing.T) {
	watched(t, func(send func(os.Signal), stopped context.Context, aborted func() int, log *bytes.Buffer) {
		send(syscall.SIGHUP)
		send(syscall.SIGPIPE)
		send(syscall.SIGHUP)
		if stopped.Err() != nil || aborted() != 0 {
			t.Errorf("stopped: %v, aborted %d times", stopped.Err(), aborted())
		}
		if got := strings.Count(log.String(), "SIGHUP: nothing changed"); got != 2 || strings.Count(log.String(), "\n") != 2 {
			t.Errorf("the log says: %s", log)
		}
	})
}
