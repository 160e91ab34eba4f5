package socket

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// S01: connections that send a byte now and then hold little memory, not for ever,
// and nobody else up.
func TestS01SlowSenders(t *testing.T) {
	const count = 10_000
	needDescriptors(t, count+otherDescriptors+1)
	r := start(t, func(c *Config, _ *spool.Config) { c.MaxConnections = count + 1 },
		patient(func(p *patience) { p.frame = 9 * time.Second }))
	fine := r.dial()
	r.connections(1)
	before := resident(t)
	slowClient(t, r.address(), count, 10*time.Second)
	sourcetest.Eventually(t, func() bool { return r.source.Connected() == count+1 && r.begun() == count }, "%d connections", count)
	each := (resident(t) - before) / count
	t.Logf("%d bytes of resident memory per connection", each)
	if !raced && each > 8<<10 {
		t.Errorf("a connection costs %d bytes", each)
	}
	began := time.Now()
	r.send(fine, "fine\n")
	r.expect("fine")
	if took := time.Since(began); took > time.Second {
		t.Errorf("a record waited for %v behind slow senders", took)
	}
	r.dropped(dropSlow, count)
	r.connections(1)
	r.send(fine, "still\n")
	r.expect("fine", "still")
}

// What TLS keeps of a connection comes on top.
func TestS01SlowSendersWithTLS(t *testing.T) {
	const count = 500
	_, change := secured(t, newAuthority(t), false)
	r := start(t, change, func(c *Config, _ *spool.Config) { c.MaxConnections = count })
	before := resident(t)
	end := slowClientAs(t, "tls", r.address(), count, time.Hour)
	sourcetest.Eventually(t, func() bool { return r.begun() == count }, "%d connections", count)
	each := (resident(t) - before) / count
	t.Logf("%d bytes of resident memory per connection", each)
	if !raced && each > 64<<10 {
		t.Errorf("a connection costs %d bytes", each)
	}
	end()
	r.connections(0)
}

// needDescriptors raises the limit, and fails where that is not allowed: a smaller
// number would not be what the test is for.
func needDescriptors(t *testing.T, n uint64) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur >= n {
		return
	}
	raised := unix.Rlimit{Cur: n, Max: max(n, limit.Max)}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err != nil {
		t.Fatalf("%d descriptors are needed, %d are allowed (ulimit -Hn): %v", n, limit.Max, err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) })
}

// resident returns the memory of the process that is in use.
func resident(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	file, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmRSS in the status")
	return 0
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	r := start(t, func(c *Config, _ *spool.Config) { c.IdleTimeout = 300 * time.Millisecond })
	idle, busy := r.dial(), r.dial()
	began := time.Now()
	stop := time.After(time.Second)
	for sending := true; sending; {
		select {
		case <-stop:
			sending = false
		case <-time.After(50 * time.Millisecond):
			r.send(busy, "a\n")
		}
	}
	r.closed(idle)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("an idle connection was open for %v", took)
	}
	r.send(busy, "last\n")
	sourcetest.Eventually(t, func() bool { v := r.lane.Values(); return v[len(v)-1] == "last" }, "the busy connection's last record")
	r.droppedNothing()
}

// requireNetns makes a machine that can't have network namespaces fail the test.
const requireNetns = "BARNABAS_REQUIRE_NETNS"

// S02: a peer that is gone without a word does not keep its place.
func TestS02HalfOpenPeer(t *testing.T) {
	space := fmt.Sprintf("barnabas%d", os.Getpid())
	run := func(command ...string) error {
		out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%v: %w: %s", command, err, out)
		}
		return nil
	}
	link := fmt.Sprintf("bs%d", os.Getpid())
	t.Cleanup(func() {
		run("ip", "link", "del", link+"a") // the kernel removes a namespace's links some time later
		run("ip", "netns", "del", space)
	})
	for _, command := range []string{
		"ip netns add SPACE", "ip link add LINKa type veth peer name LINKb netns SPACE", "ip addr add 198.18.77.1/30 dev LINKa", "ip link set LINKa up",
		"ip -n SPACE addr add 198.18.77.2/30 dev LINKb", "ip -n SPACE link set LINKb up",
	} {
		if err := run(strings.Fields(strings.NewReplacer("SPACE", space, "LINK", link).Replace(command))...); err != nil {
			if os.Getenv(requireNetns) == "" {
				t.Skipf("network namespaces need root and ip: %v", err)
			}
			t.Fatal(err)
		}
	}
	r := start(t, listening(TCP, "198.18.77.1:0"), patient(func(p *patience) {
		p.keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2}
	}))
	slowClient(t, r.address(), 20, time.Hour, "ip", "netns", "exec", space)
	r.connections(20)
	if err := run("ip", "-n", space, "link", "set", link+"b", "down"); err != nil {
		t.Fatal(err)
	}
	r.connections(0)
	r.dropped(dropPartial, 20)
}

// S10: who comes beyond max_connections is told so, and counted.
func TestS10MoreConnectionsThanAllowed(t *testing.T) {
	r := start(t, func(c *Config, _ *spool.Config) { c.MaxConnections = 3 },
		patient(func(p *patience) { p.place = time.Millisecond }))
	var kept []net.Conn
	for range 3 {
		kept = append(kept, r.dial())
	}
	r.connections(3)
	for n := range 50 {
		r.closed(r.dial())
		r.dropped(dropTooMany, n+1)
	}
	if n := strings.Count(r.log.String(), "connection refused"); n != 1 {
		t.Errorf("%d lines about refused connections", n)
	}
	kept[0].Close()
	r.connections(2)
	r.send(r.dial(), "room again\n")
	r.expect("room again")
}

// S10: a burst beyond max_connections waits in the kernel for a place, and none of it is lost.
func TestS10ABurstBeyondTheLimitWaits(t *testing.T) {
	r := start(t, func(c *Config, _ *spool.Config) { c.MaxConnections = 3 }, patient(func(p *patience) { p.place = time.Minute }))
	var want []string
	for n := range 60 {
		c := r.dial()
		record := fmt.Sprintf("%03d", n)
		r.send(c, record+"\n")
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		want = append(want, record)
	}
	r.lane.Wait(len(want))
	got := r.lane.Values()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%d records arrived: %q", len(got), got)
	}
	r.dropped(dropTooMany, 0)
}

// S10: without descriptors accepting is tried again with pauses, and what waited in
// the kernel is served once there are some.
func TestS10NoDescriptorsLeft(t *testing.T) {
	const count = 50
	c := settings(t)
	log := &logBuffer{}
	c.Logger = slog.New(slog.NewTextHandler(log, nil))
	s := open(t, c, spoolSettings(&c, t.TempDir()))
	slowClient(t, s.Addresses()[0], count, time.Hour) // they wait in the kernel
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := unix.Rlimit{Cur: limitWithRoom(t, count/2), Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	sourcetest.Start(t, s, sourcetest.NewLane(t))
	sourcetest.Eventually(t, func() bool { return strings.Contains(log.String(), "accepting connections failed") }, "a word about descriptors")
	used := processorTime(t)
	<-time.After(time.Second)
	if busy := processorTime(t) - used; busy > 300*time.Millisecond {
		t.Errorf("%v of processor time in a second of waiting for descriptors", busy)
	}
	if n := s.Connected(); n == 0 || n == count {
		t.Errorf("%d connections with descriptors for half of %d", n, count)
	}
	unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	sourcetest.Eventually(t, func() bool { return s.Connected() == count }, "%d connections", count)
}

// S10: some descriptors are never given to connections.
func TestS10DescriptorsForTheRest(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: otherDescriptors + 5, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	r := start(t, patient(func(p *patience) { p.place = time.Millisecond }))
	for range 5 {
		r.dial()
	}
	r.connections(5)
	r.closed(r.dial())
	r.dropped(dropTooMany, 1)
	if !strings.Contains(r.log.String(), "in_force=5") {
		t.Error("nothing is said about the limit of descriptors")
	}
}

// limitWithRoom returns the limit of descriptors that leaves n of them.
func limitWithRoom(t *testing.T, n int) uint64 {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, e := range entries {
		used[e.Name()] = true
	}
	limit := 0
	for ; n > 0; limit++ {
		if !used[strconv.Itoa(limit)] {
			n--
		}
	}
	return uint64(limit)
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestOnlyThoseWhoAreAllowed(t *testing.T) {
	for _, network := range []Network{TCP, UDP} {
		r := start(t, listening(network, "127.0.0.1:0"), func(c *Config, _ *spool.Config) {
			c.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32"), netip.MustParsePrefix("2001:db8::/32")}
		})
		for n := range 10 {
			c := r.dial()
			io.WriteString(c, "refused\n") // may fail: the source has closed it already
			r.dropped(dropNotAllowed, n+1)
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		if network == UDP {
			d.LocalAddr = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}
		}
		c, err := d.Dial(string(network), r.address().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r.send(c, "allowed\n")
		r.expect("allowed")
		if n := strings.Count(r.log.String(), "refused"); n != 1 {
			t.Errorf("%d lines about refusals", n)
		}
	}
}

func TestAllowListKnowsMappedAddresses(t *testing.T) {
	l := allowList{netip.MustParsePrefix("10.0.0.0/8")}
	for address, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "11.0.0.1": false, "::1": false, "fe80::1%eth0": false} {
		if got := l.allows(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if !(allowList{netip.MustParsePrefix("fe80::/10")}).allows(netip.MustParseAddr("fe80::1%eth0")) {
		t.Error("an address with a zone is not in its network")
	}
}

// What was read and not taken is counted to the last frame, those behind the ones that were refused too.
func TestEveryFrameThatAStopLeavesIsCounted(t *testing.T) {
	r := start(t, func(c *Config, sc *spool.Config) { c.MaxFrame, sc.MaxSize = 4<<10, 1<<20 },
		patient(func(p *patience) { p.stop = 300 * time.Millisecond }))
	r.lane.Limit(0)
	const lines = 3 * smallEntries
	c := r.dial()
	// Records as long as those that are sent, so that no room is left for any.
	filling, full := context.WithCancel(t.Context())
	var filler sync.WaitGroup
	filler.Go(func() {
		for filling.Err() == nil {
			_, _ = r.source.spool.Enqueue(filling, []spool.Entry{{Peer: c.LocalAddr().String(), Value: []byte("f")}})
		}
	})
	sourcetest.Eventually(t, func() bool { return r.source.spool.Status().Problem != "" }, "a full spool")
	full()
	filler.Wait()
	r.send(c, strings.Repeat("w\n", lines))
	sourcetest.Eventually(t, func() bool { return len(r.source.turns.small) < smallTurns }, "the connection waits for the spool")
	r.running.Stop()
	r.dropped(dropStopped, lines)
}
