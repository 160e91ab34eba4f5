package crash

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-agent/barnabas/core/admin"
	"github.com/barnabas-agent/barnabas/test/kafka"
	"github.com/barnabas-agent/barnabas/test/kafka/topic"
	"github.com/barnabas-agent/barnabas/test/ledger"
	"github.com/barnabas-agent/barnabas/test/process"
)

const (
	// killsVariable is how often the loop kills the agent; CI does it 20 times.
	killsVariable = "BARNABAS_CRASH_KILLS"
	// brokerKindVariable chooses the broker: "kafka", else kfake.
	brokerKindVariable = "BARNABAS_CRASH_BROKER"
	// seedVariable repeats the choices of a run.
	seedVariable = "BARNABAS_CRASH_SEED"
)

const (
	lineWidth = 120 // with its newline
	// loopBuffer is the pipelines' buffer_memory together. A record takes its
	// bytes twice and 256.
	loopBuffer   = 4 << 20
	mostInFlight = loopBuffer / (2*lineWidth + 256)
	// durableWithin is what may pass until what is delivered is durable: the
	// interval, a commit, and the time between two samples.
	durableWithin = 2500 * time.Millisecond
	sampleEvery   = 100 * time.Millisecond
)

// loopJob has one pipeline whose topic shows gaps, since its records go to
// several partitions in turn, and one whose topic shows the order.
const loopJob = `
agent {
  data_dir         = "state"
  http_listen      = ""
  shutdown_timeout = "30s"
  log_format       = "json"
}
producer {
  bootstrap_servers = [%BOOTSTRAP%]
  buffer_memory     = "4MiB"
}
pipeline "spread" {
  topic = "%TOPIC%-spread"
  source "file" { include = ["logs/spread-*.log*"] }
}
pipeline "ordered" {
  topic = "%TOPIC%"
  source "file" { include = ["logs/ordered-*.log*"] }
}
`

// TestAgentKilledAtRandomWhileFilesRotateAndTheBrokerRestarts is the crash loop.
func TestAgentKilledAtRandomWhileFilesRotateAndTheBrokerRestarts(t *testing.T) {
	t.Parallel()
	kills := number(t, killsVariable, 20)
	seed := uint64(number(t, seedVariable, int(time.Now().UnixNano()%1_000_000)))
	t.Logf("%s=%d", seedVariable, seed)
	var b broker
	if os.Getenv(brokerKindVariable) == "kafka" {
		b = realBroker{kafkatest.Start(t, kafkatest.Options{Brokers: 1})}
	} else {
		b = startFakeBroker(t)
	}
	l := newLoop(t, b, seed)
	begin := time.Now()
	l.run(kills)
	l.judge(kills, time.Since(begin))
}

func number(t testing.TB, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// loop is the state of a crash loop.
type loop struct {
	*rig
	broker broker
	random *rand.Rand
	spread *topic.Topic
	agent  *process.Process
	files  []*growing
	cut    *growing // truncated without a copy

	samples *sampler
	marks   []mark // one per kill
}

// mark is how far the topics had come when the agent was killed.
type mark map[string][]int64

func newLoop(t *testing.T, b broker, seed uint64) *loop {
	l := &loop{rig: newRig(t, b, filepath.Join(root(t), "bin", "barnabas"), loopJob, 1), broker: b, random: rand.New(rand.NewPCG(seed, 0))}
	if _, err := os.Stat(l.binary); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var err error
	if l.spread, err = topic.Create(ctx, b.Bootstrap(), l.topic.Name+"-spread", 3, nil); err != nil {
		t.Fatal(err)
	}
	for n, name := range []string{"spread-a", "spread-b", "ordered-a", "ordered-b"} {
		l.files = append(l.files, newGrowing(t, l.path("logs"), name, rand.New(rand.NewPCG(seed, uint64(n+1))), byRename))
	}
	for n, name := range []string{"spread-c", "ordered-c"} {
		l.files = append(l.files, newGrowing(t, l.path("logs"), name, rand.New(rand.NewPCG(seed, uint64(n+100))), byCopy))
	}
	l.cut = newGrowing(t, l.path("logs"), "ordered-cut", rand.New(rand.NewPCG(seed, 200)), never)
	l.files = append(l.files, l.cut)
	return l
}

// run kills the agent so many times, then lets it deliver everything and ends it.
func (l *loop) run(kills int) {
	ctx, stop := context.WithCancel(l.t.Context())
	var writing sync.WaitGroup
	for _, f := range l.files {
		writing.Go(func() { f.grow(ctx) })
	}
	l.samples = newSampler(l.t, l.broker.Bootstrap(), l.topic.Name, l.spread.Name)
	writing.Go(func() { l.samples.run(ctx) })
	for n := range kills {
		l.agent = l.start(nil)
		wait(time.Duration(10+l.random.IntN(1990)) * time.Millisecond)
		switch {
		case n%25 == 12:
			l.truncate()
		case n%10 == 5:
			l.broker.Kill()
			wait(time.Duration(l.random.IntN(1500)) * time.Millisecond)
			l.broker.Restart()
		}
		l.marks = append(l.marks, l.samples.newest())
		l.agent.Kill()
	}
	stop()
	writing.Wait()
	for _, f := range l.files {
		if f.failed != nil {
			l.t.Fatal(f.failed)
		}
	}
	l.agent = l.start(nil)
	l.waitDelivered()
	if err := l.agent.Stop(40 * time.Second); err != nil {
		l.t.Fatalf("%v\n%s", err, l.log())
	}
}

// truncate cuts a file of which the agent has read a part, and knows the rest. Nobody
// is killed and nothing else written meanwhile, so that what is lost is counted: by
// the agent, and here. Then what is rotated goes, so that inodes come again.
func (l *loop) truncate() {
	l.t.Helper()
	for _, f := range l.files {
		f.mu.Lock()
		defer f.mu.Unlock()
	}
	l.waitDelivered()
	l.broker.Kill()
	l.cut.append(4 * mostInFlight)
	size, read := l.cut.size(), int64(-1)
	l.eventually("the agent to have seen a file and to be stuck in it", func(s *admin.Status) bool {
		f := find(s, l.cut.path)
		if f == nil || f.Size != size || f.Read == size {
			return false
		}
		stuck := f.Read == read
		read = f.Read
		return stuck
	})
	before := l.lostBytes(l.cut.path)
	if err := os.Truncate(l.cut.path, 0); err != nil {
		l.t.Fatal(err)
	}
	l.broker.Restart()
	l.cut.begin()
	l.eventually("the loss to be told", func(*admin.Status) bool { return l.lostBytes(l.cut.path) > before })
	l.waitDelivered()
	wait(durableWithin) // a crash before that tells of the loss once more, and takes removed files for unread
	old, err := filepath.Glob(l.path("logs/*.log.*"))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			l.t.Fatal(err)
		}
	}
}

// waitDelivered waits until the agent has delivered everything. Nothing is written meanwhile.
func (l *loop) waitDelivered() {
	l.t.Helper()
	l.eventually("everything to be delivered", func(s *admin.Status) bool {
		for _, p := range s.Pipelines {
			if p.InflightRecords > 0 {
				return false
			}
			for _, source := range p.Sources {
				if source.LagBytes > 0 {
					return false
				}
			}
		}
		return l.allSeen(s)
	})
}

// allSeen reports that the agent knows the files and how long they are.
func (l *loop) allSeen(s *admin.Status) bool {
	for _, f := range l.files {
		info, err := os.Stat(f.path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			l.t.Fatal(err)
		}
		if known := find(s, f.path); known == nil || known.Size != info.Size() {
			return false
		}
	}
	return true
}

func find(s *admin.Status, path string) *admin.File {
	for _, p := range s.Pipelines {
		for _, source := range p.Sources {
			for i := range source.Files {
				if source.Files[i].Path == path {
					return &source.Files[i]
				}
			}
		}
	}
	return nil
}

// eventually waits until the agent's status is as wanted.
func (l *loop) eventually(what string, holds func(*admin.Status) bool) {
	l.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		if s := l.status(); s != nil && holds(s) {
			return
		}
		if !l.agent.Running() {
			l.t.Fatalf("the agent ended by itself\n%s", l.log())
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("waited in vain for %s\n%s", what, l.log())
		}
		wait(50 * time.Millisecond)
	}
}

// status asks the agent, nil while it does not answer.
func (l *loop) status() *admin.Status {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	client, err := admin.Dial(ctx, l.path("state"))
	if err != nil {
		return nil
	}
	defer client.Close()
	s, err := client.Status(ctx)
	if err != nil || s.PID != l.agent.Pid() {
		return nil
	}
	return &s
}

// lostBytes is what the agents have said to be lost, over all their lives, of the
// files whose path begins so.
func (l *loop) lostBytes(path string) (sum int64) {
	l.eachLogLine(func(line map[string]any) {
		name, _ := line["path"].(string)
		if n, ok := line["bytes_lost_unread"].(float64); ok && strings.HasPrefix(name, path) {
			sum += int64(n)
		}
	})
	return sum
}

func (l *loop) eachLogLine(f func(map[string]any)) {
	l.t.Helper()
	log, err := os.Open(l.path("agent.log"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer log.Close()
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line map[string]any
		if json.Unmarshal(lines.Bytes(), &line) == nil { // a kill may have cut it
			f(line)
		}
	}
	if err := lines.Err(); err != nil {
		l.t.Fatal(err)
	}
}

// judge compares what arrived with what was written and what was counted as lost.
func (l *loop) judge(kills int, took time.Duration) {
	l.t.Helper()
	var records, lines, missing, duplicates int64
	perKill := make([]int64, len(l.marks)+1)
	for _, one := range []*topic.Topic{l.spread, l.topic} {
		expected := ledger.Expectation{Files: map[string]int64{}}
		for _, f := range l.files {
			if strings.HasPrefix(f.name, "ordered-") == (one == l.topic) {
				for _, w := range f.generations {
					expected.Files[w.File()] = w.Written()
				}
			}
		}
		checker, seen := ledger.NewChecker(expected), map[string]struct{}{}
		err := one.Each(context.Background(), func(r *kgo.Record) {
			checker.Add(r)
			if line := string(r.Value[:min(len(r.Value), 40)]); true {
				if _, again := seen[line]; again {
					perKill[l.killBefore(one.Name, r)]++
				}
				seen[line] = struct{}{}
			}
		})
		if err != nil {
			l.t.Fatal(err)
		}
		report := checker.Report()
		l.t.Logf("%s: %s", one.Name, report)
		if report.Alien+report.Torn > 0 || one == l.topic && report.Disordered > 0 {
			l.t.Error("records that nobody wrote, or out of order")
		}
		records, lines = records+report.Records, lines+report.Expected
		missing, duplicates = missing+report.Missing, duplicates+report.Duplicates
	}
	counted, inCopies := l.lostBytes(l.cut.path), l.lostBytes("")-l.lostBytes(l.cut.path)
	most, bound := slices.Max(perKill), int64(mostInFlight)+l.samples.fastest(durableWithin)
	l.t.Logf("%d kills in %s: %d lines, %d records, %d lines (%d bytes) missing, %d bytes counted as lost and %d that came from a copy after all, %d duplicates: %.1f a kill, %d at most (bound %d)",
		kills, took.Round(time.Second), lines, records, missing, missing*lineWidth, counted, inCopies, duplicates, float64(duplicates)/float64(kills), most, bound)
	// Of a file whose copies are there nothing is missing, though a content that came and
	// went between two looks is counted before its copy is read.
	if missing*lineWidth != counted || inCopies > 0 {
		if missing*lineWidth != counted {
			l.t.Errorf("%d bytes are missing, %d were counted", missing*lineWidth, counted)
		}
		l.eachLogLine(func(line map[string]any) {
			if n, ok := line["bytes_lost_unread"].(float64); ok && n > 0 {
				l.t.Log(line)
			}
		})
		l.keepLog()
	}
	if most > bound {
		l.t.Errorf("%d duplicates after one kill, the bound is %d", most, bound)
	}
}

// keepLog keeps the agents' log beyond the test.
func (l *loop) keepLog() {
	kept, err := os.CreateTemp("", "barnabas-crash-loop-*.log")
	if err == nil {
		kept.Close()
		os.Remove(kept.Name())
		err = copyFile(l.path("agent.log"), kept.Name())
	}
	if err != nil {
		l.t.Error(err)
		return
	}
	l.t.Logf("the agents' log is in %s", kept.Name())
}

// killBefore returns the number of the last kill before a record arrived.
func (l *loop) killBefore(topic string, r *kgo.Record) int {
	after, _ := slices.BinarySearchFunc(l.marks, r.Offset, func(m mark, offset int64) int {
		if m[topic] == nil || m[topic][r.Partition] <= offset {
			return -1
		}
		return 1
	})
	return after
}

// sampler watches how fast topics grow.
type sampler struct {
	admin  *kadm.Client
	topics []string

	mu   sync.Mutex
	last mark
	all  []sample
}

type sample struct {
	at  time.Time
	sum int64
}

func newSampler(t testing.TB, bootstrap string, topics ...string) *sampler {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.RequestRetries(0), kgo.DialTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &sampler{admin: kadm.NewClient(client), topics: topics, last: mark{}}
}

func (s *sampler) run(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		s.take(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// take asks for the ends of the topics; a broker that is down has none.
func (s *sampler) take(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	ends, err := s.admin.ListEndOffsets(ctx, s.topics...)
	if err != nil {
		return
	}
	now, sum, taken := time.Now(), int64(0), mark{}
	failed := false
	ends.Each(func(o kadm.ListedOffset) {
		failed = failed || o.Err != nil
		for len(taken[o.Topic]) <= int(o.Partition) {
			taken[o.Topic] = append(taken[o.Topic], 0)
		}
		taken[o.Topic][o.Partition] = o.Offset
		sum += o.Offset
	})
	if failed || len(taken) < len(s.topics) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = taken
	s.all = append(s.all, sample{at: now, sum: sum})
}

func (s *sampler) newest() mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// fastest is the most that arrived within a time.
func (s *sampler) fastest(within time.Duration) (most int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := 0
	for _, one := range s.all {
		for one.at.Sub(s.all[first].at) > within {
			first++
		}
		most = max(most, one.sum-s.all[max(0, first-1)].sum)
	}
	return most
}

// rotation is how a file is rotated.
type rotation int

const (
	never    rotation = iota
	byRename          // and created anew
	byCopy            // and truncated
)

// growing is a file that a program writes and rotates.
type growing struct {
	path, name string
	random     *rand.Rand
	rotation   rotation

	mu          sync.Mutex       // held while the file is changed
	generations []*ledger.Writer // of the contents that the path has had; the last is the present one's
	failed      error
}

func newGrowing(t testing.TB, dir, name string, random *rand.Rand, how rotation) *growing {
	t.Helper()
	f := &growing{path: filepath.Join(dir, name+".log"), name: name, random: random, rotation: how}
	if f.begin(); f.failed != nil {
		t.Fatal(f.failed)
	}
	return f
}

// begin begins a new content: order is promised within one.
func (f *growing) begin() {
	w, err := ledger.NewWriter(fmt.Sprintf("%s.%04d", f.name, len(f.generations)), lineWidth-1)
	f.generations = append(f.generations, w)
	f.failed = errors.Join(f.failed, err)
}

// grow writes and rotates until ctx ends: mostly a few lines, now and then many.
func (f *growing) grow(ctx context.Context) {
	for ctx.Err() == nil {
		f.mu.Lock()
		if f.failed != nil {
			f.mu.Unlock()
			return
		}
		lines := 1 + f.random.IntN(20)
		if f.random.IntN(40) == 0 {
			lines = 1000 + f.random.IntN(3000)
		}
		f.append(int64(lines))
		if f.random.IntN(60) == 0 {
			f.rotate()
		}
		pause := time.Duration(5+f.random.IntN(75)) * time.Millisecond
		f.mu.Unlock()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// append writes lines; the caller holds mu.
func (f *growing) append(lines int64) {
	out, err := os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		f.failed = err
		return
	}
	f.failed = errors.Join(f.generations[len(f.generations)-1].Write(out, lines), out.Close())
}

// rotate does what logrotate does; the caller holds mu, so nothing is written
// between the copy and the cut.
func (f *growing) rotate() {
	if f.rotation == never {
		return
	}
	target := fmt.Sprintf("%s.%d", f.path, len(f.generations))
	if f.rotation == byRename {
		f.failed = os.Rename(f.path, target)
	} else if f.failed = copyFile(f.path, target); f.failed == nil {
		f.failed = os.Truncate(f.path, 0)
	}
	f.begin()
}

func (f *growing) size() int64 {
	info, err := os.Stat(f.path)
	if err != nil {
		return -1
	}
	return info.Size()
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func wait(d time.Duration) { <-time.After(d) }
