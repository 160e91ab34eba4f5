package systemd

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

const configuration = `
agent {
  data_dir         = "state"
  plugin_dir       = "%%PLUGINS%%"
  http_listen      = "127.0.0.1:0"
  log_format       = "json"
  shutdown_timeout = "4s"
}
producer { bootstrap_servers = ["%s"] }
pipeline "plain" {
  topic = "plain"
  source "file" { include = ["*.plain"] }
}
pipeline "json" {
  topic = "json"
  source "file" { include = ["*.json"] }
  value_serializer "json" {}
}
`

// silentBroker accepts connections and says nothing.
func silentBroker(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			if _, err := listener.Accept(); err != nil {
				return
			}
		}
	}()
	return listener.Addr().String()
}

// TestABrokerThatIsDownKeepsNothingFromStarting: the unit is ready without a
// broker, says what is wrong, and is not started anew for it, however long it takes.
func TestABrokerThatIsDownKeepsNothingFromStarting(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(root(t), "bin", "barnabas")
	for name, bootstrap := range map[string]string{"refused": "127.0.0.1:1", "silent": silentBroker(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := startUnit(t, binary, fmt.Sprintf(configuration, bootstrap), "")
			u.await("READY=1", 20*time.Second, func() bool { return u.has("READY=1") })
			u.append("a.plain", "one\n")
			u.append("a.json", "one\n")
			u.await("the broker in the status", 30*time.Second, func() bool {
				status, _ := u.last("STATUS=")
				return strings.HasPrefix(status, "STATUS=0 records/s, lag 8 B, 2 pipelines; ") && strings.Contains(status, "producer default: ")
			})
			if code := u.get("/readyz"); code != 503 {
				t.Errorf("/readyz: %d", code)
			}
			u.knowsNothing()
			u.keepsAnswering(4 * period)
			if code := u.get("/healthz"); code != 200 {
				t.Errorf("/healthz: %d", code)
			}
			u.signal(syscall.SIGTERM)
			u.await("STOPPING=1", 3*time.Second, func() bool { return u.has("STOPPING=1") })
			if code := u.ends(9 * time.Second); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if gap := u.longestGap(); gap >= period {
				t.Errorf("the watchdog was not answered for %s at the end", gap)
			}
		})
	}
}

// knowsNothing checks that the agent's plugin is not told of systemd.
func (u *unit) knowsNothing() {
	u.t.Helper()
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", u.process.Pid()))
	if err != nil {
		u.t.Fatal(err)
	}
	found := 0
	for _, file := range children {
		list, _ := os.ReadFile(file) // a thread that has ended has no children
		for pid := range strings.FieldsSeq(string(list)) {
			environment, err := os.ReadFile("/proc/" + pid + "/environ")
			if err != nil {
				u.t.Fatal(err)
			}
			found++
			if strings.Contains(string(environment), "NOTIFY_SOCKET") || strings.Contains(string(environment), "WATCHDOG") {
				u.t.Errorf("a plugin's environment: %q", environment)
			}
		}
	}
	if found != 1 {
		u.t.Errorf("%d plugins run", found)
	}
}

// TestTheWatchdogIsNotAnsweredByAnAgentThatHasStopped: an agent with nothing to do
// is alive; one in which a part waits for ever is not, and says which.
func TestTheWatchdogIsNotAnsweredByAnAgentThatHasStopped(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "barnabas")
	stoppable(t, binary)
	for point, want := range map[string]string{
		"pipeline.positions.collected": "positions: checkpointer (select (no cases))",
		"producer.produce":             "producer default: dispatcher (select (no cases))",
		"pipeline.send":                "pipeline plain has held 1 record for",
	} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "plain", "json"))
			if err != nil {
				t.Fatal(err)
			}
			defer cluster.Close()
			// The checkpointer passes its point for the start of the sources, too.
			stopAt := point
			if point == "pipeline.positions.collected" {
				stopAt += ":2"
			}
			u := startUnit(t, binary, fmt.Sprintf(configuration, cluster.ListenAddrs()[0]), stopAt)
			u.await("READY=1", 20*time.Second, func() bool { return u.has("READY=1") })
			u.keepsAnswering(2 * period)
			u.append("a.plain", "one\n")
			u.await("the watchdog to be left alone", 30*time.Second, func() bool { return u.longestGap() > period })
			if !strings.Contains(u.log(), want) {
				t.Errorf("the log does not say %q", want)
			}
			if code := u.get("/healthz"); code != 503 {
				t.Errorf("/healthz: %d", code)
			}
			// What systemd sends then; Go answers with the stacks of all goroutines.
			u.signal(syscall.SIGABRT)
			if code := u.ends(5 * time.Second); code == 0 {
				t.Error("it ended well")
			}
			if !strings.Contains(u.log(), "goroutine ") {
				t.Error("no stacks are shown")
			}
		})
	}
}

// TestWhatIsNotTheAgentsFaultIsNoStandstill: records that wait for a plugin, however
// long, are no reason to start the agent anew.
func TestWhatIsNotTheAgentsFaultIsNoStandstill(t *testing.T) {
	t.Parallel()
	hostile := filepath.Join(t.TempDir(), "barnabas-interceptor-hostile")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", hostile, "./test/hostile")
	build.Dir, build.Env = root(t), append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "plain", "json", "waits"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	for name, interceptor := range map[string]string{
		"a plugin that hangs":           `interceptor "hostile" { ` + "\n" + `path = "` + hostile + `"` + "\n" + `env = { HOSTILE = "hangs" }` + "\n" + `timeout = "8s"` + "\n}",
		"a plugin that ends every time": `interceptor "hostile" { ` + "\n" + `path = "` + hostile + `"` + "\n" + `env = { HOSTILE = "exits at work" }` + "\n}",
		"a record that blocks":          `interceptor "filter" { ` + "\n" + `config = { keep = "value.noSuchMember" }` + "\n" + `on_error = "block"` + "\n" + `timeout = "1s"` + "\n}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := startUnit(t, filepath.Join(root(t), "bin", "barnabas"), fmt.Sprintf(configuration, cluster.ListenAddrs()[0])+`
pipeline "waits" {
  topic = "waits"
  source "file" { include = ["*.waits"] }
  on_failure = "block"
`+interceptor+"\n}\n", "")
			u.await("READY=1", 20*time.Second, func() bool { return u.has("READY=1") })
			u.append("a.waits", "one\n")
			u.await("the file", 10*time.Second, func() bool { return strings.Contains(u.log(), "a.waits") })
			u.keepsAnswering(9 * period) // beyond two periods and each timeout
			if strings.Contains(u.log(), "the agent has stopped") {
				t.Error("the log says that it has stopped")
			}
		})
	}
}
