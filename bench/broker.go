package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/barnabas-agent/barnabas/test/kafka/broker"
	"github.com/barnabas-agent/barnabas/test/process"
)

// target is a running broker.
type target struct {
	bootstrap string
	pid       int
	close     func() error // ends it and removes its data
}

// startBroker starts an empty broker of the chosen kind.
func (b *bench) startBroker(ctx context.Context, folder string) (*target, error) {
	switch b.broker {
	case "kfake":
		return b.startFake(ctx, filepath.Join(folder, "broker"))
	case "kafka":
		return startKafka(ctx)
	default:
		return nil, fmt.Errorf("no broker %q: kfake or kafka", b.broker)
	}
}

func startKafka(ctx context.Context) (*target, error) {
	installation, err := broker.Install(ctx)
	if err != nil {
		return nil, err
	}
	cluster, err := broker.Launch(ctx, installation, broker.Options{})
	if err != nil {
		return nil, err
	}
	pid, err := cluster.Pid(1)
	if err != nil {
		return nil, errors.Join(err, cluster.Close())
	}
	return &target{bootstrap: cluster.Bootstrap(), pid: pid, close: cluster.Close}, nil
}

// fakeTimeout bounds the start and the end of kfake.
const fakeTimeout = 10 * time.Second

func (b *bench) startFake(ctx context.Context, folder string) (*target, error) {
	command := exec.Command(filepath.Join(b.folder, "fakebroker"), "-data", folder)
	address := &firstLine{found: make(chan string, 1)}
	command.Stdout, command.Stderr = address, os.Stderr
	running, err := process.Start(command)
	if err != nil {
		return nil, err
	}
	stop := func() error {
		running.Kill()
		return os.RemoveAll(folder)
	}
	ctx, cancel := context.WithTimeout(ctx, fakeTimeout)
	defer cancel()
	select {
	case line := <-address.found:
		return &target{bootstrap: line, pid: running.Pid(), close: stop}, nil
	case <-running.Ended():
		return nil, errors.Join(errors.New("kfake ended at its start"), stop())
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("kfake does not start: %w", ctx.Err()), stop())
	}
}

// firstLine hands over the first line that is written to it and forgets the rest.
type firstLine struct {
	found chan string // takes one line

	mu   sync.Mutex
	text []byte
	done bool
}

// Write never fails.
func (f *firstLine) Write(text []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return len(text), nil
	}
	f.text = append(f.text, text...)
	if line, _, whole := bytes.Cut(f.text, []byte("\n")); whole {
		f.found <- string(line)
		f.done = true
	}
	return len(text), nil
}
