package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// rsyslogd is the program that sockets are compared with: Debian's packages
// rsyslog and rsyslog-kafka.
const rsyslogd = "rsyslogd"

// socketComparisons are of records that arrive over TCP. What rsyslog holds is in
// memory alone; the agent's spool is on disk, synced or not.
func socketComparisons() []comparison {
	return []comparison{
		{"tcp", rsyslog(8), socketAgent(8, "batch")},
		{"tcp-nosync", rsyslog(8), socketAgent(8, "none")},
		{"tcp-one", rsyslog(1), socketAgent(1, "batch")},
		{"tcp-one-nosync", rsyslog(1), socketAgent(1, "none")},
	}
}

// rsyslog takes lines with imtcp and sends them with omkafka. With acks=all,
// idempotence and endless retries it promises what the agent's producer does.
func rsyslog(connections int) contender {
	return contender{
		title:       fmt.Sprintf("rsyslog, connections: %d", connections),
		connections: connections, needs: rsyslogd,
		command: func(b *bench, folder, bootstrap, topic string) (*exec.Cmd, error) {
			host, port, err := net.SplitHostPort(b.address)
			if err != nil {
				return nil, err
			}
			brokers := strings.ReplaceAll(strconv.Quote(bootstrap), ",", `", "`)
			text := fmt.Sprintf(`global(workDirectory=%q)
module(load="imtcp")
module(load="omkafka")
template(name="raw" type="string" string="%%rawmsg%%")
ruleset(name="kafka") {
  action(type="omkafka" broker=[%s] topic=%q template="raw" partitions.auto="on"
         confParam=["acks=all", "enable.idempotence=true", "linger.ms=5", "batch.size=1000000", "queue.buffering.max.messages=1000000"]
         action.resumeRetryCount="-1" resubmitOnFailure="on")
}
input(type="imtcp" address=%q port=%q ruleset="kafka")
`, folder, brokers, topic, host, port)
			path := filepath.Join(folder, "rsyslog.conf")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				return nil, err
			}
			return exec.Command(rsyslogd, "-n", "-f", path, "-i", filepath.Join(folder, "pid")), nil
		},
	}
}

// socketAgent takes lines with source "socket", without plugins.
func socketAgent(connections int, sync string) contender {
	title := fmt.Sprintf("connections: %d, sync = %q", connections, sync)
	c := agentReading(title, func(b *bench) string {
		return fmt.Sprintf(`source "socket" {
    listen = "tcp://%s"
    spool { sync = %q }
  }`, b.address, sync)
	}, "")
	c.connections = connections
	return c
}

// freeAddress returns a loopback address that nobody listens on.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// send sends the file's lines in equal parts over connections to b.address, once
// somebody listens there. They stay open until ctx ends.
func (b *bench) send(ctx context.Context, connections int) error {
	if connections == 0 {
		return nil
	}
	text, err := os.ReadFile(b.file)
	if err != nil {
		return err
	}
	first, err := b.dial(ctx)
	if err != nil {
		return err
	}
	var group errgroup.Group
	for n := range connections {
		socket := first
		if n > 0 {
			if socket, err = b.dial(ctx); err != nil {
				return errors.Join(err, group.Wait())
			}
		}
		part := text[lineStart(text, n*len(text)/connections):lineStart(text, (n+1)*len(text)/connections)]
		group.Go(func() error {
			defer socket.Close()
			defer context.AfterFunc(ctx, func() { socket.Close() })()
			if _, err := io.Copy(socket, bytes.NewReader(part)); err != nil && ctx.Err() == nil {
				return fmt.Errorf("send: %w", err)
			}
			<-ctx.Done()
			return nil
		})
	}
	return group.Wait()
}

// lineStart returns where the first line begins at or behind a place.
func lineStart(text []byte, place int) int {
	if place == 0 || place >= len(text) {
		return place
	}
	return place + bytes.IndexByte(text[place-1:], '\n')
}

// dial waits until somebody listens.
func (b *bench) dial(ctx context.Context) (net.Conn, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		socket, err := new(net.Dialer).DialContext(ctx, "tcp", b.address)
		if err == nil || ctx.Err() != nil {
			return socket, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
