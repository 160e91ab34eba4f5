package plugintest

import (
	"context"
	"testing"
	"time"
)

// Case is one thing that every plugin must do.
type Case struct {
	Name string
	// Run starts a fresh plugin, tries the case, and ends the plugin. The error says what a plugin does wrong.
	Run func(ctx context.Context) error
}

// caseTimeout bounds one case, the start of a process included.
const caseTimeout = time.Minute

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
// tests. environment is added to the little that a plugin's process gets.
func ProcessCases(binary string, environment []string, config string, all ...Option) []Case {
	o := newOptions(all)
	return append(cases(ofBinary(binary, environment), config, o), processCases(binary, environment, config, o)...)
}

func runCases(t *testing.T, all []Case) {
	t.Helper()
	for _, c := range all {
		t.Run(c.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), caseTimeout)
			defer cancel()
			if err := c.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// cases returns what can be tried on any plugin, wherever it runs.
func cases(connect connector, config string, o options) []Case {
	var all []Case
	add := func(name string, try func(ctx context.Context, s *subject) error) {
		all = append(all, Case{Name: name, Run: func(ctx context.Context) error {
			s, err := start(ctx, connect, config, o)
			if err != nil {
				return err
			}
			defer s.close()
			return try(ctx, s)
		}})
	}
	all = append(all,
		Case{Name: "description", Run: func(ctx context.Context) error { return checkDescription(ctx, connect, o) }},
		Case{Name: "configuration", Run: func(ctx context.Context) error { return checkConfiguration(ctx, connect, config, o) }},
	)
	for _, shape := range recordShapes() {
		add(shape.name, func(_ context.Context, s *subject) error { return checkRecords(s, shape.records) })
	}
	add("canary", checkCanary)
	add("unknown fields", checkUnknownFields)
	add("order", checkOrder)
	add("replay", checkReplay)
	add("borrowed memory", checkBorrowed)
	add("close", func(ctx context.Context, s *subject) error {
		if _, err := s.exchange(plainRecords(3)); err != nil {
			return err
		}
		return s.finish(ctx)
	})
	return all
}
