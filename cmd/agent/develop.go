package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/core/devbroker"
)

// devPort is tried first, so that other tools find the broker where it was.
const devPort = 9092

// openDevBroker starts the broker of `run --dev`, points the configuration at
// it, and begins to watch what reaches it.
func (a *agent) openDevBroker(ctx context.Context) error {
	if !a.flags.dev {
		return nil
	}
	dir := a.config.Agent.DataDir
	broker, err := devbroker.Start(devbroker.Config{Dir: filepath.Join(dir, "broker"), Port: devPort, Topics: topics(a.config)}, a.log)
	if err != nil {
		return err
	}
	a.opened("embedded broker", func() error { broker.Close(); return nil })
	a.config.UseDevBroker([]string{broker.Address()}, dir)
	if a.watch, err = broker.NewWatch(ctx); err != nil {
		return err
	}
	a.opened("watch", func() error { a.watch.Close(); return nil })
	_, err = fmt.Fprintf(a.streams.out, "embedded broker on %s, all state in %s\n", broker.Address(), printable(dir))
	return err
}

// showDelivered prints every record that reaches the embedded broker until ctx
// ends. When nobody reads the output any more it stops the agent.
func (a *agent) showDelivered(ctx context.Context, stop context.CancelCauseFunc) {
	err := a.watch.Run(ctx, func(r devbroker.Record) error {
		return a.shown.above(a.streams.out, delivered(r)+"\n")
	})
	switch {
	case errors.Is(err, syscall.EPIPE):
		a.log.Info("stopping: nobody reads the output any more")
		stop(errStopped)
	case err != nil:
		a.log.Error("delivered records can't be shown", "error", err)
	}
}

// delivered is how a record is shown: topic-partition@offset, key and value.
func delivered(r devbroker.Record) string {
	line := r.Topic + "-" + strconv.Itoa(int(r.Partition)) + "@" + strconv.FormatInt(r.Offset, 10)
	if r.Key != nil {
		line += " key=" + excerpt(r.Key)
	}
	if r.Value == nil {
		return line + " (tombstone)"
	}
	return line + " " + excerpt(r.Value)
}

// topics are the topics that the configuration names.
func topics(c *config.Config) []string {
	var names []string
	for i := range c.Pipelines {
		names = append(names, c.Pipelines[i].Topic)
	}
	return names
}
