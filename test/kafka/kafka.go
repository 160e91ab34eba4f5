// Package kafkatest gives tests a real Apache Kafka. A test that needs one calls
// Start for a cluster of its own, or Cluster of a Shared for one that all tests
// of the package use. Machines without Java or Maven skip such tests and say so,
// unless BARNABAS_REQUIRE_KAFKA=1.
package kafkatest

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-agent/barnabas/test/kafka/broker"
	"github.com/barnabas-agent/barnabas/test/kafka/topic"
)

// RequireVariable is the environment variable that, when it is 1, makes a test
// fail that would be skipped for want of Java or Maven.
const RequireVariable = "BARNABAS_REQUIRE_KAFKA"

const (
	installTimeout = 10 * time.Minute // Maven may have to fetch 50 MB
	launchTimeout  = 2 * time.Minute
	clientTimeout  = 2 * time.Minute
)

// Options says what cluster is wanted.
type Options = broker.Options

// Cluster is a running Kafka cluster in the hands of one test. Its methods fail
// the test when they can't do what they say, so they must be called from the
// test's own goroutine. Brokers are numbered from 1.
type Cluster struct {
	t       testing.TB
	brokers *broker.Cluster // owned by who launched it: Start or a Shared
}

// Start launches an empty cluster for this test alone and returns when it serves.
func Start(t testing.TB, options Options) *Cluster {
	t.Helper()
	Require(t)
	brokers, err := launch(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(brokers.Logs())
		}
		if err := brokers.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Cluster{t: t, brokers: brokers}
}

// Require skips the test with a clear notice when this machine can't run Kafka,
// or fails it when RequireVariable is 1.
func Require(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	_, err := broker.Locate(ctx)
	switch {
	case err == nil:
	case !errors.Is(err, broker.ErrMissing):
		t.Fatal(err)
	case os.Getenv(RequireVariable) == "1":
		t.Fatalf("%s=1, but %v", RequireVariable, err)
	default:
		t.Skipf("NOT TESTED AGAINST A REAL KAFKA: %v (%s=1 makes this a failure)", err, RequireVariable)
	}
}

func launch(options Options) (*broker.Cluster, error) {
	installing, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	installation, err := broker.Install(installing)
	if err != nil {
		return nil, err
	}
	launching, cancelLaunch := context.WithTimeout(context.Background(), launchTimeout)
	defer cancelLaunch()
	return broker.Launch(launching, installation, options)
}

// Bootstrap is the bootstrap.servers of the cluster.
func (c *Cluster) Bootstrap() string { return c.brokers.Bootstrap() }

// Pid is the process id of the broker's latest start.
func (c *Cluster) Pid(id int) int {
	c.t.Helper()
	pid, err := c.brokers.Pid(id)
	c.check(err)
	return pid
}

// Kill ends the broker with SIGKILL and returns when it is gone.
func (c *Cluster) Kill(id int) {
	c.t.Helper()
	c.check(c.brokers.Kill(id))
}

// Stop ends the broker cleanly and returns when it is gone.
func (c *Cluster) Stop(id int) {
	c.t.Helper()
	c.check(c.brokers.Stop(id))
}

// Restart starts the broker again on its data, after stopping it if it runs, and
// returns when it serves.
func (c *Cluster) Restart(id int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), launchTimeout)
	defer cancel()
	c.check(c.brokers.Restart(ctx, id))
}

// Pause stops the broker with SIGSTOP: its connections stay, and nothing answers.
func (c *Cluster) Pause(id int) {
	c.t.Helper()
	c.check(c.brokers.Pause(id))
}

// Resume lets a paused broker go on.
func (c *Cluster) Resume(id int) {
	c.t.Helper()
	c.check(c.brokers.Resume(id))
}

// CreateTopic makes a topic and returns when all its partitions have a leader.
// The configuration may be nil.
func (c *Cluster) CreateTopic(name string, partitions int32, config map[string]string) *topic.Topic {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	made, err := topic.Create(ctx, c.Bootstrap(), name, partitions, config)
	c.check(err)
	return made
}

// EndOffsets returns the end offset of each partition of the topic.
func (c *Cluster) EndOffsets(name string) []int64 {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	offsets, err := c.topic(name).EndOffsets(ctx)
	c.check(err)
	return offsets
}

// WaitCount waits until the topic holds at least want records and returns how
// many it holds. It fails the test after the timeout.
func (c *Cluster) WaitCount(name string, want int64, timeout time.Duration) int64 {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	count, err := c.topic(name).WaitCount(ctx, want)
	c.check(err)
	return count
}

// WaitInSync waits until every partition of the topic has the number of replicas
// in sync: until then another broker can't be killed without an outage. It fails
// the test after the timeout.
func (c *Cluster) WaitInSync(name string, replicas int, timeout time.Duration) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c.check(c.topic(name).WaitInSync(ctx, replicas))
}

// Read returns every record that is in the topic, those of one partition in the
// order of their offsets.
func (c *Cluster) Read(name string) []*kgo.Record {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	records, err := c.topic(name).Read(ctx)
	c.check(err)
	return records
}

func (c *Cluster) topic(name string) *topic.Topic {
	return &topic.Topic{Bootstrap: c.Bootstrap(), Name: name}
}

func (c *Cluster) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// JavaPartitions returns the partition, of count, that Kafka's own Java producer
// gives to a record with each of the keys.
func JavaPartitions(t testing.TB, keys [][]byte, count int32) []int32 {
	t.Helper()
	Require(t)
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	installation, err := broker.Install(ctx)
	if err != nil {
		t.Fatal(err)
	}
	partitions, err := installation.Partitions(ctx, keys, count)
	if err != nil {
		t.Fatal(err)
	}
	return partitions
}
