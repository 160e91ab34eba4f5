package socket

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/socket/framing"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// udp is a source of datagrams, which is never to wait for the spool.
func udp(_ *Config, sc *spool.Config) { sc.DropNewest = true }

func TestDatagramsAreRecords(t *testing.T) {
	for _, l := range []Listen{{UDP, "127.0.0.1:0"}, {Unixgram, filepath.Join(t.TempDir(), "s")}} {
		r := start(t, listening(l.Network, l.Address))
		c := r.dial()
		var want []string
		for n := range 500 {
			r.send(c, fmt.Sprintf("line %d\nof two\n", n))
			want = append(want, fmt.Sprintf("line %d\nof two", n))
		}
		r.expect(want...)
		r.droppedNothing()
		peer := c.LocalAddr().String()
		if l.Network == Unixgram {
			peer = fmt.Sprintf("unix:pid=%d,uid=%d", os.Getpid(), os.Getuid())
		}
		if got := r.lane.Records()[0].Stream.Origin().Peer; got != peer {
			t.Errorf("peer %q, expected %q", got, peer)
		}
	}
}

// S11: what the receive buffer had no room for is counted, to the datagram.
func TestS11BurstBeyondTheReceiveBuffer(t *testing.T) {
	r := start(t, listening(UDP, "127.0.0.1:0"), patient(func(p *patience) { p.receiveBuffer = 8 << 10 }),
		func(_ *Config, sc *spool.Config) { sc.MaxSize = 1 << 20 })
	r.lane.Limit(0)
	c := r.dial()
	const sent = 30_000
	for range sent {
		r.send(c, strings.Repeat("x", 300))
	}
	r.lane.Limit(1 << 30)
	sourcetest.Eventually(t, func() bool {
		r.lane.Deliver(1 << 30)
		r.source.Checkpoint(nil)
		r.source.Committed()
		return len(r.lane.Values())+r.drops()[dropKernel]+r.drops()[dropFull] >= sent
	}, "every datagram accounted for")
	got, dropped := len(r.lane.Values()), r.drops()[dropKernel]
	if got+dropped+r.drops()[dropFull] != sent || dropped == 0 {
		t.Errorf("%d records and %d dropped by the kernel, %d were sent", got, dropped, sent)
	}
	r.send(c, "after")
	r.lane.Wait(got + 1)
}

func TestS12OddDatagrams(t *testing.T) {
	for _, l := range []Listen{{UDP, "127.0.0.1:0"}, {Unixgram, filepath.Join(t.TempDir(), "s")}} {
		r := start(t, listening(l.Network, l.Address), func(c *Config, _ *spool.Config) { c.MaxFrame = 30_000 })
		c := r.dial()
		r.send(c, strings.Repeat("l", 30_001))
		r.send(c, "")
		r.send(c, strings.Repeat("m", 30_000)) // in 20 fragments where the wire is Ethernet
		r.send(c, strings.Repeat("l", 60_000))
		r.send(c, "\n")
		r.expect(strings.Repeat("m", 30_000), "")
		r.dropped(dropTruncated, 2)
		r.dropped(dropEmpty, 1)
	}
}

// S16 for datagrams: what a full spool has no room for is counted; it goes on by itself.
func TestS16FullSpoolDropsDatagrams(t *testing.T) {
	r := start(t, listening(UDP, "127.0.0.1:0"), udp, func(_ *Config, sc *spool.Config) { sc.MaxSize = 1 << 20 })
	r.lane.Limit(0)
	c := r.dial()
	const sent = 5000
	for n := range sent {
		r.send(c, strings.Repeat("x", 500))
		if n%100 == 99 { // not faster than the source reads
			sourcetest.Eventually(t, func() bool { return int(r.source.spool.Status().Lag/500)+r.drops()[dropFull] > n/2 }, "the source reads")
		}
	}
	sourcetest.Eventually(t, func() bool { return r.drops()[dropFull] > 0 }, "a full spool")
	r.lane.Limit(1 << 30)
	sourcetest.Eventually(t, func() bool { return len(r.lane.Values())+r.drops()[dropFull]+r.drops()[dropKernel] == sent }, "every datagram accounted for")
	r.lane.Deliver(1 << 30)
	r.source.Checkpoint(nil)
	r.source.Committed()
	before := len(r.lane.Values())
	r.send(c, "after")
	r.lane.Wait(before + 1)
}

// A unix datagram socket is as reliable as a stream: its senders wait.
func TestUnixDatagramsWaitForTheSpool(t *testing.T) {
	r := start(t, listening(Unixgram, filepath.Join(t.TempDir(), "s")), func(_ *Config, sc *spool.Config) { sc.MaxSize = 1 << 20 })
	r.lane.Limit(0)
	c := r.dial()
	sent := 0
	for {
		c.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := c.Write([]byte(strings.Repeat("x", 1000))); isTimeout(err) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		sent++
	}
	r.lane.Limit(1 << 30)
	sourcetest.Eventually(t, func() bool {
		r.lane.Deliver(1 << 30)
		r.source.Checkpoint(nil)
		r.source.Committed()
		return len(r.lane.Values()) == sent
	}, "%d datagrams", sent)
	r.droppedNothing()
}

func TestDatagramsOfTheKernelAreReadAtTheEnd(t *testing.T) {
	for _, l := range []Listen{{UDP, "127.0.0.1:0"}, {Unixgram, filepath.Join(t.TempDir(), "s")}} {
		r := start(t, listening(l.Network, l.Address))
		c := r.dial()
		var want []string
		for n := range 200 {
			want = append(want, fmt.Sprint(n))
			r.send(c, want[n])
		}
		r.running.Stop()
		r.source.Close()
		expectKept(t, r, want)
		if got := r.lane.Values(); !slices.Equal(got, want[:len(got)]) {
			t.Errorf("records %q", got)
		}
	}
}

func TestDatagramsTakeNoCountedFraming(t *testing.T) {
	c := settings(t)
	c.Listen, c.Framing = Listen{UDP, "127.0.0.1:0"}, framing.OctetCounting
	if _, err := Open(t.Context(), c); err == nil {
		t.Error("octet counting for datagrams is accepted")
	}
}

func BenchmarkReceive(b *testing.B) {
	c := settings(b)
	c.Listen = Listen{UDP, "127.0.0.1:0"}
	s := open(b, c, spoolSettings(&c, b.TempDir()))
	defer s.Close()
	r := s.receivers[0]
	from := net.UDPAddrFromAddrPort(r.socket.LocalAddr().(*net.UDPAddr).AddrPort()).AddrPort()
	for b.Loop() {
		if err := r.receive(b.Context(), []byte("a datagram of a few bytes"), false, r.name(from), time.Now()); err != nil {
			b.Fatal(err)
		}
		if len(r.filling.entries) == gatheredRecords {
			r.filling.entries, r.filling.bytes = r.filling.entries[:0], r.filling.bytes[:0]
		}
	}
}

// BenchmarkUDP sends as fast as one sender can, over loopback, and says how many
// datagrams a second were taken, and which share the kernel had to drop.
func BenchmarkUDP(b *testing.B) {
	c := settings(b)
	c.Listen = Listen{UDP, "127.0.0.1:0"}
	sc := spoolSettings(&c, b.TempDir())
	sc.MaxSize, sc.NoSync = 4<<30, false
	s := open(b, c, sc)
	defer s.Close()
	lane := sourcetest.NewLane(b)
	lane.Limit(0) // the pipeline's part is not measured
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, []record.Lane{lane}) }()
	to := dial(b, s.Addresses()[0])
	datagram := []byte(strings.Repeat("x", 200))
	b.ResetTimer()
	for b.Loop() {
		if _, err := to.Write(datagram); err != nil {
			b.Fatal(err)
		}
	}
	took := b.Elapsed()
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	dropped := float64(s.Dropped())
	b.ReportMetric((float64(b.N)-dropped)/took.Seconds(), "taken/s")
	b.ReportMetric(100*dropped/float64(b.N), "%dropped")
}

// A stop takes a bounded time, however much is sent meanwhile.
func TestAFloodDoesNotKeepTheSourceFromStopping(t *testing.T) {
	r := start(t, udp, listening(UDP, "127.0.0.1:0"), patient(func(p *patience) { p.stop = 100 * time.Millisecond }))
	flood, end := context.WithTimeout(t.Context(), 10*time.Second)
	var senders sync.WaitGroup
	defer senders.Wait()
	defer end()
	for range 4 {
		c := r.dial()
		senders.Go(func() {
			for flood.Err() == nil {
				_, _ = c.Write([]byte("x")) // refused once the socket is closed
			}
		})
	}
	r.lane.Wait(1000)
	before := time.Now()
	r.running.Stop()
	if took := time.Since(before); took > 3*time.Second {
		t.Errorf("the stop took %v", took)
	}
}

// The packaged socket unit has TCP and UDP under one name: that nobody can have UDP
// wait must not cost the others their records.
func TestStreamsWaitBesideDatagramsThatAreDropped(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	held := handedOver(t, "in", l.(syscall.Conn), u.(syscall.Conn))
	r := start(t, func(c *Config, sc *spool.Config) {
		c.Listen, c.Inherited, c.MaxFrame = Listen{Systemd, "in"}, held, 4<<10
		sc.MaxSize, sc.DropNewest = 1<<20, held.AllUDP(c.Listen)
	})
	r.lane.Limit(0)
	const lines = 4000
	stream, datagram := dial(t, l.Addr()), dial(t, u.LocalAddr())
	var sending sync.WaitGroup
	sending.Go(func() {
		if _, err := stream.Write([]byte(strings.Repeat(strings.Repeat("s", 999)+"\n", lines))); err != nil {
			t.Error(err)
		}
	})
	sourcetest.Eventually(t, func() bool {
		r.send(datagram, strings.Repeat("d", 4<<10))
		return r.drops()[dropFull] > 0
	}, "a datagram dropped")
	r.lane.Limit(1 << 30)
	streamed := 0
	sourcetest.Eventually(t, func() bool {
		r.lane.Deliver(1 << 30)
		r.source.Checkpoint(nil)
		r.source.Committed()
		streamed = 0
		for _, v := range r.lane.Values() {
			if v[0] == 's' {
				streamed++
			}
		}
		return streamed == lines
	}, "all %d lines, there are %d", lines, streamed)
	sending.Wait()
}
