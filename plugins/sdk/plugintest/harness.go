package plugintest

import (
	"context"
	"testing"

	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// Harness is one configured plugin in the test's own process. It ends with the
// test; one goroutine uses it.
type Harness struct {
	t       testing.TB
	subject *subject
}

// New starts a plugin with a configuration, a JSON object. A configuration that
// the plugin refuses fails the test.
func New[C Constructor](t testing.TB, new C, config string, all ...Option) *Harness {
	t.Helper()
	s, err := start(t.Context(), inProcess(programOf(new), true), config, newOptions(all))
	if err != nil {
		t.Fatalf("start the plugin: %v", err)
	}
	t.Cleanup(s.close)
	return &Harness{t: t, subject: s}
}

// Send passes one batch of records through the plugin and returns what became
// of them, in their order. A topic that is not given is Topic. A reply that the
// agent would not take fails the test.
func (h *Harness) Send(records ...sdk.Fields) []Result {
	h.t.Helper()
	sent, err := rowsOf(records)
	if err != nil {
		h.t.Fatalf("records of the test: %v", err)
	}
	got, err := h.subject.exchangeOwn(sent)
	if err != nil {
		h.t.Fatalf("send %d records: %v", len(records), err)
	}
	return got
}

// Acknowledge tells the plugin what became of records, and waits until it has been told.
func (h *Harness) Acknowledge(ranges ...sdk.Acknowledgement) {
	h.t.Helper()
	stream, err := h.subject.client.Acknowledge(h.t.Context())
	if err != nil {
		h.t.Fatalf("acknowledge: %v", err)
	}
	m := &wirev1.Acknowledgements{}
	for _, r := range ranges {
		m.Ranges = append(m.Ranges, &wirev1.Acknowledgement{
			Topic: r.Topic, Partition: r.Partition, FirstOffset: r.FirstOffset, Count: uint32(r.Count), Error: r.Error,
		})
	}
	if err := stream.Send(m); err != nil {
		h.t.Fatalf("acknowledge: %v", err)
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		h.t.Fatalf("acknowledge: %v", err)
	}
}

// Close ends the lane and closes the plugin, as the agent does when it stops.
func (h *Harness) Close() {
	h.t.Helper()
	if err := h.subject.finish(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// Schema returns the JSON Schema of the plugin's configuration.
func (h *Harness) Schema() string { return h.subject.description.ConfigSchema }

// CheckConfig asks a plugin about a configuration and returns what it says is wrong.
func CheckConfig[C Constructor](t testing.TB, new C, config string) []sdk.ConfigError {
	t.Helper()
	s, err := open(t.Context(), inProcess(programOf(new), true), newOptions(nil))
	if err != nil {
		t.Fatalf("start the plugin: %v", err)
	}
	defer s.close()
	wrong, err := s.validate(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return wrong
}

// validate asks about a configuration without applying it.
func (s *subject) validate(ctx context.Context, config string) ([]sdk.ConfigError, error) {
	reply, err := s.client.Configure(ctx, &wirev1.ConfigureRequest{ValidateOnly: true, Config: config, Stage: s.description.Name})
	if err != nil {
		return nil, err
	}
	var wrong []sdk.ConfigError
	for _, e := range reply.Errors {
		wrong = append(wrong, sdk.ConfigError{Pointer: e.Pointer, Message: e.Message})
	}
	return wrong, nil
}
