package crash

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/admin"
	"github.com/barnabas-agent/barnabas/core/pipeline"
	"github.com/barnabas-agent/barnabas/test/ledger"
)

const fullDiskJob = `
agent {
  data_dir         = "state"
  http_listen      = ""
  shutdown_timeout = "10s"
  log_format       = "json"
}
producer {
  bootstrap_servers = [%BOOTSTRAP%]
  buffer_memory     = "4MiB"
}
pipeline "main" {
  topic = "%TOPIC%"
  source "file" { include = ["logs/*.log"] }
}
`

// TestFullStateDiskStopsReadingWithinTheWindow fills the disk of the positions
// under load, twice: the first time it is freed, and the agent reads on by itself;
// the second time the agent is killed, and the next one begins on the full disk.
func TestFullStateDiskStopsReadingWithinTheWindow(t *testing.T) {
	t.Parallel() // it waits more than it works
	b := startFakeBroker(t)
	l := &loop{rig: newRig(t, b, filepath.Join(root(t), "bin", "barnabas"), fullDiskJob, 1), broker: b}
	mountState(t, l.path("state"))
	main, err := ledger.NewWriter("main", lineWidth-1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	written := make(chan error)
	go func() { written <- keepWriting(ctx, l.path("logs/main.log"), main) }()
	l.samples = newSampler(t, b.Bootstrap(), l.topic.Name)
	sampled := make(chan struct{})
	go func() { l.samples.run(ctx); close(sampled) }()

	l.agent = l.start(nil)
	l.eventually("the first records", func(s *admin.Status) bool { return s.Totals.DeliveredRecords > 1000 })
	files := map[string]int64{}
	free := l.fill(0, files)
	l.waitStopped()
	free()
	l.eventually("reading to go on by itself", func(s *admin.Status) bool { return s.Ready })
	before := l.status().Totals.ReadRecords
	l.eventually("records to be read again", func(s *admin.Status) bool { return s.Totals.ReadRecords > before+1000 })
	wait(durableWithin)

	full := time.Now()
	free = l.fill(1, files)
	l.waitStopped()
	wait(2 * time.Second)
	repeated := l.samples.since(full.Add(-durableWithin)) + mostInFlight
	l.agent.Kill()
	l.agent = l.start(nil)
	l.eventually("an agent that began on the full disk to say so", func(s *admin.Status) bool { return l.reason(s) != "" })
	free()
	l.eventually("it to go on by itself", func(s *admin.Status) bool { return s.Ready })
	stop()
	if err := l.agent.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	<-sampled
	if status := l.rig.run(); !status.Exited() || status.ExitStatus() != 0 {
		t.Fatalf("exit code %d\n%s", status.ExitStatus(), l.log())
	}
	files["main"] = main.Written()
	report, err := ledger.Check(context.Background(), l.topic, ledger.Expectation{Files: files})
	if err == nil {
		err = report.Err(repeated)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d lines, %d duplicates after the kill on a full disk, %d possible", report.Expected, report.Duplicates, repeated)
}

// mountState puts a small disk under a folder.
func mountState(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", dir).CombinedOutput()
	if err != nil {
		if os.Getenv("BARNABAS_REQUIRE_MOUNTS") != "" {
			t.Fatalf("mount: %v\n%s", err, out)
		}
		t.Skipf("mount: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_FORCE|0x2); err != nil { // MNT_DETACH
			t.Error(err)
		}
	})
}

// keepWriting appends to a file until ctx ends.
func keepWriting(ctx context.Context, path string, w *ledger.Writer) error {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := w.Write(out, 20); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// fill fills the state's disk and then makes the positions grow: new files need
// space for theirs. It returns how to free the disk.
func (l *loop) fill(round int, files map[string]int64) (free func()) {
	l.t.Helper()
	filler := l.path("state/filler")
	f, err := os.Create(filler)
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 512)); err != nil {
			break
		}
	}
	for n := range 300 {
		name := fmt.Sprintf("new-%d-%03d", round, n)
		w, err := ledger.NewWriter(name, lineWidth-1)
		if err != nil {
			l.t.Fatal(err)
		}
		appendLines(l.t, l.path("logs/"+name+".log"), w, 1)
		files[name] = 1
	}
	return func() {
		if err := os.Remove(filler); err != nil {
			l.t.Fatal(err)
		}
	}
}

// waitStopped waits until reading has stopped, within the window, and nothing moves.
func (l *loop) waitStopped() {
	l.t.Helper()
	l.eventually("positions that can't be stored", func(s *admin.Status) bool { return l.reason(s) != "" })
	begin := time.Now()
	l.eventually("reading to stop", func(s *admin.Status) bool { return strings.Contains(l.reason(s), "nothing more is read") })
	if took := time.Since(begin); took > pipeline.UnstoredWindow+2*time.Second {
		l.t.Errorf("reading stopped only after %s", took)
	}
	l.eventually("what was read to be delivered", func(s *admin.Status) bool {
		return s.Pipelines[0].InflightRecords == 0 && s.Pipelines[0].State == "blocked"
	})
	read := l.status().Totals.ReadRecords
	wait(time.Second)
	if now := l.status().Totals.ReadRecords; now != read {
		l.t.Errorf("%d records were read after reading had stopped", now-read)
	}
}

func (l *loop) reason(s *admin.Status) string {
	i := slices.IndexFunc(s.Reasons, func(r string) bool { return strings.HasPrefix(r, "positions can't be stored") })
	if i < 0 {
		return ""
	}
	return s.Reasons[i]
}

// since is how much arrived after a time.
func (s *sampler) since(begin time.Time) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.all, func(one sample) bool { return one.at.After(begin) })
	if i < 0 {
		return 0
	}
	return s.all[len(s.all)-1].sum - s.all[max(0, i-1)].sum
}
