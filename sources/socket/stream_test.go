package socket

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/socket/framing"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// framed chooses a framing.
func framed(m framing.Method) func(*Config, *spool.Config) {
	return func(c *Config, _ *spool.Config) { c.Framing = m }
}

func listening(network Network, address string) func(*Config, *spool.Config) {
	return func(c *Config, _ *spool.Config) { c.Listen = Listen{network, address} }
}

// patient changes how long the source waits.
func patient(change func(*patience)) func(*Config, *spool.Config) {
	return func(c *Config, _ *spool.Config) {
		p := documented()
		if c.patience != nil {
			p = *c.patience
		}
		change(&p)
		c.patience = &p
	}
}

func TestRecordsCarryTheirPeer(t *testing.T) {
	r := start(t)
	c := r.dial()
	before := time.Now().UnixMilli()
	r.send(c, "a\nb\n")
	r.expect("a", "b")
	for _, got := range r.lane.Records() {
		origin := got.Stream.Origin()
		if origin.Kind != "socket" || origin.Peer != c.LocalAddr().String() || origin.Host != "host" || origin.File != "" {
			t.Errorf("origin %+v, the peer is %s", origin, c.LocalAddr())
		}
		if now := time.Now().UnixMilli(); got.Timestamp < before || got.Timestamp > now {
			t.Errorf("timestamp %d, expected one between %d and %d", got.Timestamp, before, now)
		}
	}
	r.droppedNothing()
}

// A peer that closes in good order has said all it had to say: with a delimiter
// between frames, the last one needs none.
func TestLastLineNeedsNoEnd(t *testing.T) {
	r := start(t)
	c := r.dial()
	r.send(c, "a\nlast")
	c.(*net.TCPConn).CloseWrite()
	r.closed(c)
	r.expect("a", "last")
	r.droppedNothing()
}

func TestS03ResetWithinARecord(t *testing.T) {
	r := start(t)
	c := r.dial()
	r.send(c, "whole\npart of a rec")
	r.expect("whole")
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	r.dropped(dropPartial, 1)
	r.connections(0)
	r.expect("whole")
}

func TestAnnouncedFrameThatDoesNotComeIsCounted(t *testing.T) {
	r := start(t, framed(framing.OctetCounting))
	c := r.dial()
	r.send(c, "1 a10 half")
	c.(*net.TCPConn).CloseWrite()
	r.closed(c)
	r.dropped(dropPartial, 1)
	r.expect("a")
}

// A stream without a delimiter is given up at max_frame, whatever it goes on with.
func TestS04EndlessFrame(t *testing.T) {
	for _, m := range []framing.Method{framing.Newline, framing.NUL} {
		r := start(t, framed(m), func(c *Config, _ *spool.Config) { c.MaxFrame = 32 << 10 })
		c := r.dial()
		piece := bytes.Repeat([]byte("x"), 64<<10)
		sent := 0
		for ; sent < 10<<30; sent += len(piece) {
			if _, err := c.Write(piece); err != nil {
				break
			}
		}
		if sent > 64<<20 { // what the kernel's buffers take is no more than a few MiB
			t.Errorf("the connection took %d bytes", sent)
		}
		r.dropped(string(framing.TooLong), 1)
		r.expect()
	}
}

func TestFramesOfTheMostBytesPass(t *testing.T) {
	const most = 300 << 10 // more than a large buffer
	r := start(t, func(c *Config, _ *spool.Config) { c.MaxFrame = most })
	var want []string
	for i := range 5 {
		want = append(want, strings.Repeat(string(rune('a'+i)), most-i))
	}
	c := r.dial()
	r.send(c, strings.Join(want, "\n")+"\n")
	r.expect(want...)
	r.droppedNothing()
}

func TestS05OctetCountLies(t *testing.T) {
	for lie, reason := range map[string]framing.Reason{
		"999999999 <13>x": framing.TooLong, "-1 <13>x": framing.Invalid, "99999999999999999999 x": framing.TooLong,
		"007 <13>abc": framing.Invalid, "0 ": framing.Invalid, "5<13>a": framing.Invalid, "65537 x": framing.TooLong,
	} {
		for _, m := range []framing.Method{framing.OctetCounting, framing.Syslog} {
			t.Run(fmt.Sprint(m, lie), func(t *testing.T) {
				r := start(t, framed(m))
				c := r.dial()
				r.send(c, "5 <13>a")
				r.expect("<13>a")
				r.send(c, lie)
				r.closed(c)
				r.dropped(string(reason), 1)
				r.expect("<13>a")
			})
		}
	}
}

// What follows a frame that was announced too short is never a record.
func TestS06SmuggledFrames(t *testing.T) {
	for stream, want := range map[string][]string{
		"10 <13>a\n<0>root logged in\n":    {"<13>a\n<0>r"},
		"5 <13>a\n<0>root logged in\n":     {"<13>a"},
		"<13>a\n12 <0>root said\n<13>b\n":  {"<13>a"},
		"<13>a\nforged without priority\n": {"<13>a"},
	} {
		t.Run(stream, func(t *testing.T) {
			r := start(t, framed(framing.Syslog))
			c := r.dial()
			r.send(c, stream)
			r.closed(c)
			r.dropped(string(framing.Invalid), 1)
			r.expect(want...)
		})
	}
}

// Nothing in a payload is taken for where it came from.
func TestS07PayloadForgesNothing(t *testing.T) {
	forged := []string{
		"<13>a\n<0>root logged in", "../../etc/passwd", "peer=10.0.0.1:1 topic=other", "\x1b[31mred\r\n", "{\"topic\":\"other\"}", "a\x00b",
	}
	r := start(t, framed(framing.OctetCounting))
	c := r.dial()
	for _, f := range forged {
		r.send(c, fmt.Sprintf("%d %s", len(f), f))
	}
	r.expect(forged...)
	for _, got := range r.lane.Records() {
		if got.Stream.Origin().Peer != c.LocalAddr().String() {
			t.Errorf("peer %q", got.Stream.Origin().Peer)
		}
	}
	r.send(c, "forged frame\x1b[2J")
	r.closed(c)
	r.dropped(string(framing.Invalid), 1)
	if log := r.log.String(); strings.Contains(log, "forged") || strings.Contains(log, "passwd") || strings.Contains(log, "root") {
		t.Errorf("the log quotes what was sent:\n%s", log)
	}
}

// Nothing that is sent is ever unpacked: a bomb is the bytes that it has.
func TestS08DecompressionBomb(t *testing.T) {
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range 4 {
		w.Write(zeros)
	}
	w.Close()
	r := start(t, framed(framing.LengthPrefix))
	r.send(r.dial(), string(framing.AppendLengthPrefix(nil, bomb.Bytes())))
	r.expect(bomb.String())
	r.droppedNothing()
}

// A sender that is blocked by a full spool loses nothing, and the agent's memory
// does not grow: the kernel's buffers fill, then the sender waits.
func TestS16BrokerDown(t *testing.T) {
	r := start(t, func(_ *Config, sc *spool.Config) { sc.MaxSize = 1 << 20 })
	r.lane.Limit(0)
	c := r.dial()
	line := strings.Repeat("x", 1023) + "\n"
	sent := 0
	for blocked := false; !blocked; {
		c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := io.WriteString(c, strings.Repeat(line, 64))
		sent += n
		if blocked = isTimeout(err); err != nil && !blocked {
			t.Fatal(err)
		}
	}
	if used := r.source.spool.Status().Used; used > 1<<20 {
		t.Errorf("the spool has %d bytes, 1 MiB is its bound", used)
	}
	if sent > 32<<20 {
		t.Errorf("%d bytes were taken from the sender", sent)
	}
	c.SetWriteDeadline(time.Time{})
	r.lane.Limit(1 << 30)
	go io.WriteString(c, strings.Repeat("x", 1024-sent%1024-1)+"\n") // waits for room
	records := (sent + 1024 - sent%1024) / 1024
	for delivered := 0; delivered < records; {
		delivered = len(r.lane.Wait(delivered + 1))
		r.lane.Deliver(1 << 30)
		r.source.Checkpoint(nil)
		r.source.Committed()
	}
	if got := len(r.lane.Values()); got != records {
		t.Errorf("%d records, %d were sent", got, records)
	}
	r.droppedNothing()
}

func TestFullSpoolDropsTheNewestWhereItIsToldTo(t *testing.T) {
	r := start(t, func(_ *Config, sc *spool.Config) { sc.MaxSize, sc.DropNewest = 1<<20, true })
	r.lane.Limit(0)
	c := r.dial()
	const sent = 4000
	r.send(c, strings.Repeat(strings.Repeat("x", 1023)+"\n", sent))
	c.(*net.TCPConn).CloseWrite()
	r.closed(c)
	r.lane.Limit(1 << 30)
	dropped := r.drops()[dropFull]
	if dropped == 0 || dropped >= sent {
		t.Fatalf("%d of %d records were dropped", dropped, sent)
	}
	r.lane.Wait(sent - dropped)
	if got := len(r.lane.Values()); got+dropped != sent {
		t.Errorf("%d records and %d dropped, %d were sent", got, dropped, sent)
	}
}

// S17: what is on its way is read, a frame that has begun may end, silent peers
// do not hold the agent up, and what stays unfinished is counted.
func TestS17StopWithConnectedClients(t *testing.T) {
	for _, l := range []Listen{{TCP, "127.0.0.1:0"}, {Unix, t.TempDir() + "/s"}} {
		t.Run(string(l.Network), func(t *testing.T) {
			r := start(t, listening(l.Network, l.Address), patient(func(p *patience) { p.quiet = 500 * time.Millisecond }))
			silent, begun, never := r.dial(), r.dial(), r.dial()
			r.connections(3)
			r.send(silent, "first\n")
			r.expect("first")
			r.send(begun, "begun ")
			r.send(never, "never ends")
			sourcetest.Eventually(t, func() bool { return r.begun() == 2 }, "frames that have begun")
			began := time.Now()
			stopped := make(chan struct{})
			go func() { defer close(stopped); r.running.Stop() }()
			r.closed(silent)
			if took := time.Since(began); took > time.Second {
				t.Errorf("a silent connection was closed after %v", took)
			}
			r.send(begun, "and ended\n")
			<-stopped
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("the end took %v", took)
			}
			r.dropped(dropPartial, 1)
			r.source.Close()
			expectKept(t, r, []string{"first", "begun and ended"})
		})
	}
}

// begun counts the connections in the midst of a frame that the kernel has no more of.
func (r *rig) begun() (n int) {
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	for c := range r.source.connections {
		if c.unfinished.Load() {
			n++
		}
	}
	return n
}

// expectKept starts the source again and checks what the spool has.
func expectKept(t *testing.T, r *rig, want []string) {
	t.Helper()
	c, sc := r.source.config, r.spool
	c.Once, sc.Once = true, true
	again := open(t, c, sc)
	lane := sourcetest.NewLane(t)
	running := sourcetest.Start(t, again, lane)
	if err := running.Wait(); err != nil {
		t.Error(err)
	}
	if got := lane.Values(); !slices.Equal(got, want) {
		t.Errorf("the spool has %q, expected %q", got, want)
	}
}

func TestS18AddressesThatCantBeUsed(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	takenUDP, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer takenUDP.Close()
	for _, test := range []struct {
		listen Listen
		why    error
	}{
		{Listen{TCP, taken.Addr().String()}, syscall.EADDRINUSE},
		{Listen{UDP, takenUDP.LocalAddr().String()}, syscall.EADDRINUSE},
		{Listen{TCP, "192.0.2.1:5140"}, syscall.EADDRNOTAVAIL},
		{Listen{UDP, "[2001:db8::1]:5140"}, syscall.EADDRNOTAVAIL},
	} {
		c := settings(t)
		c.Listen = test.listen
		s, err := Open(t.Context(), c)
		if !errors.Is(err, test.why) || !strings.Contains(err.Error(), "listen on "+test.listen.String()) {
			t.Errorf("%s: %v, expected %v with the address", test.listen, err, test.why)
		}
		if s != nil {
			s.Close()
		}
	}
}

func TestIPv6(t *testing.T) {
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		t.Skip("the machine has no IPv6")
	}
	for _, network := range []Network{TCP, UDP} {
		r := start(t, listening(network, "[::1]:0"))
		c := r.dial()
		r.send(c, "six\n")
		r.expect("six")
		if peer := r.lane.Records()[0].Stream.Origin().Peer; peer != c.LocalAddr().String() {
			t.Errorf("peer %q, expected %q", peer, c.LocalAddr())
		}
	}
}

// Whatever a sender calls syslog is kept as it is; only the framing is checked.
func TestS19NonsenseIsKept(t *testing.T) {
	sent := []string{
		"<13>1 2026-11-27T16:00:00Z host app - - - 5424", "<999999>Feb 31 25:61:61 host app: 3164", "<>", "<-1>", "<13", "<13>\xff\xfe\x00", "<13>1 9999-99-99T99:99:99Z",
	}
	r := start(t, framed(framing.Syslog))
	r.send(r.dial(), strings.Join(sent, "\n")+"\n")
	r.expect(sent...)
	r.droppedNothing()
}

// S20: a sender that is never silent does not keep others waiting.
func TestS20FastClientsDoNotStarveOthers(t *testing.T) {
	r := start(t, func(_ *Config, sc *spool.Config) { sc.MaxSize = 1 << 30 })
	stop := make(chan struct{})
	ended := make(chan error, 4)
	for range 4 {
		c := r.dial()
		go func() {
			flood := []byte(strings.Repeat(strings.Repeat("f", 199)+"\n", 1000))
			for {
				select {
				case <-stop:
					ended <- nil
					return
				default:
					if _, err := c.Write(flood); err != nil {
						ended <- err
						return
					}
				}
			}
		}()
	}
	sourcetest.Eventually(t, func() bool { return r.accepted() > 10_000 }, "a flood")
	slow := r.dial()
	worst := time.Duration(0)
	for n := range 20 {
		sent := time.Now()
		r.send(slow, "slow\n")
		sourcetest.Eventually(t, func() bool { return r.acceptedOf(slow) == int64(n+1) }, "record %d of the slow client", n)
		worst = max(worst, time.Since(sent))
	}
	close(stop)
	for range 4 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if worst > 2*time.Second {
		t.Errorf("a record waited for %v behind a flood", worst)
	}
	t.Logf("the longest wait behind four floods: %v", worst)
}

func (r *rig) accepted() (n int64) {
	for _, c := range r.source.Connections() {
		n += c.Records
	}
	return n
}

func (r *rig) acceptedOf(c net.Conn) int64 {
	for _, status := range r.source.Connections() {
		if status.Peer == c.LocalAddr().String() {
			return status.Records
		}
	}
	return 0
}

// From the stop on nobody is let in who would be cut off at once: a sender is told
// by the refusal, not by a reset of what it has sent.
func TestNobodyIsLetInWhileConnectionsEnd(t *testing.T) {
	for _, l := range []Listen{{TCP, "127.0.0.1:0"}, {Unix, filepath.Join(t.TempDir(), "s")}} {
		r := start(t, listening(l.Network, l.Address), patient(func(p *patience) { p.stop = 20 * time.Second }))
		c := r.dial()
		r.send(c, "whole\nbegun")
		r.lane.Wait(1)
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			r.running.Stop()
		}()
		to := r.address()
		sourcetest.Eventually(t, func() bool {
			late, err := net.Dial(to.Network(), to.String())
			if err == nil {
				late.Close()
			}
			return err != nil
		}, "a refused connection on %s", l)
		select {
		case <-stopped:
			t.Error("it has ended, so this shows nothing")
		default:
		}
		r.send(c, " and ended\n")
		<-stopped
		r.droppedNothing() // the frame that had begun was awaited
	}
}
