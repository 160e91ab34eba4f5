package endtoend

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
	"github.com/barnabas-agent/barnabas/test/ledger"
)

const socketJob = `
agent {
  data_dir         = "state"
  plugin_dir       = "%PLUGINS%"
  http_listen      = ""
  shutdown_timeout = "10s"
}
producer { bootstrap_servers = [%BOOTSTRAP%] }
pipeline "main" {
  topic = "%TOPIC%"
  source "socket" { listen = "tcp://%ADDRESS%" }
  source "socket" { listen = "unix://%DIR%/socket" }
  interceptor "set" { config = { key = "value.split('|', 3)[0]" } }
  partitioner "murmur2" { }
}
`

// freeAddress returns a loopback address that nobody listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// sender sends numbered lines over one connection after another. It does not know
// what became of those that it sent, so it never sends one again.
type sender struct {
	name, network, address string
	allowed                *atomic.Int64 // lines that all senders may have sent, each

	sessions []session // one per connection, once it has ended
}

// pieceTime is the pause between two pieces of a sender: a kill is to come in the
// midst of a stream, not behind it.
const pieceTime = 15 * time.Millisecond

// session is the lines that one connection took: from the first to before the end.
type session struct {
	first, end int64
	sender     *sender
}

// sessionOf returns the session that a line was sent in, named by the sender too.
func (s *sender) sessionOf(sequence int64) session {
	for _, one := range s.sessions {
		if one.first <= sequence && sequence < one.end {
			one.sender = s
			return one
		}
	}
	return session{sender: s}
}

// run sends count lines; a connection that breaks is followed by the next one.
func (s *sender) run(ctx context.Context, count int64) {
	for next := int64(0); next < count && ctx.Err() == nil; {
		socket, err := new(net.Dialer).DialContext(ctx, s.network, s.address)
		if err != nil {
			pause(ctx, 10*time.Millisecond)
			continue
		}
		began := session{first: next}
		next = s.send(ctx, socket, next, count)
		began.end = next
		s.sessions = append(s.sessions, began)
		socket.Close()
	}
}

// send writes until the connection breaks or all is sent, and returns the number of
// the line that was not begun.
func (s *sender) send(ctx context.Context, socket net.Conn, next, count int64) int64 {
	broken := make(chan struct{})
	go func() { // the agent sends nothing, so this ends when the agent does
		defer close(broken)
		io.Copy(io.Discard, socket)
	}()
	defer func() { socket.Close(); <-broken }()
	for next < count && ctx.Err() == nil {
		until := min(next+20, count, s.allowed.Load())
		if until <= next {
			select {
			case <-broken:
				return next
			case <-time.After(2 * time.Millisecond):
				continue
			}
		}
		var piece []byte
		for ; next < until; next++ {
			piece = append(ledger.AppendLine(piece, s.name, next, width-1), '\n')
		}
		if _, err := socket.Write(piece); err != nil {
			return next // some of the lines may have been taken
		}
		pause(ctx, pieceTime)
	}
	if next == count { // the agent's end of the connection says that it has read all
		socket.(interface{ CloseWrite() error }).CloseWrite()
		<-broken
	}
	return next
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// TestSocketsUnderKill kills the agent while 50 connections send to it. What the
// spool had at each kill must be in the topic, and what is there of a connection
// must be all it sent up to where the kill cut it off.
func TestSocketsUnderKill(t *testing.T) {
	kills := 5
	if text := os.Getenv("BARNABAS_SOCKET_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil || kills < 1 {
			t.Fatalf("BARNABAS_SOCKET_KILLS=%s", text)
		}
	}
	const connections, perKill = 50, 400
	address := freeAddress(t)
	j := newJob(t, kafka.Cluster(t), strings.ReplaceAll(socketJob, "%ADDRESS%", address), nil)
	var allowed atomic.Int64
	senders := make([]*sender, connections)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sending sync.WaitGroup
	for n := range senders {
		senders[n] = &sender{name: fmt.Sprintf("s%02d", n), network: "tcp", address: address, allowed: &allowed}
		if n%2 == 1 {
			senders[n].network, senders[n].address = "unix", filepath.Join(j.dir, "socket")
		}
		sending.Go(func() { senders[n].run(ctx, perKill*int64(kills+1)) })
	}
	accepted := map[string]map[int64]bool{}
	random := rand.New(rand.NewPCG(3, 4))
	for kill := range kills {
		j.start()
		allowed.Store(int64(kill+1) * perKill)
		some := int64(1 + random.IntN(connections*perKill/2))
		j.waitFor("lines to be read", 60*time.Second, func() bool {
			s := j.status()
			return s != nil && s.Totals.ReadRecords >= some
		})
		pause(ctx, time.Duration(random.IntN(100))*time.Millisecond)
		j.kill()
		j.readSpools(accepted)
	}
	j.start()
	allowed.Store(perKill * int64(kills+1))
	sending.Wait()
	j.waitFor("everything to be delivered", 120*time.Second, func() bool {
		s := j.status()
		return s != nil && s.lag() == 0 && s.inflight() == 0 && len(s.Pipelines) > 0
	})
	if code := j.stop(15 * time.Second); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	j.checkSessions(senders, accepted, kills)
}

// readSpools adds the lines that the spools of a killed agent have. It reads copies:
// opening a spool changes it.
func (j *job) readSpools(found map[string]map[int64]bool) {
	j.t.Helper()
	for _, source := range []string{"socket", "socket-2"} {
		copied := filepath.Join(j.t.TempDir(), "spool")
		if err := os.CopyFS(copied, os.DirFS(spool.Dir(filepath.Join(j.dir, "state"), "main", source))); err != nil {
			j.t.Fatal(err)
		}
		if err := os.Chmod(copied, 0o700); err != nil {
			j.t.Fatal(err)
		}
		s, err := spool.Open(spool.Config{
			Dir: copied, Kind: "socket", Host: "host", MaxSize: 1 << 30, MaxEntry: 512 << 10, Once: true, Key: "copy",
			Pipeline: "main", Name: source, Logger: slog.New(slog.DiscardHandler), Metrics: metric.New(),
		})
		if err != nil {
			j.t.Fatal(err)
		}
		lane := sourcetest.NewLane(j.t)
		running := sourcetest.Start(j.t, spoolAlone{s}, lane)
		if err := running.Wait(); err != nil {
			j.t.Fatal(err)
		}
		for _, value := range lane.Values() {
			name, sequence, err := ledger.ParseLine([]byte(value))
			if err != nil {
				j.t.Fatalf("the spool has %.120q: %v", value, err)
			}
			if found[string(name)] == nil {
				found[string(name)] = map[int64]bool{}
			}
			found[string(name)][sequence] = true
		}
	}
}

// spoolAlone is a spool that nobody feeds.
type spoolAlone struct{ *spool.Spool }

func (s spoolAlone) Run(ctx context.Context, lanes []record.Lane) error {
	return s.Spool.Run(ctx, lanes, nil)
}

// checkSessions compares the topic with what was accepted and with what was sent.
func (j *job) checkSessions(senders []*sender, accepted map[string]map[int64]bool, kills int) {
	j.t.Helper()
	arrived := map[string]map[int64]bool{} // by sender
	last := map[session]int64{}            // first copies of a connection ascend
	bySender := map[string]*sender{}
	for _, s := range senders {
		bySender[s.name] = s
	}
	records := 0
	err := j.topic.Each(context.Background(), func(r *kgo.Record) {
		records++
		name, sequence, err := ledger.ParseLine(r.Value)
		if err != nil {
			j.t.Errorf("partition %d offset %d: %v: %.120q", r.Partition, r.Offset, err, r.Value)
			return
		}
		seen := arrived[string(name)]
		if seen == nil {
			seen = map[int64]bool{}
			arrived[string(name)] = seen
		}
		one := bySender[string(name)].sessionOf(sequence)
		if !seen[sequence] && sequence < last[one] {
			j.t.Errorf("line %d of %s stands behind line %d of the same connection", sequence, name, last[one])
		}
		seen[sequence], last[one] = true, max(last[one], sequence)
	})
	if err != nil {
		j.t.Fatal(err)
	}
	var sent, kept, durable int64
	for _, s := range senders {
		for sequence := range accepted[s.name] {
			durable++
			if !arrived[s.name][sequence] {
				j.t.Errorf("line %d of %s was in the spool and is not in the topic", sequence, s.name)
			}
		}
		for n, one := range s.sessions {
			end := one.first
			for end < one.end && arrived[s.name][end] {
				end++
			}
			kept += end - one.first
			sent += one.end - one.first
			for sequence := end; sequence < one.end; sequence++ {
				if arrived[s.name][sequence] {
					j.t.Errorf("connection %d of %s sent lines %d to %d: %d is in the topic, %d is not", n, s.name, one.first, one.end-1, sequence, end)
				}
			}
			if n == len(s.sessions)-1 && end != one.end {
				j.t.Errorf("the last connection of %s sent lines %d to %d, which nothing cut off: %d is not in the topic", s.name, one.first, one.end-1, end)
			}
		}
	}
	j.t.Logf("%d kills: %d lines were sent, %d arrived, %d of them were seen in a spool at a kill; %d were cut off, none of which a spool had; %d copies beyond the first",
		kills, sent, kept, durable, sent-kept, int64(records)-kept)
}
