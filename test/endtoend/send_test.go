package endtoend

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/test/kafka"
	"github.com/barnabas-agent/barnabas/test/ledger"
)

// sendJob has no plugins: what is shown is what the send mode promises.
const sendJob = `
agent {
  data_dir         = "state"
  http_listen      = ""
  shutdown_timeout = "5s"
}
producer { bootstrap_servers = [%BOOTSTRAP%] }
pipeline "send" {
  topic = "%TOPIC%"
  send  = "%SEND%"
  source "file" { include = ["logs/*.log"] }
}
`

// killedJob runs a job of a send mode and kills the agent while the broker
// answers nothing, after positions have had the time to be stored.
func killedJob(t *testing.T, mode string, count int64) *job {
	cluster := kafkatest.Start(t, kafkatest.Options{Brokers: 1})
	j := newJob(t, cluster, strings.ReplaceAll(sendJob, "%SEND%", mode), nil)
	j.start()
	j.write("a", 10)
	j.waitCount(10, 30*time.Second)
	cluster.Pause(1)
	j.write("a", count)
	j.waitFor("records that were read", 10*time.Second, func() bool { s := j.status(); return s != nil && s.read() > 10*width })
	<-time.NewTimer(2500 * time.Millisecond).C // two checkpoints
	j.kill()
	// The broker comes back empty-handed: what the client had sent to it is cut off with it.
	cluster.Kill(1)
	cluster.Restart(1)
	j.start()
	j.waitComplete(60 * time.Second)
	if code := j.stop(15 * time.Second); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	return j
}

func TestAsyncLosesNothingUnderKill(t *testing.T) {
	const count = 5000
	killedJob(t, "async", count).checkCopies(count)
}

func TestSyncLosesNothingUnderKillAndHasOneInFlight(t *testing.T) {
	const count = 500
	// One lane, one record in flight, and an interval of a second whose records the kill makes unknown.
	killedJob(t, "sync", count).checkCopies(10 + 1)
}

func TestFireAndForgetLosesUnderKill(t *testing.T) {
	const count = 5000
	j := killedJob(t, "fire_and_forget", count)
	report, err := ledger.Check(context.Background(), j.topic, j.expectation())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", report)
	if report.Missing == 0 {
		t.Error("nothing is missing: the mode is as safe as async and should be documented so")
	}
	if report.Alien+report.Torn+report.Disordered > 0 {
		t.Errorf("more than loss: %s", report)
	}
}

// checkCopies checks the topic of a job whose partition is no function of the record.
func (j *job) checkCopies(duplicates int64) {
	j.t.Helper()
	report, err := ledger.Check(context.Background(), j.topic, j.expectation())
	if err != nil {
		j.t.Fatal(err)
	}
	j.t.Logf("%s", report)
	if report.Missing+report.Alien+report.Torn > 0 || report.Duplicates > duplicates {
		j.t.Errorf("%d missing, %d duplicates (%d allowed), %d alien, %d torn", report.Missing, report.Duplicates, duplicates, report.Alien, report.Torn)
	}
}
