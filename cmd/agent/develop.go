package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"

	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/core/devbroker"
)

// devPort is tried first, so that other tools find the broker where it was.
const devPort = 9092

// devBroker is the broker of `run --dev` and the display of what reaches it.
type devBroker struct {
	broker *devbroker.Broker
	cancel context.CancelFunc
	ended  chan struct{} // closed when the display has ended
}

// startDevBroker starts the embedded broker, points the configuration at it and
// shows every record that it holds from now on.
func startDevBroker(ctx context.Context, c *config.Config, log *slog.Logger, s streams) (*devBroker, error) {
	dir, err := filepath.Abs(devDataDir)
	if err != nil {
		return nil, err
	}
	broker, err := devbroker.Start(devbroker.Config{Dir: filepath.Join(dir, "broker"), Port: devPort, Topics: topics(c)}, log)
	if err != nil {
		return nil, err
	}
	c.UseDevBroker([]string{broker.Address()}, dir)
	log.Info("embedded broker", "bootstrap_servers", broker.Address(), "data_dir", dir)
	ctx, cancel := context.WithCancel(ctx)
	d := &devBroker{broker: broker, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(d.ended)
		err := broker.Watch(ctx, func(r devbroker.Record) {
			fmt.Fprintln(s.out, delivered(r))
		})
		if err != nil && ctx.Err() == nil {
			log.Error("delivered records can't be shown", "error", err)
		}
	}()
	return d, nil
}

// stop ends the display and the broker.
func (d *devBroker) stop() {
	d.cancel()
	<-d.ended
	d.broker.Close()
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

// excerpt shows the beginning of a value, safe for a terminal.
func excerpt(b []byte) string {
	const most = 200
	rest := ""
	if len(b) > most {
		rest = fmt.Sprintf("… (%d bytes)", len(b))
		b = b[:most]
	}
	for _, c := range string(b) {
		if !strconv.IsPrint(c) {
			return strconv.Quote(string(b)) + rest
		}
	}
	return string(b) + rest
}

// topics are the topics that the configuration names.
func topics(c *config.Config) []string {
	var names []string
	for i := range c.Pipelines {
		names = append(names, c.Pipelines[i].Topic)
	}
	return names
}
