package pluginhost

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// TestHostile puts the host before a plugin that does what plugins must not do.
// P01 to P30 are the numbers of the failure catalogue.
func TestHostile(t *testing.T) {
	binary := buildHostile(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *hostileFixture)
	}{
		{"P01_crash_in_mid_batch", crashesInMidBatch},
		{"P02_hang_and_stop", hangsAndStops},
		{"P03_grandchild_holds_the_pipes", grandchildHoldsThePipes},
		{"P04_slow", isSlow},
		{"P05_replies_that_break_a_rule", breaksRules},
		{"P06_garbage", sendsGarbage},
		{"P07_huge_reply", sendsHugeReply},
		{"P08_stderr_flood", floodsStderr},
		{"P09_stdout_flood_after_the_handshake", floodsStdout},
		{"P10_poison_record", poisonRecord},
		{"P11_restart_storm", restartStorm},
		{"P12_out_of_memory_in_a_control_group", outOfMemoryInGroup},
		{"P12_out_of_memory_with_RLIMIT_DATA", outOfMemoryWithLimit},
		{"P13_slow_leak", leaksSlowly},
		{"P14_fork_bomb", forkBomb},
		{"P15_nothing_leaks_over_restarts", leaksNothing},
		{"P16_wrong_protocol_or_cookie", speaksSomethingElse},
		{"P17_wrong_checksum", wrongChecksum},
		{"P18_checksum_at_every_start", checksumAtEveryStart},
		{"P19_file_replaced_while_it_runs", fileReplaced},
		{"P20_agent_killed", agentKilled},
		{"P21_no_zombie", noZombie},
		{"P22_slow_start", startsSlowly},
		{"P23_banner_before_the_handshake", printsBanner},
		{"P24_stdin", readsStdin},
		{"P25_environment_and_descriptors", seesNothingOfTheAgent},
		{"P26_version_skew", versionSkew},
		{"P27_no_certificates_no_clocks", noCertificates},
		{"P28_partition_and_payload_out_of_range", outOfRange},
		{"P29_another_answer_on_replay", answersByChance},
		{"P30_drops_everything", dropsAll},
		{"T8_another_process_serves", anotherProcessServes},
		{"T8_another_process_dials", anotherProcessDials},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.HasPrefix(c.name, "P15") { // which counts what the whole process has
				t.Parallel()
			}
			f := &hostileFixture{fixture: newFixture(t), binary: binary}
			for _, kind := range []string{"interceptor", "serializer", "partitioner"} {
				if err := os.Symlink(binary, f.path(kind)); err != nil {
					t.Fatal(err)
				}
			}
			c.run(t, f)
		})
	}
}

// buildHostile builds the plugin, without the race detector: its shadow memory
// does not fit a limit.
func buildHostile(t testing.TB) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "hostile")
	build := exec.Command("go", "build", "-o", binary, "github.com/barnabas-agent/barnabas/test/hostile")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the hostile plugin: %v\n%s", err, out)
	}
	return binary
}

// hostileFixture is a host with the hostile plugin installed.
type hostileFixture struct {
	*fixture
	binary string
}

// path is where the plugin of a kind is installed.
func (f *hostileFixture) path(kind string) string {
	return filepath.Join(f.dir, "barnabas-"+kind+"-hostile")
}

// marker is the file that ends a behaviour which happens once.
func (f *hostileFixture) marker() string { return filepath.Join(f.dir, "marker") }

// own makes a plugin a file of its own, which a test may change, and which no
// other's description is taken for.
func (f *hostileFixture) own(t *testing.T, kind string) string {
	t.Helper()
	text, err := os.ReadFile(f.binary)
	if err != nil {
		t.Fatal(err)
	}
	path := f.path(kind)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, kind...), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// always is a stage whose plugin behaves so for every batch.
func (f *hostileFixture) always(behaviour string) Spec {
	spec := f.spec(Interceptor, "hostile", nil)
	spec.Env = map[string]string{"HOSTILE": behaviour}
	return spec
}

// once is a stage whose plugin behaves so for one batch.
func (f *hostileFixture) once(behaviour string) Spec {
	spec := f.always(behaviour)
	spec.Env["HOSTILE_MARKER"] = f.marker()
	return spec
}

// on is a stage whose plugin behaves so for every batch that holds a value.
func (f *hostileFixture) on(value, behaviour string) Spec {
	spec := f.always(behaviour)
	spec.Env["HOSTILE_ON"] = value
	return spec
}

// wantRefused checks that a start, and validate, fail soon for a reason that the user is told.
func (f *hostileFixture) wantRefused(t *testing.T, spec Spec, reason Reason, says string) {
	t.Helper()
	for what, try := range map[string]func() error{
		"validate": func() error { return f.Validate(t.Context(), spec) },
		"start":    func() error { return f.NewStage(spec).Start(t.Context()) },
	} {
		began := time.Now()
		err := try()
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s took %s", what, took)
		}
		if !isRefusal(err, reason) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), `plugin "hostile"`) {
			t.Errorf("%s: %v; want %s, the plugin's name and %q", what, err, reason, says)
		}
		if err != nil && strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%s: %q holds a control character", what, err)
		}
	}
}

// wantBlamed checks that one record of ten batches failed alone, by the given
// code, and all others went on, each once and in order.
func wantBlamed(t *testing.T, got []*record.Batch, value, code string) record.Failure {
	t.Helper()
	var failures []record.Failure
	for _, b := range got {
		for _, failed := range b.Failures {
			if v := string(b.Value.Bytes(int(failed.Row))); v != value {
				t.Errorf("record %s failed: %+v", v, failed)
			}
			failures = append(failures, failed)
		}
	}
	if len(failures) != 1 || failures[0].Code != code || failures[0].Stage != "hostile" {
		t.Fatalf("failures %+v, want one of %s", failures, code)
	}
	values := live(got)
	var want []string
	for n := range len(values) + 1 {
		if v := fmt.Sprintf("v%d", n); v != value {
			want = append(want, v)
		}
	}
	if !slices.Equal(values, want) {
		t.Errorf("went on: %v", values)
	}
	return failures[0]
}

// wantRestarts checks how often the process was replaced.
func wantRestarts(t *testing.T, s *Stage, n int) {
	t.Helper()
	if got := s.Status().Restarts; got != n {
		t.Errorf("%d restarts, want %d; last error %q", got, n, s.Status().LastError)
	}
}

// wantLogged checks that the log says something.
func (f *hostileFixture) wantLogged(t *testing.T, texts ...string) {
	t.Helper()
	logs := f.logs.String()
	for _, text := range texts {
		if !strings.Contains(logs, text) {
			t.Errorf("the log does not say %q", text)
		}
	}
}
