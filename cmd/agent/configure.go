package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/core/pipeline"
	"github.com/barnabas-agent/barnabas/core/pluginhost"
	"github.com/barnabas-agent/barnabas/core/producer"
	"github.com/barnabas-agent/barnabas/core/record"
)

// devDataDir is where `run --dev` keeps all state, in the working directory.
const devDataDir = ".barnabas"

// loadConfig reads the configuration and writes what there is to say about it.
func loadConfig(path string, options config.Options, to io.Writer) (*config.Config, error) {
	options.HasGSSAPI = producer.SupportsSASL("GSSAPI")
	c, diagnostics := config.Load(path, options)
	return c, show(diagnostics, to)
}

// consult reads the configuration for a command that wants to know where
// something is. It says nothing unless the configuration can't be used.
func consult(path string, to io.Writer) (*config.Config, error) {
	var said bytes.Buffer
	c, err := loadConfig(path, config.Options{AllowMissingCredentials: true, IgnoreSecurity: true}, &said)
	if err != nil {
		if _, failed := said.WriteTo(to); failed != nil {
			return nil, failed
		}
	}
	return c, err
}

// show writes diagnostics, in the order of files and lines; the error is a
// refusal where one of them is an error.
func show(diagnostics config.Diagnostics, to io.Writer) error {
	if len(diagnostics) == 0 {
		return nil
	}
	slices.SortStableFunc(diagnostics, func(a, b config.Diagnostic) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if err := diagnostics.Write(to); err != nil {
		return err
	}
	if diagnostics.HasErrors() {
		return &refusal{code: exitUsage, err: errors.New("the configuration can't be used"), shown: true}
	}
	return nil
}

// producerConfig turns a producer block into what core/producer takes.
func producerConfig(p *config.Producer) producer.Config {
	c := producer.Config{
		Name:             p.Name,
		BootstrapServers: p.BootstrapServers,
		Acks:             string(p.Acks),
		Idempotence:      p.EnableIdempotence,
		Retries:          p.Retries,
		DeliveryTimeout:  p.DeliveryTimeout,
		BufferMemory:     p.BufferMemory,
		BatchSize:        int(p.BatchSize),
		Linger:           p.Linger,
		Compression:      p.Compression,
		MaxRequestSize:   int(p.MaxRequestSize),
		MaxInFlight:      p.MaxInFlight,
		ClientID:         p.ClientID,
		Properties:       make(map[string]string, len(p.Properties)),
	}
	for name, value := range p.Properties {
		c.Properties[name] = value.Reveal()
	}
	if t := p.TLS; t != nil {
		c.TLS = &producer.TLS{CAFile: t.CAFile, CertFile: t.CertFile, KeyFile: t.KeyFile, KeyPassword: t.KeyPassword.Reveal()}
	}
	if s := p.SASL; s != nil {
		c.SASL = &producer.SASL{Mechanism: s.Mechanism, Username: s.Username.Reveal(), Password: s.Password.Reveal()}
	}
	return c
}

// pluginSpec turns a stage block into what core/pluginhost takes.
func pluginSpec(c *config.Config, p *config.Pipeline, s *config.Stage) pluginhost.Spec {
	env := make(map[string]string, len(s.Env))
	for name, value := range s.Env {
		env[name] = value.Reveal()
	}
	return pluginhost.Spec{
		Pipeline:      p.Name,
		Stage:         s.Name,
		Kind:          pluginhost.Kind(s.Kind),
		Plugin:        s.Plugin,
		Path:          s.Path,
		Dir:           c.Agent.PluginDir,
		Config:        s.Config.JSON(),
		OnError:       pluginhost.OnError(s.OnError),
		Timeout:       s.Timeout,
		Instances:     s.Instances,
		Env:           env,
		Checksum:      s.Checksum,
		MemoryMax:     s.MemoryMax,
		AllowTopic:    allowTopic(p),
		MaxRecordSize: int(c.Producer(p.Producer).MaxRequestSize),
	}
}

// allowTopic says which topics an interceptor of the pipeline may choose.
func allowTopic(p *config.Pipeline) func(string) bool {
	return func(topic string) bool {
		if topic == p.Topic {
			return true
		}
		for _, glob := range p.AllowTopics {
			// Load has checked the globs.
			if matched, err := filepath.Match(glob, topic); err == nil && matched {
				return true
			}
		}
		return false
	}
}

// pipelineConfig turns a pipeline block into what core/pipeline takes.
func pipelineConfig(c *config.Config, p *config.Pipeline, lanes int) pipeline.Config {
	block := blockSize
	for _, s := range p.Sources {
		block = max(block, int(s.MaxRecord())+1)
	}
	return pipeline.Config{
		Name: p.Name, Topic: p.Topic, Lanes: lanes, MaxBlock: block,
		OnFailure: pipeline.FailurePolicy(p.OnFailure),
		// As many as may be in flight: what passes a record that waits doubles at
		// most what a crash repeats.
		MaxAhead: max(c.Producer(p.Producer).BufferMemory/pipeline.RecordOverhead, record.MaxRows),
	}
}

// pluginDiagnostics turns what a plugin was refused for into diagnostics at its place in the configuration.
func pluginDiagnostics(p *config.Pipeline, s *config.Stage, err error) config.Diagnostics {
	var refused *pluginhost.Error
	if !errors.As(err, &refused) {
		return config.Diagnostics{s.Label().Error(fmt.Sprintf("plugin %q of pipeline %q: %v", s.Plugin, p.Name, err), "")}
	}
	if len(refused.Config) > 0 {
		var all config.Diagnostics
		for _, one := range refused.Config {
			all = append(all, s.ConfigDiagnostic(one.Pointer, fmt.Sprintf("plugin %q refuses this: %s", s.Plugin, one.Message), refused.Hint))
		}
		return all
	}
	hint := refused.Hint
	if refused.Output != "" {
		hint = strings.TrimSpace(hint + "\nit printed: " + refused.Output)
	}
	at := "path"
	if refused.Reason == pluginhost.WrongChecksum {
		at = "checksum"
	}
	return config.Diagnostics{s.Places.At(at).Error(fmt.Sprintf("plugin %q: %s", s.Plugin, refused.Problem), hint)}
}

// newLog makes the agent's log.
func newLog(c *config.Agent, to io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == config.LogText || (c.LogFormat == config.LogAuto && isTerminal(to)) {
		return slog.New(slog.NewTextHandler(to, options))
	}
	return slog.New(slog.NewJSONHandler(to, options))
}

// isTerminal says whether w shows to a person.
func isTerminal(w io.Writer) bool {
	switch f := w.(type) {
	case *screen:
		return isTerminal(f.to)
	case *os.File:
		return term.IsTerminal(int(f.Fd()))
	default:
		return false
	}
}
