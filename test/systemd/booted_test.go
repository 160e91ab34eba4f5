package systemd

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-agent/barnabas/test/python"
)

// bootVariable asks for the test that boots a Debian: it needs root and takes minutes.
const bootVariable = "BARNABAS_TEST_SYSTEMD"

// bootedConfiguration replaces what is installed. One plugin's settings are a credential.
const bootedConfiguration = `
agent {
  data_dir         = "/var/lib/barnabas"
  plugin_dir       = "/usr/lib/barnabas/plugins"
  shutdown_timeout = "8s"
}
producer { bootstrap_servers = ["localhost:9092"] }
pipeline "files" {
  topic = "files"
  source "file" { include = ["/var/log/test/*.log"] }
  interceptor "set" { config = { headers = { secret = credential("token") } } }
  value_serializer "json" {}
}
pipeline "syslog" {
  topic = "syslog"
  source "socket" {
    listen  = "systemd://syslog"
    framing = "syslog"
  }
  interceptor "parse" { config = { format = "syslog" } }
  value_serializer "json" {}
}
pipeline "python" {
  topic = "python"
  source "file" { include = ["/var/log/test/*.quiet"] }
  interceptor "shout" {}
}
`

// hostilePipeline is added where a plugin is to misbehave; %s is how.
const hostilePipeline = `
pipeline "hostile" {
  topic = "hostile"
  source "file" { include = ["/var/log/test/*.hostile"] }
  interceptor "hostile" {
    env        = { HOSTILE = "%s", HOSTILE_ON = "now" }
    memory_max = "256MiB"
    timeout    = "60s"
  }
}
`

// watchdogTime is short, to see the watchdog at work.
const watchdogTime = 12 * time.Second

// install puts in place the package, which is installed later, and what else the checks need.
func install(t *testing.T, into string) {
	t.Helper()
	packages, err := filepath.Glob(filepath.Join(root(t), "dist/*.deb"))
	if err != nil || len(packages) != 1 {
		t.Fatalf("packages %v in dist (%v): run make package first", packages, err)
	}
	copyFile(t, packages[0], filepath.Join(into, "srv/barnabas.deb"), 0o644)
	if err := os.MkdirAll(filepath.Join(into, "usr/lib/barnabas/plugins"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(into, "etc/hosts"), []byte("127.0.0.1 localhost\n::1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	installPython(t, into)
	stoppable(t, filepath.Join(into, "usr/bin/barnabas-stoppable"))
	hostile := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o",
		filepath.Join(into, "usr/lib/barnabas/plugins/barnabas-interceptor-hostile"), "./test/hostile")
	hostile.Dir, hostile.Env = root(t), append(os.Environ(), "CGO_ENABLED=0")
	if output, err := hostile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

// installPython puts in place a plugin in Python with the packages that it needs.
func installPython(t *testing.T, into string) {
	t.Helper()
	interpreter := pythontest.Require(t)
	packages := run(t, time.Minute, interpreter, "-c", "import sys, sysconfig; assert sys.version_info[:2] == (3, 11), 'Debian "+release+" has Python 3.11, and compiled packages fit one version'; print(sysconfig.get_paths()['purelib'])")
	run(t, time.Minute, "cp", "-a", packages+"/.", filepath.Join(root(t), "plugins/python/barnabas_plugin"), filepath.Join(into, "usr/lib/python3/dist-packages"))
	script, err := os.ReadFile(filepath.Join(root(t), "plugins/python/examples/barnabas-interceptor-shout"))
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(script), "\n")
	if err := os.WriteFile(filepath.Join(into, "usr/lib/barnabas/plugins/barnabas-interceptor-shout"), []byte("#!/usr/bin/python3\n"+code), 0o755); err != nil {
		t.Fatal(err)
	}
}

// kafka is a broker in the container's network that is taken down and comes back with its data.
type kafka struct {
	m       *machine
	dir     string
	cluster *kfake.Cluster
}

func (k *kafka) up() {
	k.m.t.Helper()
	var err error
	k.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(k.m.listen), kfake.DataDir(k.dir), kfake.SyncWrites())
	if err != nil {
		k.m.t.Fatal(err)
	}
	for _, topic := range []string{"files", "syslog", "python", "hostile", "logs"} {
		_ = k.cluster.CreateTopic(topic, 1, nil) // is there when it comes back
	}
}

func (k *kafka) down() { k.cluster.Close() }

// wantNumbered reads a topic until it has held numbers 0 to count-1, in whatever copies, and returns the last record.
func (k *kafka) wantNumbered(topic, prefix string, count int, within time.Duration) *kgo.Record {
	k.m.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers("localhost:9092"), kgo.ConsumeTopics(topic), kgo.Dialer(k.m.dial),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200*time.Millisecond))
	if err != nil {
		k.m.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	missing := make(map[int]bool)
	for n := range count {
		missing[n] = true
	}
	number := regexp.MustCompile(regexp.QuoteMeta(prefix) + `(\d+)\b`)
	var last *kgo.Record
	copies := 0
	for len(missing) > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			k.m.t.Fatalf("%d of %d records are missing in topic %s\n%s", len(missing), count, topic, k.m.journal())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if found := number.FindSubmatch(r.Value); found != nil {
				n, _ := strconv.Atoi(string(found[1]))
				delete(missing, n)
				last = r
				copies++
			}
		})
	}
	k.m.t.Logf("topic %s: all of %d, %d duplicates", topic, count, copies-count)
	return last
}

// numbered appends lines number from to to-1.
func (m *machine) numbered(file string, from, to int) {
	m.t.Helper()
	var lines strings.Builder
	for n := from; n < to; n++ {
		fmt.Fprintf(&lines, "line-%d\n", n)
	}
	m.append(file, lines.String())
}

func (m *machine) append(file, text string) {
	m.t.Helper()
	f, err := os.OpenFile(filepath.Join(m.root, "var/log/test", file), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		m.t.Fatal(err)
	}
	m.sh("chown", "root:adm", "/var/log/test/"+file)
	m.sh("chmod", "0640", "/var/log/test/"+file)
}

// frames sends messages to the activated socket, each connection a few, as senders do that come and go.
func (m *machine) frames(from, to int) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for n := from; n < to; n++ {
		connection, err := m.dial(ctx, "tcp", "127.0.0.1:5140")
		if err != nil {
			m.t.Fatalf("a sender was refused: %v", err)
		}
		if _, err := fmt.Fprintf(connection, "<13>1 2026-11-27T16:29:09Z web-1 app - - - frame-%d\n", n); err != nil {
			m.t.Fatal(err)
		}
		connection.Close()
	}
}

func TestBooted(t *testing.T) {
	if os.Getenv(bootVariable) != "1" {
		t.Skip("make test-systemd boots the unit in a Debian")
	}
	if os.Geteuid() != 0 {
		t.Fatal("root is needed to boot a container")
	}
	m := boot(t, func(into string) { install(t, into) })
	k := &kafka{m: m, dir: t.TempDir()}
	m.sh("mkdir", "-p", "/var/log/test")
	for _, step := range []struct {
		name string
		run  func(*testing.T, *machine, *kafka)
	}{
		{"a fresh unit starts as it is, without a broker", freshUnit},
		{"the unit is hardened and well-formed", hardened},
		{"lines and frames become records through plugins in Go and Python, secrets come as credentials", delivers},
		{"killed, it is started again, and nothing is missing", killed},
		{"no sender is refused while it restarts", restarted},
		{"a plugin that needs too much memory leaves the agent alone", outOfMemory},
		{"an outage longer than twice WatchdogSec changes nothing", outage},
		{"an agent that has stopped is started again", stopped},
		{"it ends in time with a plugin that hangs and a broker that is down", stops},
		{"removed, it leaves its state and nothing that runs", removed},
	} {
		passed := t.Run(step.name, func(t *testing.T) {
			m.t = t
			begun := time.Now()
			step.run(t, m, k)
			t.Logf("%.1f s", time.Since(begun).Seconds())
		})
		m.t = t
		if !passed {
			t.Fatalf("the rest needs it; journal without stacks:\n%s", regexp.MustCompile(`(?m)^(goroutine .*|\s.*|[a-z].*\(.*|r[a-z0-9]{1,2} .*)\n`).ReplaceAllString(m.journal(), ""))
		}
	}
}

func freshUnit(t *testing.T, m *machine, _ *kafka) {
	t.Log(m.sh("dpkg", "--install", "/srv/barnabas.deb"))
	m.sh("systemctl", "enable", "--quiet", "--now", "barnabas.service")
	if state := m.show("ActiveState"); state != "active" {
		t.Fatalf("the unit is %s", state)
	}
	await(t, "the broker in the status", 30*time.Second, func() bool {
		status := m.show("StatusText")
		return strings.HasPrefix(status, "0 records/s, lag ") && strings.Contains(status, "producer default: ")
	})
	t.Logf("status: %s", m.show("StatusText"))
	for _, p := range m.processes() {
		t.Logf("runs: %s", p)
	}
	m.sh("systemctl", "stop", "barnabas.service")
	if result := m.show("Result"); result != "success" {
		t.Errorf("result %s", result)
	}
}

func hardened(t *testing.T, m *machine, _ *kafka) {
	score := m.sh("systemd-analyze", "security", "--no-pager", "--threshold=20", "barnabas.service")
	t.Log(score[strings.LastIndex(score, "Overall"):])
	if said := m.sh("systemd-analyze", "verify", "--man=no", "barnabas.service", "barnabas.socket"); said != "" {
		t.Errorf("verify says: %s", said)
	}
}

// configure installs a configuration with more behind it, and lets systemd know.
func (m *machine) configure(more string) {
	m.write("etc/barnabas/agent.hcl", bootedConfiguration+more, 0o644)
}

func delivers(t *testing.T, m *machine, k *kafka) {
	m.write("etc/barnabas/secrets/token", "'s3cret'", 0o600)
	m.dropIn("credentials", "[Service]\nLoadCredential=token:/etc/barnabas/secrets/token\n")
	m.dropIn("watchdog", fmt.Sprintf("[Service]\nWatchdogSec=%d\n", int(watchdogTime.Seconds())))
	m.configure("")
	k.up()
	m.sh("systemctl", "enable", "--quiet", "--now", "barnabas.socket")
	m.sh("systemctl", "start", "barnabas.service")
	m.numbered("a.log", 0, 1000)
	m.frames(0, 100)
	m.append("a.quiet", "line-0 is quiet\n")
	record := k.wantNumbered("files", "line-", 1000, 30*time.Second)
	if len(record.Headers) != 1 || string(record.Headers[0].Value) != "s3cret" {
		t.Errorf("headers %v", record.Headers)
	}
	record = k.wantNumbered("syslog", "frame-", 100, 30*time.Second)
	if !strings.Contains(string(record.Value), `"hostname":"web-1","appname":"app"`) {
		t.Errorf("not parsed: %s", record.Value)
	}
	if record = k.wantNumbered("python", "LINE-", 1, 30*time.Second); string(record.Value) != "LINE-0 IS QUIET!" {
		t.Errorf("the plugin in Python made %q", record.Value)
	}
	if strings.Contains(m.journal(), "s3cret") {
		t.Error("the journal shows the credential")
	}
	await(t, "figures in the status", 10*time.Second, func() bool {
		return strings.HasSuffix(m.show("StatusText"), "lag 0 B, 3 pipelines")
	})
}

func killed(t *testing.T, m *machine, k *kafka) {
	before := m.show("MainPID")
	m.numbered("a.log", 1000, 1500)
	m.sh("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "barnabas.service")
	m.numbered("a.log", 1500, 2000)
	await(t, "the new process", 30*time.Second, func() bool {
		return m.show("ActiveState") == "active" && m.show("MainPID") != before && m.show("NRestarts") == "1"
	})
	k.wantNumbered("files", "line-", 2000, 30*time.Second)
	for _, p := range m.processes() {
		t.Logf("runs: %s", p)
	}
	if n := len(m.processes()); n != 6 {
		t.Errorf("%d processes, want the agent and five plugins", n)
	}
}

func restarted(t *testing.T, m *machine, k *kafka) {
	restart := make(chan error, 1)
	go func() {
		_, err := m.try("systemctl", "restart", "barnabas.service")
		restart <- err
	}()
	sent := 100
	pace := time.NewTicker(10 * time.Millisecond) // connections beyond max_connections wait only so long
	defer pace.Stop()
	for running := true; running; {
		m.frames(sent, sent+2)
		sent += 2
		<-pace.C
		select {
		case err := <-restart:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
	}
	t.Logf("%d connections during the restart", sent-100)
	k.wantNumbered("syslog", "frame-", sent, 30*time.Second)
}

func outOfMemory(t *testing.T, m *machine, k *kafka) {
	m.configure(fmt.Sprintf(hostilePipeline, "takes memory"))
	m.sh("systemctl", "restart", "barnabas.service")
	before, restarts := m.show("MainPID"), m.show("NRestarts")
	m.append("a.hostile", "now\n")
	await(t, "the plugin's end", 60*time.Second, func() bool {
		return regexp.MustCompile(`(?i)out of memory|cannot allocate memory|more than memory_max`).MatchString(m.journal())
	})
	m.numbered("a.log", 2000, 2100)
	k.wantNumbered("files", "line-", 2100, 30*time.Second)
	if now := m.show("MainPID"); now != before || m.show("NRestarts") != restarts {
		t.Errorf("the agent was started anew: %s, %s", before, now)
	}
	m.sh("rm", "/var/log/test/a.hostile")
}

func outage(t *testing.T, m *machine, k *kafka) {
	m.configure("")
	m.sh("systemctl", "restart", "barnabas.service")
	m.sh("systemctl", "reset-failed", "barnabas.service")
	before := m.show("MainPID")
	k.down()
	m.numbered("a.log", 2100, 2200)
	end := time.Now().Add(2*watchdogTime + 6*time.Second)
	await(t, "the outage's end", time.Until(end)+time.Minute, func() bool { return time.Now().After(end) })
	if now := m.show("MainPID"); now != before {
		t.Fatalf("the agent was started anew: %s, %s", before, now)
	}
	status := m.show("StatusText")
	if t.Logf("status: %s", status); !strings.Contains(status, "producer default: ") {
		t.Error("the status does not tell of the broker")
	}
	k.up()
	k.wantNumbered("files", "line-", 2200, 60*time.Second)
}

func stopped(t *testing.T, m *machine, k *kafka) {
	m.dropIn("stoppable", "[Service]\nExecStart=\nExecStart=/usr/bin/barnabas-stoppable run --config /etc/barnabas/agent.hcl\nEnvironment=BARNABAS_STOP_AT=producer.produce:1\n")
	m.sh("systemctl", "restart", "barnabas.service")
	before := m.show("MainPID")
	m.numbered("a.log", 2200, 2300)
	// Lines 0 to 2199 are stored, so only the new ones lead to the point.
	await(t, "the watchdog", 3*watchdogTime+30*time.Second, func() bool { return strings.Contains(m.journal(), "Watchdog timeout") })
	await(t, "the new process", 60*time.Second, func() bool {
		return m.show("ActiveState") == "active" && m.show("MainPID") != before && m.show("NRestarts") != "0"
	})
	journal := m.journal()
	for _, want := range []string{"producer default: dispatcher (select (no cases))", "SIGABRT", "dispatcher).produce"} {
		if !strings.Contains(journal, want) {
			t.Errorf("the journal does not hold %q", want)
		}
	}
	m.dropIn("stoppable", "")
	m.sh("systemctl", "restart", "barnabas.service")
	k.wantNumbered("files", "line-", 2300, 30*time.Second)
}

func stops(t *testing.T, m *machine, k *kafka) {
	m.configure(fmt.Sprintf(hostilePipeline, "hangs"))
	m.sh("systemctl", "restart", "barnabas.service")
	m.append("b.hostile", "now\n")
	await(t, "the file", 20*time.Second, func() bool { return strings.Contains(m.journal(), "b.hostile") })
	k.down()
	m.numbered("a.log", 2300, 2400)
	await(t, "lines in flight", 20*time.Second, func() bool { return strings.Contains(m.show("StatusText"), "producer default: ") })
	begun := time.Now()
	m.sh("systemctl", "stop", "barnabas.service")
	took := time.Since(begun)
	t.Logf("stopped after %.1f s", took.Seconds())
	if took > 8*time.Second+5*time.Second {
		t.Error("that is beyond shutdown_timeout and 5 s")
	}
	if result := m.show("Result"); result != "success" {
		t.Errorf("result %s", result)
	}
	if left := m.processes(); len(left) > 0 {
		t.Errorf("still runs: %q", left)
	}
}

func removed(t *testing.T, m *machine, _ *kafka) {
	m.configure("")
	m.sh("systemctl", "start", "barnabas.service")
	m.sh("dpkg", "--remove", "barnabas")
	if left := m.processes(); len(left) > 0 {
		t.Errorf("still runs: %q", left)
	}
	m.sh("test", "-s", "/var/lib/barnabas/positions")
	m.sh("test", "-s", "/etc/barnabas/agent.hcl")
	if units, err := m.try("systemctl", "cat", "barnabas.socket"); err == nil {
		t.Errorf("a unit is left: %s", units)
	}
}
