package pluginhost

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/wire"
)

// breaksRules has each reply that breaks a rule rejected whole: once, the batch
// comes again; always, and for one record, that record is blamed, with the rule.
func breaksRules(t *testing.T, f *hostileFixture) {
	for behaviour, rule := range map[string]string{
		"counts wrong":                   "count",
		"answers another batch":          "id",
		"answers twice":                  "", // id or order, by what else is on its way
		"never says why":                 "failures",
		"reorders":                       "rows",
		"names a row that is not there":  "rows",
		"sends no column":                "column.range",
		"points outside":                 "column.range",
		"writes what it did not declare": "column.undeclared",
		"has a strange verdict":          "verdicts",
	} {
		t.Run(behaviour, func(t *testing.T) {
			spec := f.once(behaviour)
			spec.Env["HOSTILE_MARKER"] += strings.ReplaceAll(behaviour, " ", "-")
			s := f.start(t, spec)
			wantNumbered(t, live(pass(t, s, 0, numbered(10, 10)...)), 100, "")
			wantRestarts(t, s, 1)
			f.wantLogged(t, "plugin=hostile", "version=6.6.6", "reply breaks rule "+rule)
		})
	}
	t.Run("always", func(t *testing.T) {
		s := f.start(t, f.on("v57", "points outside"))
		failed := wantBlamed(t, pass(t, s, 0, numbered(10, 10)...), "v57", codeCrash)
		if !strings.Contains(failed.Message, "reply breaks rule column.range") {
			t.Errorf("the failure %q does not name the rule", failed.Message)
		}
	})
}

func sendsGarbage(t *testing.T, f *hostileFixture) {
	t.Run("no protobuf", func(t *testing.T) {
		s := f.start(t, f.once("sends garbage"))
		wantNumbered(t, live(pass(t, s, 0, numbered(10, 10)...)), 100, "")
		wantRestarts(t, s, 1)
		if logs := f.logs.String(); strings.Contains(logs, "\xff") || strings.Contains(logs, "\x00") {
			t.Error("the garbage reached the log")
		}
	})
	t.Run("invalid text", func(t *testing.T) {
		s := f.start(t, f.on("v7", "sends invalid text"))
		got := pass(t, s, 0, numbered(1, 10)...)
		// Either the text is refused with the reply, or it is made printable in the failure.
		for _, b := range got {
			for _, failed := range b.Failures {
				if strings.Contains(failed.Message, "\x1b") || strings.Contains(failed.Message, "\xff") {
					t.Errorf("the failure %q is not printable", failed.Message)
				}
			}
		}
		if n := len(live(got)); n != 9 {
			t.Errorf("%d records went on, want all but one", n)
		}
	})
}

func sendsHugeReply(t *testing.T, f *hostileFixture) {
	spec := f.on("v57", "sends a huge reply")
	spec.Timeout = 20 * time.Second
	s := f.start(t, spec)
	wantBlamed(t, pass(t, s, 0, numbered(10, 10)...), "v57", wire.CodeTooLarge)
	t.Run("grown record", func(t *testing.T) {
		spec := f.on("v50", "grows a record") // the first one of its batch
		spec.MaxRecordSize = 1 << 20
		wantBlamed(t, pass(t, f.start(t, spec), 0, numbered(10, 10)...), "v50", wire.CodeTooLarge)
	})
	t.Run("forbidden topic", func(t *testing.T) {
		s := f.start(t, f.on("v50", "chooses a forbidden topic"))
		wantBlamed(t, pass(t, s, 0, numbered(10, 10)...), "v50", wire.CodeTopic)
		wantRestarts(t, s, 0)
	})
}

func outOfRange(t *testing.T, f *hostileFixture) {
	for _, behaviour := range []string{"chooses partition -2", "chooses partition 9999"} {
		t.Run(behaviour, func(t *testing.T) {
			spec := f.on("v50", behaviour)
			spec.Kind = Partitioner
			open := make(chan struct{})
			close(open)
			spec.Topology = &gate{open: open, count: 3}
			s := f.start(t, spec)
			failed := wantBlamed(t, pass(t, s, 0, numbered(10, 10)...), "v50", wire.CodePartition)
			if !strings.Contains(failed.Message, strings.TrimPrefix(behaviour, "chooses ")) {
				t.Errorf("the failure says %q", failed.Message)
			}
			wantRestarts(t, s, 0)
		})
	}
	t.Run("empty payload", func(t *testing.T) {
		spec := f.on("v50", "serializes nothing")
		spec.Kind = ValueSerializer
		f.own(t, "serializer")
		s := f.start(t, spec)
		values := live(pass(t, s, 0, numbered(10, 10)...))
		if len(values) != 100 || values[50] != "" { // an empty value is a value
			t.Errorf("got %q", values)
		}
		wantRestarts(t, s, 0)
	})
}

func answersByChance(t *testing.T, f *hostileFixture) {
	s := f.start(t, f.always("answers by chance"))
	first := live(pass(t, s, 0, numbered(3, 10)...))
	kill(t, s.Status().PID, 9)
	second := live(pass(t, s, 0, numbered(3, 10)...))
	if len(first) != 30 || len(second) != 30 || slices.Equal(first, second) {
		t.Errorf("got %q and %q", first, second)
	}
	for n := range first {
		if n%10 != 0 && first[n] != second[n] {
			t.Errorf("record %d: %s and %s", n, first[n], second[n])
		}
	}
}

func dropsAll(t *testing.T, f *hostileFixture) {
	s := f.start(t, f.always("drops all"))
	got := pass(t, s, 0, numbered(5, 10)...)
	dropped := 0
	for _, b := range got {
		dropped += len(b.Dropped)
	}
	if len(got) != 5 || dropped != 50 || len(live(got)) != 0 {
		t.Errorf("%d batches, %d records dropped, %d live; want 5, 50 and none", len(got), dropped, len(live(got)))
	}
	counted := counterValue(t, s.metrics.dropped)
	if counted != 50 {
		t.Errorf("%v drops counted, want 50", counted)
	}
}
