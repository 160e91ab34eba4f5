// Package crash kills the agent: at each of its named points, and at random
// moments while files rotate and brokers restart, and checks with a ledger what
// arrived. The broker is kfake, in a process of its own, or a real Kafka.
package crash

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/barnabas-agent/barnabas/test/kafka"
	"github.com/barnabas-agent/barnabas/test/kafka/topic"
	"github.com/barnabas-agent/barnabas/test/process"
)

// brokerVariable makes the test binary a broker: DIR PORT.
const brokerVariable = "BARNABAS_TEST_BROKER"

var kafka kafkatest.Shared

func TestMain(m *testing.M) {
	if os.Getenv(brokerVariable) == "1" {
		if err := serveBroker(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(kafka.Around(m).Run())
}

// serveBroker runs kfake, which syncs each batch before it acknowledges it, until
// it is told to end, and says its port.
func serveBroker(dir, port string) error {
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(number), kfake.DataDir(dir), kfake.SyncWrites())
	if err != nil {
		return err
	}
	defer cluster.Close()
	fmt.Println(cluster.ListenAddrs()[0])
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end
	return nil
}

// fakeBroker is kfake in a process of its own, on a port and data that outlive it.
type fakeBroker struct {
	t       testing.TB
	dir     string
	address string
	process *process.Process
}

func startFakeBroker(t testing.TB) *fakeBroker {
	t.Helper()
	b := &fakeBroker{t: t, dir: t.TempDir()}
	b.start()
	t.Cleanup(func() { b.process.Kill() })
	return b
}

func (b *fakeBroker) start() {
	b.t.Helper()
	port := "0"
	if b.address != "" {
		_, port, _ = strings.Cut(b.address, ":")
	}
	read, write, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	defer read.Close()
	c := exec.Command(os.Args[0], b.dir, port)
	c.Env = append(os.Environ(), brokerVariable+"=1")
	c.Stdout, c.Stderr = write, os.Stderr
	b.process, err = process.Start(c)
	write.Close()
	if err != nil {
		b.t.Fatal(err)
	}
	line := make([]byte, 64)
	n, err := read.Read(line)
	if err != nil {
		b.t.Fatalf("the broker did not start: %v", err)
	}
	b.address = strings.TrimSpace(string(line[:n]))
}

func (b *fakeBroker) Bootstrap() string { return b.address }
func (b *fakeBroker) Kill()             { b.process.Kill() }
func (b *fakeBroker) Restart()          { b.start() }

// realBroker is a Kafka of one broker.
type realBroker struct{ *kafkatest.Cluster }

func (b realBroker) Kill()    { b.Cluster.Kill(1) }
func (b realBroker) Restart() { b.Cluster.Restart(1) }

// broker is what the agents of these tests send to. It serves when Restart returns.
type broker interface {
	Bootstrap() string
	Kill()
	Restart()
}

// build builds a package of the module with the crash points compiled in.
func build(t *testing.T, name, folder string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	c := exec.CommandContext(t.Context(), "go", "build", "-tags=crashpoints", "-o", path, "./"+folder)
	c.Dir = root(t)
	if output, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return path
}

// root returns the folder of the module.
func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// rig is an agent with its folder and topic.
type rig struct {
	t      testing.TB
	binary string
	dir    string
	topic  *topic.Topic
	starts int
}

// newRig writes the configuration, in which %BOOTSTRAP%, %TOPIC% and %PLUGINS% are filled in.
func newRig(t testing.TB, b broker, binary, configuration string, partitions int32) *rig {
	t.Helper()
	r := &rig{t: t, binary: binary, dir: t.TempDir()}
	name := strings.NewReplacer("/", "-", "_", "-", ":", "-").Replace(t.Name())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var err error
	if r.topic, err = topic.Create(ctx, b.Bootstrap(), name, partitions, nil); err != nil {
		t.Fatal(err)
	}
	configuration = strings.NewReplacer("%BOOTSTRAP%", strconv.Quote(b.Bootstrap()), "%TOPIC%", name,
		"%PLUGINS%", filepath.Join(root(t), "bin", "plugins")).Replace(configuration)
	if err := os.WriteFile(r.path("agent.hcl"), []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(r.path("logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

// start runs the agent with further arguments and environment.
func (r *rig) start(arguments []string, environment ...string) *process.Process {
	r.t.Helper()
	r.starts++
	log, err := os.OpenFile(r.path("agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	c := exec.Command(r.binary, append([]string{"run", "--config", r.path("agent.hcl")}, arguments...)...)
	c.Dir, c.Stdout, c.Stderr = r.dir, log, log
	c.Env = append(os.Environ(), environment...)
	p, err := process.Start(c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(p.Kill)
	return p
}

// run runs the agent with --once and returns how it ended.
func (r *rig) run(environment ...string) syscall.WaitStatus {
	r.t.Helper()
	p := r.start([]string{"--once"}, environment...)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	state, err := p.Wait(ctx)
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.log())
	}
	return state.Sys().(syscall.WaitStatus)
}

// log returns the end of the agents' log.
func (r *rig) log() string {
	text, err := os.ReadFile(r.path("agent.log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-8000):])
}
