package socket

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// clientVariable makes the test binary a client, with descriptors of its own.
const clientVariable = "BARNABAS_TEST_SOCKET_CLIENT"

func TestMain(m *testing.M) {
	if what := os.Getenv(clientVariable); what != "" {
		if err := runClient(strings.Fields(what)); err != nil {
			fmt.Fprintln(os.Stderr, "client:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// runClient opens connections, sends a byte over each, says so, and sends another
// one at each tick until its standard input ends: NETWORK ADDRESS COUNT INTERVAL.
func runClient(arguments []string) error {
	count, err := strconv.Atoi(arguments[2])
	if err != nil {
		return err
	}
	interval, err := time.ParseDuration(arguments[3])
	if err != nil {
		return err
	}
	var all []net.Conn
	for range count {
		c, err := dialAs(arguments[0], arguments[1])
		if err != nil {
			return err
		}
		all = append(all, c)
		if _, err := io.WriteString(c, "x"); err != nil {
			return err
		}
	}
	fmt.Println("open")
	ended := make(chan struct{})
	go func() { defer close(ended); io.Copy(io.Discard, os.Stdin) }()
	tick := time.NewTicker(interval)
	for {
		select {
		case <-ended:
			return nil
		case <-tick.C:
			for _, c := range all {
				io.WriteString(c, "x") // fails once the source has given the connection up
			}
		}
	}
}

// dialAs connects to a network's address; "tls" is one more network.
func dialAs(network, address string) (net.Conn, error) {
	if network == "tls" {
		return tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	}
	return net.Dial(network, address)
}

// slowClient starts a client and returns once all its connections are open. prefix
// is a command to run it by. end ends it.
func slowClient(t *testing.T, to net.Addr, count int, interval time.Duration, prefix ...string) (end func()) {
	t.Helper()
	return slowClientAs(t, to.Network(), to, count, interval, prefix...)
}

func slowClientAs(t *testing.T, network string, to net.Addr, count int, interval time.Duration, prefix ...string) (end func()) {
	t.Helper()
	command := append(prefix, os.Args[0], "-test.run=^$")
	c := exec.Command(command[0], command[1:]...)
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d %s", clientVariable, network, to, count, interval))
	c.Stderr = t.Output()
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			in.Close()
			c.Wait()
		}
	}
	t.Cleanup(end)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		t.Fatalf("the client says %q, %v", line, err)
	}
	return end
}
