package endtoend

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/test/kafka"
)

// residentBound is the documented bound of the agent's resident memory with
// buffer_memory = "32MiB".
const residentBound = 128 << 20

func TestBrokerDownForThirtySecondsLosesNothingWithinMemory(t *testing.T) {
	cluster := kafkatest.Start(t, kafkatest.Options{Brokers: 1})
	j := newJob(t, cluster, mainJob, nil)
	j.start()
	j.writeThree(lines / 4)
	j.waitFor("the first records", 30*time.Second, func() bool { return j.count() > 0 })
	cluster.Kill(1)
	down := time.NewTimer(30 * time.Second)
	j.writeThree(3 * lines / 4)
	<-down.C
	if peak := residentBytes(t, j.process.Pid()); peak > residentBound {
		t.Errorf("resident memory reached %d MiB while the broker was down", peak>>20)
	}
	cluster.Restart(1)
	j.waitComplete(120 * time.Second)
	peak := residentBytes(t, j.process.Pid())
	t.Logf("peak of resident memory: %d MiB", peak>>20)
	if peak > residentBound {
		t.Errorf("resident memory reached %d MiB", peak>>20)
	}
	if code := j.stop(15 * time.Second); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	// A broker that crashes makes no duplicates.
	j.check(j.mainExpectation(), 0)
}

func TestStopWithBrokerDownIsOnTimeAndLosesNothing(t *testing.T) {
	cluster := kafkatest.Start(t, kafkatest.Options{Brokers: 1})
	j := newJob(t, cluster, mainJob, nil)
	j.start()
	j.writeThree(1000)
	j.waitCount(j.kept(), 30*time.Second)
	cluster.Kill(1)
	j.writeThree(1000)
	j.waitFor("records in flight", 10*time.Second, func() bool { s := j.status(); return s != nil && s.inflight() > 0 && s.unread() == 0 })
	// A second for the checkpoint of what was delivered: no duplicates then.
	waited := time.NewTimer(1500 * time.Millisecond)
	<-waited.C
	inflight := j.status().inflight()

	const shutdownTimeout = 10 * time.Second
	asked := time.Now()
	if code := j.stop(shutdownTimeout); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	t.Logf("ended after %s", time.Since(asked))
	line := j.waitLog(`stopped with \d+ unacknowledged records`, time.Second)
	if said := regexp.MustCompile(`with (\d+) unacknowledged`).FindStringSubmatch(line)[1]; said != strconv.FormatInt(inflight, 10) {
		t.Errorf("said %s unacknowledged records, %d were in flight", said, inflight)
	}

	cluster.Restart(1)
	j.start()
	j.waitComplete(60 * time.Second)
	if code := j.stop(15 * time.Second); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	// What was on its way to the broker when that was killed may have arrived.
	j.check(j.mainExpectation(), inflight)
}
