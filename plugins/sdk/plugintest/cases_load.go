package plugintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/plugins/sdk/internal/rows"
)

// loadLanes is how many lanes are at work at the same time.
const loadLanes = 3

// checkLanes puts several lanes to work at the same time.
func checkLanes(ctx context.Context, s *subject) error {
	return s.onLanes(ctx, func(lane *subject) error { return lane.keepBusy(20) }, nil)
}

// checkCanaryUnderLoad sends empty batches on a lane of its own while others are at work.
func checkCanaryUnderLoad(ctx context.Context, s *subject) error {
	return s.onLanes(ctx, func(lane *subject) error { return lane.keepBusy(20) }, func() error {
		for range 20 {
			begun := time.Now()
			if _, err := s.exchange(nil); err != nil {
				return fmt.Errorf("an empty batch, while %d lanes are at work, after %v: %w", loadLanes, time.Since(begun).Round(time.Millisecond), err)
			}
		}
		return nil
	})
}

// keepBusy sends full batches, with a window of them in flight.
func (s *subject) keepBusy(batches int) error {
	records := plainRecords(record.MaxRows / 4)
	var sent []*delivery
	for n := range batches + window {
		if n < batches {
			d := s.newDelivery(records)
			if err := s.send(d, 0, false); err != nil {
				return err
			}
			sent = append(sent, d)
		}
		if n >= window {
			if _, err := s.receive(sent[n-window]); err != nil {
				return fmt.Errorf("with %d lanes at work: %w", loadLanes, err)
			}
		}
	}
	return nil
}

// onLanes runs work on several lanes, each in a goroutine of its own, and
// meanwhile in this one. It returns when all have ended.
func (s *subject) onLanes(ctx context.Context, work func(lane *subject) error, meanwhile func() error) error {
	var all sync.WaitGroup
	failed := make([]error, loadLanes+1)
	defer all.Wait()
	for i := range loadLanes {
		lane, err := s.another(ctx)
		if err != nil {
			return err
		}
		all.Go(func() {
			defer lane.cancelLane()
			failed[i] = work(lane)
		})
	}
	if meanwhile != nil {
		failed[loadLanes] = meanwhile()
	}
	all.Wait()
	return errors.Join(failed...)
}

// What checkSlowReader sends: more than what a stream's window and the plugin's buffers hold.
const (
	slowBatches = 24
	slowRecords = 512
	slowValue   = 1 << 10
)

// slowPause is how long nobody reads replies.
const slowPause = 300 * time.Millisecond

// checkSlowReader sends batch after batch while nobody reads, and reads then.
func checkSlowReader(ctx context.Context, s *subject) error {
	records := make([]rows.Row, slowRecords)
	for i, r := range plainRecords(slowRecords) {
		r.Value = bytes.Repeat([]byte{'a' + byte(i%26)}, slowValue)
		records[i] = r
	}
	all := make([]*delivery, slowBatches)
	for i := range all {
		all[i] = s.newDelivery(records)
	}
	sent := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < len(all) && err == nil; i++ {
			err = s.send(all[i], 0, false)
		}
		sent <- err
	}()
	pause := time.NewTimer(slowPause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
	for _, d := range all {
		if _, err := s.receive(d); err != nil {
			s.cancelLane()
			return fmt.Errorf("%d batches, whose replies were not read for %v: %w", slowBatches, slowPause, errors.Join(err, <-sent))
		}
	}
	return <-sent
}
