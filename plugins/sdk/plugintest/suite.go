package plugintest

import (
	"context"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/wire"
)

// Case is one thing that every plugin must do.
type Case struct {
	Name string
	Rule string // what the agent relies on, one sentence
	// Run starts a fresh plugin, tries the case, and ends the plugin. The error says what a plugin does wrong.
	Run func(ctx context.Context) error
}

// CaseTimeout is what one case may take, the start of a process included.
const CaseTimeout = time.Minute

// Run puts a plugin through the suite in the test's own process.
func Run[C Constructor](t *testing.T, new C, config string, all ...Option) {
	t.Helper()
	runCases(t, Cases(new, config, all...))
}

// Cases returns the cases that Run runs.
func Cases[C Constructor](new C, config string, all ...Option) []Case {
	return cases(inProcess(programOf(new), true), config, newOptions(all))
}

// RunProcess puts a plugin's binary through the suite as a process of its own.
func RunProcess(t *testing.T, binary, config string, all ...Option) {
	t.Helper()
	runCases(t, ProcessCases(binary, nil, config, all...))
}

// ProcessCases returns the cases for a plugin's binary, for callers other than
// tests. environment is added to the little that a plugin's process gets. config
// is a JSON object that the plugin accepts.
func ProcessCases(binary string, environment []string, config string, all ...Option) []Case {
	o := newOptions(all)
	environment = append([]string{wire.PoisonVariable + "=1"}, environment...)
	return append(cases(ofBinary(binary, environment), config, o), processCases(binary, environment, config, o)...)
}

func runCases(t *testing.T, all []Case) {
	t.Helper()
	for _, c := range all {
		t.Run(c.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), CaseTimeout)
			defer cancel()
			if err := c.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// cases returns what can be tried on any plugin, wherever it runs.
func cases(connect connector, config string, o options) []Case {
	all := configurationCases(connect, config, o)
	add := func(name, rule string, try func(ctx context.Context, s *subject) error) {
		all = append(all, Case{Name: name, Rule: rule, Run: func(ctx context.Context) error {
			return onSubject(ctx, connect, config, o, try)
		}})
	}
	for _, shape := range recordShapes() {
		add(shape.name, "It gives each record a verdict, whatever the record holds.", func(_ context.Context, s *subject) error {
			return checkRecords(s, shape.records)
		})
	}
	add("counts", "A reply is about the batch that was sent, and about each of its records.", checkCounts)
	add("order", "Replies come in the order of the batches.", checkOrder)
	add("projection", "It gets the columns that it reads, ignores others, and changes those that it writes.", checkProjection)
	add("partitions", "A partition is one that the topic has, also when their number changes.", checkPartitions)
	add("canary", "An empty batch is answered like any other.", checkCanary)
	add("canary under load", "An empty batch is answered in time while other lanes are at work.", checkCanaryUnderLoad)
	add("lanes", "Several lanes are served at the same time.", checkLanes)
	add("unknown fields", "Fields of later versions of the protocol are ignored.", checkUnknownFields)
	add("replay", "A batch that comes again, with the same id and the next attempt, is handled again.", checkReplay)
	add("slow reader", "Replies wait when the agent does not read; none is lost.", checkSlowReader)
	add("borrowed memory", "What a batch lends is not used once the batch is answered.", checkBorrowed)
	add("acknowledgements", "It takes what became of records, and messages that it has no use for.", checkAcknowledgements)
	add("metrics", "Its metrics are named as the agent shows them, and are told while batches are handled.", checkMetrics)
	add("close", "At the end of a lane it ends the stream, and Close succeeds.", checkClose)
	return all
}

// onSubject tries something on a fresh, configured plugin.
func onSubject(ctx context.Context, connect connector, config string, o options, try func(ctx context.Context, s *subject) error) error {
	s, err := start(ctx, connect, config, o)
	if err != nil {
		return err
	}
	defer s.close()
	return try(ctx, s)
}
