package endtoend

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/test/kafka"
	"github.com/barnabas-agent/barnabas/test/kafka/topic"
	"github.com/barnabas-agent/barnabas/test/ledger"
)

var kafka kafkatest.Shared

func TestMain(m *testing.M) { os.Exit(kafka.Around(m).Run()) }

// width is how long a line is, with its newline.
const width = 200

// mainJob is the pipeline that the product exists for: a key cut from the line,
// a filter, JSON, and the Java client's partitions.
const mainJob = `
agent {
  data_dir         = "state"
  plugin_dir       = "%PLUGINS%"
  http_listen      = ""
  shutdown_timeout = "10s"
}
producer {
  bootstrap_servers = [%BOOTSTRAP%]
  buffer_memory     = "32MiB"
}
pipeline "main" {
  topic = "%TOPIC%"
  source "file" { include = ["logs/*.log"] }
  interceptor "set"    { config = { key = "value.split('|', 3)[1]" } }
  interceptor "filter" { config = { drop = "value.contains('%DROP%')" } }
  value_serializer "json" { }
  partitioner "murmur2" { }
}
`

// dropped is what the filter of mainJob finds in the lines that it drops.
const dropped = "77|"

// job is an agent with the files that it tails and the topic that it feeds.
type job struct {
	*agent
	cluster *kafkatest.Cluster
	topic   *topic.Topic
	name    string
	files   map[string]*ledger.Writer
}

// newJob configures an agent; in the configuration, %TOPIC%, %BOOTSTRAP% and %DROP% are filled in.
func newJob(t *testing.T, cluster *kafkatest.Cluster, configuration string, settings map[string]string) *job {
	t.Helper()
	name := strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())
	j := &job{cluster: cluster, name: name, topic: cluster.CreateTopic(name, 6, settings), files: make(map[string]*ledger.Writer)}
	servers := strings.Split(cluster.Bootstrap(), ",")
	for i := range servers {
		servers[i] = fmt.Sprintf("%q", servers[i])
	}
	j.agent = newAgent(t, strings.NewReplacer("%TOPIC%", name, "%BOOTSTRAP%", strings.Join(servers, ", "), "%DROP%", dropped).Replace(configuration))
	if err := os.Mkdir(filepath.Join(j.dir, "logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	return j
}

// write appends lines to one of the files.
func (j *job) write(file string, count int64) {
	j.t.Helper()
	w := j.files[file]
	if w == nil {
		var err error
		if w, err = ledger.NewWriter(file, width-1); err != nil {
			j.t.Fatal(err)
		}
		j.files[file] = w
	}
	out, err := os.OpenFile(filepath.Join(j.dir, "logs", file+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		j.t.Fatal(err)
	}
	defer out.Close()
	if err := w.Write(out, count); err != nil {
		j.t.Fatal(err)
	}
}

// expectation is what should be in the topic.
func (j *job) expectation() ledger.Expectation {
	expected := ledger.Expectation{Files: make(map[string]int64)}
	for name, w := range j.files {
		expected.Files[name] = w.Written()
	}
	return expected
}

// mainExpectation is what the main job should have put there.
func (j *job) mainExpectation() ledger.Expectation {
	expected := j.expectation()
	expected.Line = ledger.JSONMessage
	expected.Dropped = isDropped
	return expected
}

func isDropped(file string, sequence int64) bool {
	return bytes.Contains(ledger.AppendLine(nil, file, sequence, width-1), []byte(dropped))
}

// kept returns how many of the lines written so far are not dropped.
func (j *job) kept() int64 {
	var n int64
	for name, w := range j.files {
		for sequence := range w.Written() {
			if !isDropped(name, sequence) {
				n++
			}
		}
	}
	return n
}

// check compares the topic with what was written.
func (j *job) check(expected ledger.Expectation, duplicates int64) *ledger.Report {
	j.t.Helper()
	report, err := ledger.Check(context.Background(), j.topic, expected)
	if err != nil {
		j.t.Fatal(err)
	}
	j.t.Logf("%s", report)
	if err := report.Err(duplicates); err != nil {
		j.t.Fatal(err)
	}
	return report
}

// waitCount waits until the topic holds a number of records.
func (j *job) waitCount(want int64, timeout time.Duration) {
	j.t.Helper()
	j.cluster.WaitCount(j.name, want, timeout)
}
