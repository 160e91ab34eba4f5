package endtoend

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-agent/barnabas/core/admin"
)

// trialJob is a pipeline with the plugin of testdata/trial.
const trialJob = `
agent {
  data_dir         = "state"
  plugin_dir       = "%PLUGINS%"
  http_listen      = ""
  shutdown_timeout = "10s"
}
producer { bootstrap_servers = [%BOOTSTRAP%] }
pipeline "main" {
  topic = "%TOPIC%"
  source "file" { include = ["logs/*.log"] }
  interceptor "trial" {
    path   = "trial"
    config = { %CONFIG% }
    %MORE%
  }
  partitioner "murmur2" { }
}
`

// newTrial configures a trialJob and builds its plugin.
func newTrial(t *testing.T, config, more string) *job {
	t.Helper()
	j := newJob(t, kafka.Cluster(t), strings.NewReplacer("%CONFIG%", config, "%MORE%", more).Replace(trialJob), nil)
	j.installTrial("1")
	return j
}

// installTrial builds a version of the plugin and puts it in its place, as a package would.
func (j *job) installTrial(version string) {
	j.t.Helper()
	path := filepath.Join(j.dir, "trial")
	build := exec.Command("go", "build", "-ldflags", "-X main.version="+version, "-o", path+".new", "./testdata/trial")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		j.t.Fatalf("build the plugin: %v\n%s", err, out)
	}
	j.install(path + ".new")
}

// install puts a file in the plugin's place.
func (j *job) install(path string) {
	j.t.Helper()
	if err := os.Rename(path, filepath.Join(j.dir, "trial")); err != nil {
		j.t.Fatal(err)
	}
}

func TestRecordsThatCrashAPluginAreQuarantinedAlone(t *testing.T) {
	const records, one = 300_000, 50_000
	var triggers []string
	poison := make(map[int64]bool)
	for sequence := int64(one / 3); sequence < records; sequence += one {
		poison[sequence] = true
		triggers = append(triggers, fmt.Sprintf(`"|%012d|"`, sequence))
	}
	j := newTrial(t, "panic_on = ["+strings.Join(triggers, ", ")+"]", "")
	j.write("a", records)
	j.start()
	j.waitComplete(180 * time.Second)

	found := make(map[int64]bool)
	for _, r := range j.quarantined() {
		found[r.Origin.Offset/width] = true
		if r.Stage != "trial" || r.Code != "plugin.crash" || !strings.Contains(r.Message, "panic: the trial can't bear |") {
			t.Errorf("in the quarantine for %s by %s: %.200s", r.Code, r.Stage, r.Message)
		}
	}
	if len(found) != len(poison) {
		t.Errorf("%d records in the quarantine, want %d", len(found), len(poison))
	}
	for sequence := range found {
		if !poison[sequence] {
			t.Errorf("line %d is in the quarantine", sequence)
		}
	}
	restarts := j.status().Pipelines[0].Stages[0].Restarts
	// Two crashes and at most log2 4096 halvings for each, and one more where a reply was lost with a process.
	if most := int64(len(poison) * (2 + 12 + 1)); restarts > most {
		t.Errorf("%d processes broke, want at most %d", restarts, most)
	}
	t.Logf("%d processes broke over %d records", restarts, len(poison))
	if code := j.stop(15 * time.Second); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	expected := j.expectation()
	expected.Dropped = func(_ string, sequence int64) bool { return poison[sequence] }
	j.check(expected, 0)
}

// twoPipelines are alike; each has a plugin of its own.
const twoPipelines = `
agent {
  data_dir         = "state"
  plugin_dir       = "%PLUGINS%"
  http_listen      = ""
  shutdown_timeout = "10s"
}
producer { bootstrap_servers = [%BOOTSTRAP%] }
pipeline "stopped" {
  topic = "%TOPIC%"
  source "file" { include = ["logs/stopped.log"] }
  interceptor "set"    {
    config  = { key = "value.split('|', 3)[1]" }
    timeout = "3s"
  }
}
pipeline "other" {
  topic = "%TOPIC%"
  source "file" { include = ["logs/other.log"] }
  interceptor "filter" { config = { drop = "value.contains('nothing')" } }
}
`

func TestStoppedPluginHoldsUpNobodyElse(t *testing.T) {
	const slice = 50_000
	j := newJob(t, kafka.Cluster(t), twoPipelines, nil)
	j.write("stopped", slice)
	j.write("other", slice)
	j.start()
	j.waitComplete(60 * time.Second)
	// How long the other pipeline takes for a slice when all is well, and with its neighbour stopped.
	other := func() time.Duration {
		began, want := time.Now(), j.delivered("other")+slice
		j.write("other", slice)
		j.waitFor("the other pipeline's records", 60*time.Second, func() bool { return j.delivered("other") >= want })
		return time.Since(began)
	}
	usual := other()
	pid := j.plugins()["barnabas-interceptor-set"]
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	before := j.delivered("stopped")
	j.write("stopped", slice)
	during := other()
	if took := time.Since(stopped); took > 3*time.Second {
		t.Logf("the machine is slow: the other pipeline's records took %s", took)
	} else if now := j.delivered("stopped"); now != before {
		t.Errorf("a stopped plugin passed %d records", now-before)
	}
	t.Logf("%d records of the other pipeline: %s before, %s beside a stopped plugin", slice, usual, during)
	if during > 2*usual+2*time.Second {
		t.Errorf("the other pipeline took %s instead of %s", during, usual)
	}
	j.waitFor("the stopped plugin's successor", 15*time.Second, func() bool {
		now, runs := j.plugins()["barnabas-interceptor-set"]
		return runs && now != pid
	})
	t.Logf("replaced after %s", time.Since(stopped))
	j.waitComplete(60 * time.Second)
	if code := j.stop(15 * time.Second); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	j.check(j.expectation(), 0)
}

// delivered is how many records a pipeline has delivered.
func (j *job) delivered(pipeline string) int64 {
	j.t.Helper()
	s := j.status()
	if s == nil {
		return 0
	}
	at := slices.IndexFunc(s.Pipelines, func(p admin.Pipeline) bool { return p.Name == pipeline })
	return s.Pipelines[at].Totals.DeliveredRecords
}

func TestReloadOfAPluginUnderLoad(t *testing.T) {
	const slice = 100_000
	for _, instances := range []int{1, 3} {
		t.Run(fmt.Sprint(instances), func(t *testing.T) {
			j := newTrial(t, "", fmt.Sprintf("instances = %d", instances))
			j.write("a", slice)
			j.write("b", slice)
			j.start()
			j.waitCount(1, 30*time.Second)
			state := filepath.Join(j.dir, "state")

			if err := os.WriteFile(filepath.Join(j.dir, "bad"), []byte("#!/bin/sh\necho no licence >&2\nexit 3\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			j.install(filepath.Join(j.dir, "bad"))
			before := j.plugins()["trial"]
			out, errs, code := j.command("plugin", "reload", "main/trial", "--data-dir", state)
			if code != 1 || out != "" || !strings.Contains(errs, "no licence") || !strings.Contains(errs, "1 stays") {
				t.Errorf("reload of a plugin that does not start: exit code %d, %q, %q", code, out, errs)
			}
			if now := j.plugins()["trial"]; instances == 1 && now != before {
				t.Error("the old process did not stay")
			}
			j.installTrial("2")
			j.write("a", slice)
			j.write("b", slice)
			out, errs, code = j.command("plugin", "reload", "--data-dir", state)
			if code != 0 || !strings.Contains(out, "main/trial: 2, was 1") {
				t.Errorf("reload: exit code %d, %q, %q", code, out, errs)
			}
			j.write("a", slice)
			j.write("b", slice)
			if _, errs, code := j.command("plugin", "reload", "main/nobody", "--data-dir", state); code != 1 || !strings.Contains(errs, "main/trial") {
				t.Errorf("reload of a stage that is not there: exit code %d, %q", code, errs)
			}
			j.waitComplete(120 * time.Second)
			stage := j.status().Pipelines[0].Stages[0]
			if stage.Version != "2" || stage.Restarts != 0 || (instances > 1 && len(stage.Instances) != instances) {
				t.Errorf("status %+v", stage)
			}
			if code := j.stop(15 * time.Second); code != 0 {
				t.Fatalf("exit code %d", code)
			}
			seen := map[string]int{}
			expected := j.expectation()
			expected.Line = func(r *kgo.Record) ([]byte, error) {
				seen[string(r.Headers[0].Value)]++
				return r.Value, nil
			}
			j.check(expected, 0)
			if seen["1"] == 0 || seen["2"] < 2*slice || len(seen) != 2 {
				t.Errorf("records by version: %v", seen)
			}
		})
	}
}

// killsVariable sets how many kills TestPluginsKilledAtRandom does.
const killsVariable = "BARNABAS_PLUGIN_KILLS"

func TestPluginsKilledAtRandom(t *testing.T) {
	kills := 30
	if text := os.Getenv(killsVariable); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", killsVariable, err)
		}
	}
	j := newJob(t, kafka.Cluster(t), mainJob, nil)
	j.start()
	random := rand.New(rand.NewPCG(3, 4))
	var early, late footprint
	for n := range kills {
		before := j.count()
		j.writeThree(6_000)
		j.waitFor("some progress", 60*time.Second, func() bool { return j.count() > before })
		running := j.plugins()
		victims := slices.Sorted(func(yield func(int) bool) {
			for _, pid := range running {
				if !yield(pid) {
					return
				}
			}
		})
		if len(victims) > 0 {
			// One that has ended by itself meanwhile can't be killed any more.
			_ = syscall.Kill(victims[random.IntN(len(victims))], syscall.SIGKILL)
		}
		if n == kills/5 {
			j.waitCount(j.kept(), 120*time.Second)
			j.waitPluginsUp(4)
			early = j.footprint()
		}
	}
	j.waitCount(j.kept(), 180*time.Second)
	j.waitPluginsUp(4)
	late = j.footprint()
	t.Logf("%d kills; after a fifth of them %+v, at the end %+v", kills, early, late)
	if late.files > early.files+8 || late.goroutines > early.goroutines+20 || late.resident > early.resident+early.resident/4+(8<<20) {
		t.Errorf("it grew from %+v to %+v", early, late)
	}
	var restarts int64
	for _, s := range j.status().Pipelines[0].Stages {
		restarts += s.Restarts
	}
	if restarts < int64(kills)*9/10 {
		t.Errorf("%d processes were replaced, %d were killed", restarts, kills)
	}
	if len(j.quarantined()) > 0 {
		t.Errorf("records in the quarantine: %+v", j.quarantined()[0])
	}
	if code := j.stop(15 * time.Second); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	j.check(j.mainExpectation(), 0)
}

// waitPluginsUp waits until every plugin of the pipeline is ready, so that the
// agent holds the descriptors and goroutines of all of them.
func (j *job) waitPluginsUp(plugins int) {
	j.t.Helper()
	j.waitFor("all plugins to be up", 60*time.Second, func() bool {
		s := j.status()
		if s == nil || len(j.plugins()) != plugins {
			return false
		}
		up := 0
		for _, stage := range s.Pipelines[0].Stages {
			if stage.State == "up" {
				up++
			}
		}
		return up == plugins
	})
}

// footprint is what the agent's process holds.
type footprint struct {
	files, goroutines int
	resident          int64 // bytes
}

func (a *agent) footprint() footprint {
	a.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.process.Pid()))
	if err != nil {
		a.t.Fatal(err)
	}
	return footprint{
		files:      len(entries),
		goroutines: int(a.metric("go_goroutines")),
		resident:   int64(a.metric("process_resident_memory_bytes")),
	}
}

// metric reads a metric without labels over the admin socket.
func (a *agent) metric(name string) float64 {
	a.t.Helper()
	var dialer net.Dialer
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", filepath.Join(a.dir, "state", "admin.sock"))
	}}}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://agent/metrics")
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if text, is := strings.CutPrefix(lines.Text(), name+" "); is {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				a.t.Fatal(err)
			}
			return value
		}
	}
	a.t.Fatalf("no metric %s", name)
	return 0
}
