package kafkatest

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/barnabas-agent/barnabas/test/kafka/broker"
)

// Shared is one cluster for all tests of a package, launched when the first of
// them asks for it. The package owns it as a variable of its tests:
//
//	var kafka kafkatest.Shared
//
//	func TestMain(m *testing.M) { os.Exit(kafka.Around(m).Run()) }
//
//	func TestDelivery(t *testing.T) {
//		cluster := kafka.Cluster(t)
//		…
//
// Tests that share a cluster use topics of their own and leave its brokers
// alone. A Shared must not be copied after use; its methods may be called
// concurrently.
type Shared struct {
	Options Options // set before the first use

	mu      sync.Mutex
	brokers *broker.Cluster // owned; nil until a test asks for it
	failed  error           // why there is none: each test reports it, none tries again
}

// Cluster returns the cluster for the use of this test, launching it if it is
// the first to ask.
func (s *Shared) Cluster(t testing.TB) *Cluster {
	t.Helper()
	Require(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.brokers == nil && s.failed == nil {
		s.brokers, s.failed = launch(s.Options)
	}
	if s.failed != nil {
		t.Fatal(s.failed)
	}
	return &Cluster{t: t, brokers: s.brokers}
}

// Runner is what runs a package's tests: *testing.M, or one around it.
type Runner interface{ Run() int }

// Around returns a Runner that runs m and then ends the cluster, if there is
// one. It also fits goleak.VerifyTestMain.
func (s *Shared) Around(m Runner) Runner {
	return &around{shared: s, tests: m}
}

type around struct {
	shared *Shared
	tests  Runner
}

// Run returns the exit code of the tests.
func (a *around) Run() int {
	code := a.tests.Run()
	if err := a.shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

func (s *Shared) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.brokers == nil {
		return nil
	}
	return s.brokers.Close()
}
