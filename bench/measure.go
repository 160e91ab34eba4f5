package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/barnabas-agent/barnabas/test/kafka/topic"
	"github.com/barnabas-agent/barnabas/test/process"
)

// A run is measured from where a tenth of the records are in the topic to where
// nine tenths are: starting, filling buffers and draining them are outside.
const (
	windowFrom = 0.1
	windowTo   = 0.9
)

const (
	runTimeout  = 5 * time.Minute
	stopTimeout = time.Minute
)

// sample is one run of a contender.
type sample struct {
	start  time.Duration // from its start to its first record in the topic
	rate   float64       // records a second, within the window
	cpu    time.Duration // per record, of the contender's processes
	broker time.Duration // per record, of the broker
	peaks  []usage       // the contender's processes, at their end
}

// sample runs the contender once on a fresh broker.
func (b *bench) sample(ctx context.Context, c contender) (_ *sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	folder, err := os.MkdirTemp(b.folder, "run-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	target, err := b.startBroker(ctx, folder)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, target.close()) }()
	made, err := topic.Create(ctx, target.bootstrap, "bench", partitions, nil)
	if err != nil {
		return nil, err
	}
	if c.connections > 0 {
		if b.address, err = freeAddress(ctx); err != nil {
			return nil, err
		}
	}
	command, err := c.command(b, folder, target.bootstrap, made.Name)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	sending, stopSending := context.WithCancel(ctx)
	sent := make(chan error, 1)
	go func() { sent <- b.send(sending, c.connections) }()
	s, err := b.watch(ctx, command, made, target)
	stopSending()
	err = errors.Join(err, <-sent)
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%s: %w\n%s", c.title, err, text)
	}
	return s, nil
}

// watch starts the command and measures it until the topic holds all records
// and it has ended. The topic must hold each record once.
func (b *bench) watch(ctx context.Context, command *exec.Cmd, made *topic.Topic, target *target) (*sample, error) {
	began := time.Now()
	running, err := process.Start(command)
	if err != nil {
		return nil, err
	}
	defer running.Kill()
	alive, cancel := whileRunning(ctx, running)
	defer cancel()
	if _, err := made.WaitCount(alive, 1); err != nil {
		return nil, err
	}
	s := &sample{start: time.Since(began)}
	from, err := b.reading(alive, made, windowFrom, running, target)
	if err != nil {
		return nil, err
	}
	to, err := b.reading(alive, made, windowTo, running, target)
	if err != nil {
		return nil, err
	}
	records := to.records - from.records
	if records <= 0 {
		return nil, fmt.Errorf("%d records are sent too quickly to be measured: ask for more", b.records)
	}
	s.rate = float64(records) / to.at.Sub(from.at).Seconds()
	s.cpu = perRecord(to.contender, records) - perRecord(from.contender, records)
	s.broker = (to.broker - from.broker) / time.Duration(records)
	end, err := b.reading(alive, made, 1, running, target)
	if err != nil {
		return nil, err
	}
	s.peaks = slices.Collect(maps.Values(end.contender))
	cancel()
	if err := running.Stop(stopTimeout); err != nil {
		return nil, err
	}
	if count, err := made.Count(ctx); err != nil || count != b.records {
		return nil, errors.Join(err, fmt.Errorf("the topic holds %d records, not %d", count, b.records))
	}
	return s, nil
}

// whileRunning returns a context that ends with the process.
func whileRunning(ctx context.Context, running *process.Process) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-running.Ended():
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-watched }
}

// reading is how far a run is, and what it has used.
type reading struct {
	at        time.Time
	records   int64 // in the topic
	contender map[int]usage
	broker    time.Duration
}

// reading waits until the share of the records is in the topic.
func (b *bench) reading(ctx context.Context, made *topic.Topic, share float64, running *process.Process, target *target) (*reading, error) {
	records, err := made.WaitCount(ctx, int64(share*float64(b.records)))
	if err != nil {
		return nil, err
	}
	r := &reading{at: time.Now(), records: records}
	if r.contender, err = tree(running.Pid()); err != nil {
		return nil, err
	}
	broker, err := measure(target.pid)
	r.broker = broker.cpu
	return r, err
}

// perRecord shares the processor time of all processes out.
func perRecord(processes map[int]usage, records int64) time.Duration {
	var total time.Duration
	for _, used := range processes {
		total += used.cpu
	}
	return total / time.Duration(records)
}
