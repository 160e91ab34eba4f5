package endtoend

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/test/kafka"
)

const lines = 1_000_000

// writeThree writes the main job's lines to its three files.
func (j *job) writeThree(count int64) {
	j.write("a", count/3)
	j.write("b", count/3)
	j.write("c", count-2*(count/3))
}

func TestMillionLinesArriveOnceInOrderWhereJavaPutsThem(t *testing.T) {
	j := newJob(t, kafka.Cluster(t), mainJob, nil)
	j.writeThree(lines)
	j.start()
	j.waitCount(j.kept(), 120*time.Second)
	if code := j.stop(15 * time.Second); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	j.check(j.mainExpectation(), 0)

	records := j.cluster.Read(j.name)
	keys := make([][]byte, len(records))
	for i, r := range records {
		keys[i] = r.Key
	}
	for i, want := range kafkatest.JavaPartitions(t, keys, 6) {
		if records[i].Partition != want {
			t.Fatalf("key %q is in partition %d, the Java client puts it in %d", keys[i], records[i].Partition, want)
		}
	}
}

// recordCharge is the least that a record of this test is charged: its bytes in
// the agent, librdkafka's copy, and 256.
const recordCharge = width + width + 256

func TestAgentKilledTwentyTimesLosesNothing(t *testing.T) {
	const kills = 20
	j := newJob(t, kafka.Cluster(t), mainJob, nil)
	random := rand.New(rand.NewPCG(1, 2))
	for range kills {
		j.writeThree(lines / kills)
		j.start()
		before := j.count()
		j.waitFor("some progress", 30*time.Second, func() bool { return j.count() > before+int64(random.IntN(lines/kills)) || j.count() >= j.kept() })
		j.kill()
	}
	j.start()
	j.waitComplete(120 * time.Second)
	if code := j.stop(15 * time.Second); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	// What was in flight, plus what the last durable position does not cover: one
	// interval of a second at the fastest that this machine delivers.
	const inFlight = (32 << 20) / recordCharge
	const oneInterval = 500_000
	report := j.check(j.mainExpectation(), kills*(inFlight+oneInterval))
	t.Logf("%d duplicates after %d kills: %.0f a kill", report.Duplicates, kills, float64(report.Duplicates)/kills)
}

func TestPluginsKilledInTurnCostNothing(t *testing.T) {
	victims := []string{
		"barnabas-interceptor-set", "barnabas-interceptor-filter", "barnabas-serializer-json", "barnabas-partitioner-murmur2",
	}
	j := newJob(t, kafka.Cluster(t), mainJob, nil)
	j.start()
	for _, name := range victims {
		before := j.count()
		j.writeThree(lines / int64(len(victims)))
		j.waitFor("the first records", 30*time.Second, func() bool { return j.count() > before })
		pid, runs := j.plugins()[name]
		if !runs {
			t.Fatalf("no process %s among %v", name, j.plugins())
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		stall := j.longestStall(j.kept(), 60*time.Second)
		t.Logf("%s killed: records stood still for %s", name, stall)
		if stall > 2*time.Second {
			t.Errorf("%s: records stood still for %s", name, stall)
		}
		if now, runs := j.plugins()[name]; !runs || now == pid {
			t.Errorf("%s was not replaced", name)
		}
	}
	if code := j.stop(15 * time.Second); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	j.check(j.mainExpectation(), 0)
}

// longestStall waits until the topic holds want records and returns the longest
// time in which their number did not grow.
func (j *job) longestStall(want int64, timeout time.Duration) time.Duration {
	j.t.Helper()
	var longest time.Duration
	last, grown := j.count(), time.Now()
	j.waitFor("all records", timeout, func() bool {
		n := j.count()
		if n > last {
			last, grown = n, time.Now()
		}
		longest = max(longest, time.Since(grown))
		return n >= want
	})
	return longest
}

// count returns how many records the topic holds.
func (j *job) count() int64 {
	var n int64
	for _, end := range j.cluster.EndOffsets(j.name) {
		n += end
	}
	return n
}

// waitComplete waits until the agent has delivered everything that it can read:
// its own status says that nothing is left.
func (j *job) waitComplete(timeout time.Duration) {
	j.t.Helper()
	j.waitFor("everything to be delivered", timeout, func() bool {
		s := j.status()
		return s != nil && s.lag() == 0 && s.inflight() == 0 && len(s.Pipelines) > 0 && s.files() == len(j.files)
	})
}
