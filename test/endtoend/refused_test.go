package endtoend

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/admin"
)

// refusedJob leaves the key of some records null, which a compacted topic's broker refuses.
const refusedJob = `
agent {
  data_dir         = "state"
  plugin_dir       = "%PLUGINS%"
  http_listen      = ""
  shutdown_timeout = "10s"
}
producer { bootstrap_servers = [%BOOTSTRAP%] }
pipeline "refused" {
  topic = "%TOPIC%"
  source "file" { include = ["logs/*.log"] }
  interceptor "set" {
    config = { key = "value.split('|', 3)[1].endsWith('%POISON%') ? dyn(null) : dyn(value.split('|', 3)[1])" }
  }
  partitioner "murmur2" { }
}
`

func TestRefusedRecordAloneIsQuarantined(t *testing.T) {
	for _, c := range []struct {
		name   string
		poison string // how the sequence number of a refused record ends
		count  int    // how many there are
	}{
		{"one in 100000", "050000", 1},
		{"one in 1000", "500", 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			const records = 100_000
			j := newJob(t, kafka.Cluster(t), strings.ReplaceAll(refusedJob, "%POISON%", c.poison), map[string]string{"cleanup.policy": "compact"})
			j.write("a", records)
			j.start()
			j.waitComplete(120 * time.Second)

			refused := make(map[int64]bool)
			for _, r := range j.quarantined() {
				if r.Code != "INVALID_RECORD" || r.Stage != "producer" {
					t.Errorf("in the quarantine for %s by %s", r.Code, r.Stage)
				}
				refused[r.Origin.Offset/width] = true
			}
			if len(refused) != c.count {
				t.Errorf("%d records in the quarantine, %d were to be refused", len(refused), c.count)
			}
			if code := j.stop(15 * time.Second); code != 0 {
				t.Fatalf("exit code %d", code)
			}
			expected := j.expectation()
			expected.Dropped = func(_ string, sequence int64) bool { return refused[sequence] }
			for sequence := range refused {
				if !strings.HasSuffix(fmt.Sprintf("%012d", sequence), c.poison) {
					t.Errorf("line %d is in the quarantine and was not to be refused", sequence)
				}
			}
			// What is sent again after a refusal may have arrived before: at most what was in flight, each time.
			report := j.check(expected, int64(c.count)*(32<<20)/recordCharge)
			t.Logf("%d duplicates", report.Duplicates)
		})
	}
}

// quarantined lists the agent's quarantine.
func (a *agent) quarantined() []admin.QuarantinedRecord {
	a.t.Helper()
	out, errs, code := a.command("quarantine", "list", "--json", "--data-dir", filepath.Join(a.dir, "state"))
	if code != 0 {
		a.t.Fatalf("quarantine list: exit code %d: %s", code, errs)
	}
	var all []admin.QuarantinedRecord
	for decoder := json.NewDecoder(strings.NewReader(out)); ; {
		var r admin.QuarantinedRecord
		err := decoder.Decode(&r)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			a.t.Fatal(err)
		}
		all = append(all, r)
	}
}
