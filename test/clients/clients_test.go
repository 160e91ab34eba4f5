// Package clients sends to the real agent with the programs of the field, and
// checks that every message arrives and is understood. A program that is missing
// skips its part, unless BARNABAS_REQUIRE_CLIENTS=1.
package clients

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-agent/barnabas/test/kafka/topic"
	"github.com/barnabas-agent/barnabas/test/process"
)

const requireVariable = "BARNABAS_REQUIRE_CLIENTS"

const configuration = `
agent {
  data_dir         = "state"
  plugin_dir       = "PLUGINS"
  http_listen      = ""
  shutdown_timeout = "10s"
}
producer { bootstrap_servers = ["BOOTSTRAP"] }
pipeline "syslog" {
  topic = "syslog"
  source "socket" {
    listen  = "tcp://TCP"
    framing = "syslog"
  }
  source "socket" {
    listen  = "udp://TCP"
    framing = "syslog"
  }
  source "socket" {
    listen  = "unix://DIR/stream"
    framing = "syslog"
  }
  source "socket" {
    listen  = "unixgram://DIR/datagram"
    framing = "syslog"
  }
  source "socket" {
    listen  = "tcp://NUL"
    framing = "nul"
  }
  source "socket" {
    listen  = "tcp://TLS"
    framing = "syslog"
    tls {
      cert_file      = "cert.pem"
      key_file       = "key.pem"
      client_ca_file = "cert.pem"
    }
  }
  interceptor "parse" {
    config   = { format = "syslog" }
    on_error = "quarantine"
  }
  value_serializer "json" { }
}
pipeline "lines" {
  topic = "lines"
  source "socket" { listen = "tcp://LINES" }
  source "socket" { listen = "udp://LINES" }
  source "socket" { listen = "unix://DIR/lines" }
}
`

// site is an agent with a broker, and where it listens.
type site struct {
	t         *testing.T
	dir       string
	addresses map[string]string // by their names in the configuration
	broker    string
}

// need skips a test whose program is missing, or fails it where it must run.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv(requireVariable) == "1" {
				t.Fatalf("%v, and %s=1", err, requireVariable)
			}
			t.Skip(err)
		}
	}
}

func start(t *testing.T) *site {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "syslog", "lines"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: t.TempDir(), addresses: map[string]string{}, broker: cluster.ListenAddrs()[0]}
	text := strings.NewReplacer("PLUGINS", filepath.Join(bin, "plugins"), "BOOTSTRAP", s.broker, "DIR", s.dir).Replace(configuration)
	for _, name := range []string{"TCP", "NUL", "TLS", "LINES"} {
		s.addresses[name] = freeAddress(t)
		text = strings.ReplaceAll(text, "://"+name+`"`, "://"+s.addresses[name]+`"`)
	}
	s.certificate()
	config := filepath.Join(s.dir, "agent.hcl")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	command := exec.Command(filepath.Join(bin, "barnabas"), "run", "--config", config)
	command.Stdout, command.Stderr = log, log
	running, err := process.Start(command)
	if err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	t.Cleanup(func() {
		if err := running.Stop(15 * time.Second); err != nil {
			t.Error(err)
		}
		if text, err := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("log of the agent: %v\n%s", err, text)
		}
	})
	s.waitListening(log.Name(), 9)
	return s
}

// waitListening waits until all sources take what is sent.
func (s *site) waitListening(log string, sources int) {
	s.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		text, err := os.ReadFile(log)
		if err != nil {
			s.t.Fatal(err)
		}
		if strings.Count(string(text), "listening") == sources {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the agent does not listen:\n%s", text)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// certificate writes one that is server's, client's and authority's alike.
func (s *site) certificate() {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(s.dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

// host and port of an address.
func (s *site) split(name string) (host, port string) {
	s.t.Helper()
	host, port, err := net.SplitHostPort(s.addresses[name])
	if err != nil {
		s.t.Fatal(err)
	}
	return host, port
}

// run runs a client to its end, with an input.
func (s *site) run(input string, command ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Dir, c.Stdin = s.dir, strings.NewReader(input)
	if out, err := c.CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

// values waits until the topic has a value that is wanted, for each of them.
func (s *site) values(name string, wanted ...func(value string) bool) {
	s.t.Helper()
	t := topic.Topic{Bootstrap: s.broker, Name: name}
	deadline := time.Now().Add(20 * time.Second)
	for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
		var all []string
		if err := t.Each(s.t.Context(), func(r *kgo.Record) { all = append(all, string(r.Value)) }); err != nil {
			s.t.Fatal(err)
		}
		missing := 0
		for _, is := range wanted {
			found := false
			for _, v := range all {
				found = found || is(v)
			}
			if !found {
				missing++
			}
		}
		if missing == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d of %d messages are missing; the topic has\n%s", missing, len(wanted), strings.Join(all, "\n"))
		}
	}
}

// message is a parsed one with this text and program.
func message(text, program string) func(string) bool {
	return func(value string) bool {
		var m struct{ Message, AppName string }
		return json.Unmarshal([]byte(value), &m) == nil && strings.TrimSpace(m.Message) == text && m.AppName == program
	}
}

func line(text string) func(string) bool { return func(value string) bool { return value == text } }

func TestLogger(t *testing.T) {
	need(t, "logger")
	s := start(t)
	host, port := s.split("TCP")
	for text, arguments := range map[string][]string{
		"udp 5424":      {"--udp", "-n", host, "-P", port, "--rfc5424"},
		"udp 3164":      {"--udp", "-n", host, "-P", port, "--rfc3164"},
		"tcp lines":     {"--tcp", "-n", host, "-P", port},
		"tcp counted":   {"--tcp", "-n", host, "-P", port, "--octet-count"},
		"unix datagram": {"-d", "-u", filepath.Join(s.dir, "datagram")},
		"unix stream":   {"-T", "-u", filepath.Join(s.dir, "stream"), "--rfc5424"},
		"unix counted":  {"-T", "-u", filepath.Join(s.dir, "stream"), "--rfc5424", "--octet-count"},
	} {
		s.run("", append(append([]string{"logger", "-t", "probe"}, arguments...), text)...)
		s.values("syslog", message(text, "probe"))
	}
	s.run("first of three\nsecond of three\nthird of three\n", "logger", "-t", "probe", "--tcp", "-n", host, "-P", port, "--octet-count")
	s.values("syslog", message("first of three", "probe"), message("second of three", "probe"), message("third of three", "probe"))
}

func TestNetcat(t *testing.T) {
	need(t, "nc")
	s := start(t)
	host, port := s.split("LINES")
	s.run("tcp one\ntcp two", "nc", "-N", host, port)
	s.run("udp one\n", "nc", "-u", "-w1", host, port)
	s.run("unix one\n", "nc", "-NU", filepath.Join(s.dir, "lines"))
	s.values("lines", line("tcp one"), line("tcp two"), line("udp one"), line("unix one"))
}

func TestOpenSSL(t *testing.T) {
	need(t, "openssl")
	s := start(t)
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		c := exec.CommandContext(ctx, "openssl", "s_client", "-quiet", "-no_ign_eof", "-connect", s.addresses["TLS"], version,
			"-cert", "cert.pem", "-key", "key.pem", "-CAfile", "cert.pem", "-verify_return_error")
		c.Dir, c.Stdin = s.dir, strings.NewReader("<13>probe: by "+version+"\n")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		s.values("syslog", message("by "+version, "probe"))
	}
}

// TestPython uses SysLogHandler, which ends a message with a zero byte and parts
// those of a stream with nothing else.
func TestPython(t *testing.T) {
	need(t, "python3")
	s := start(t)
	for text, arguments := range map[string][]string{
		"by python over udp":           append([]string{"SOCK_DGRAM"}, pair(s.split("TCP"))...),
		"by python over tcp":           append([]string{"SOCK_STREAM"}, pair(s.split("NUL"))...),
		"by python over unix datagram": {"SOCK_DGRAM", filepath.Join(s.dir, "datagram")},
	} {
		s.run("", append([]string{"python3", "-c", `
import logging, logging.handlers, socket, sys
text, kind, *address = sys.argv[1:]
address = address[0] if len(address) == 1 else (address[0], int(address[1]))
handler = logging.handlers.SysLogHandler(address=address, socktype=getattr(socket, kind))
handler.ident = "probe: "
log = logging.getLogger()
log.addHandler(handler)
log.warning(text)
log.warning(text + " again")
handler.close()
`, text}, arguments...)...)
		s.values("syslog", message(text, "probe"), message(text+" again", "probe"))
	}
}

func pair(a, b string) []string { return []string{a, b} }

// TestRsyslog forwards with omfwd what an instance of its own gets.
func TestRsyslog(t *testing.T) {
	need(t, "rsyslogd", "logger")
	s := start(t)
	host, port := s.split("TCP")
	for name, options := range map[string]string{
		"traditional": `protocol="tcp" tcp_framing="traditional"`,
		"counted":     `protocol="tcp" tcp_framing="octet-counted"`,
		"udp":         `protocol="udp"`,
		"5424":        `protocol="tcp" tcp_framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format"`,
	} {
		in, config := filepath.Join(s.dir, name+".in"), filepath.Join(s.dir, name+".conf")
		text := fmt.Sprintf(`global(workDirectory=%q)
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket=%q)
action(type="omfwd" target=%q port=%q %s)
`, s.dir, in, host, port, options)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		command := exec.Command("rsyslogd", "-n", "-f", config, "-i", filepath.Join(s.dir, name+".pid"))
		command.Stdout, command.Stderr = t.Output(), t.Output()
		running, err := process.Start(command)
		if err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(20 * time.Second)
		for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
			if _, err := os.Stat(in); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("rsyslogd does not make its socket")
			}
		}
		s.run("", "logger", "-u", in, "-t", "probe", "by rsyslog, "+name)
		s.values("syslog", message("by rsyslog, "+name, "probe"))
		if err := running.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-running.Ended()
	}
}
