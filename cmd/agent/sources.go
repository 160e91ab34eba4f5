package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/barnabas-agent/barnabas/core/admin"
	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/core/pipeline"
	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/watchdog"
	"github.com/barnabas-agent/barnabas/sources/file"
)

// keySeparator parts pipeline, source and the source's own key of a checkpoint.
const keySeparator = "\x00"

// keyPrefix begins the keys of a source's checkpoints.
func keyPrefix(pipeline, source string) string {
	return pipeline + keySeparator + source + keySeparator
}

// source is a source of any kind with what the agent asks of it. Its methods
// may be called while it runs.
type source interface {
	pipeline.Source
	// describe adds to a status what there is to say of this kind of source.
	describe(to *admin.Source)
	// problem says why the source takes no records, "" when it does.
	problem() string
}

// origin is what sources of all kinds are made with.
type origin struct {
	pipeline, name string
	host           string
	prefix         string              // of the source's checkpoints
	saved          []record.Checkpoint // those that are durable
	pulse          func(loop string, reader bool) *watchdog.Pulse
}

// openSource makes a source with its saved positions.
func (a *agent) openSource(ctx context.Context, l *line, s *config.Source) (source, error) {
	p := l.config
	o := origin{
		pipeline: p.Name, name: s.Name, prefix: keyPrefix(p.Name, s.Name),
		pulse: func(loop string, reader bool) *watchdog.Pulse { return a.vigil.sourcePulse(a, l, s.Name, loop, reader) },
	}
	var err error
	if o.saved, err = a.store.Load(o.prefix); err != nil {
		return nil, fmt.Errorf("load positions: %w", err)
	}
	if o.host, err = os.Hostname(); err != nil {
		return nil, err
	}
	switch s.Kind {
	case config.SourceFile:
		return a.openFile(o, s.File)
	case config.SourceSocket:
		return a.openSocket(ctx, o, s.Socket)
	case config.SourceStdin:
		return a.openStdin(o, s.Stdin)
	default:
		return nil, errors.New("no such kind of source")
	}
}

// fileSource is source "file".
type fileSource struct{ *file.Source }

func (a *agent) openFile(o origin, f *config.FileSource) (source, error) {
	start := file.Beginning
	if f.StartAt == config.StartAtEnd {
		start = file.End
	}
	s, err := file.New(file.Config{
		Pipeline: o.pipeline, Name: o.name, Host: o.host,
		Include: f.Include, Exclude: f.Exclude, StartAt: start,
		Format: fileFormat(f.Format), Charset: f.Encoding, MaxLine: int(f.MaxLine), OnLongLine: longLine(f.OnLongLine), Multiline: multiline(f.Multiline),
		Decompress:   f.Compression == "auto",
		PollInterval: f.PollInterval, FollowSymlinks: f.FollowSymlinks, SymlinkRoots: f.SymlinkRoots, Once: a.flags.once,
		IgnoreOlder: f.IgnoreOlder, CloseIdle: f.CloseIdle, MaxOpenFiles: f.MaxOpenFiles, DeleteAfterDelivery: f.DeleteAfterDelivery,
		Pulse:     o.pulse,
		KeyPrefix: o.prefix, Saved: o.saved, Lost: a.store.Lost(),
		Logger: a.log, Metrics: a.metrics, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	a.opened("source "+o.name, s.Close)
	return fileSource{s}, nil
}

func (s fileSource) describe(to *admin.Source) {
	for _, f := range s.Status() {
		to.LagBytes += f.Lag
		to.Files = append(to.Files, admin.File{Path: f.Path, Size: f.Size, Read: f.Read, Delivered: f.Delivered, Lag: f.Lag})
	}
}

func (s fileSource) problem() string { return s.Problem() }

func fileFormat(name string) file.Format {
	switch name {
	case "cri":
		return file.CRI
	case "docker":
		return file.Docker
	default:
		return file.Lines
	}
}

func longLine(policy string) file.LongLine {
	switch policy {
	case "truncate":
		return file.Truncate
	case "quarantine":
		return file.Quarantine
	default:
		return file.Split
	}
}

func multiline(m *config.Multiline) *file.Multiline {
	if m == nil {
		return nil
	}
	return &file.Multiline{Start: m.StartPattern, Continue: m.ContinuePattern, Timeout: m.Timeout, MaxLines: m.MaxLines}
}
