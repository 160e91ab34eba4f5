package main

import (
	"fmt"
	"os"
	"time"

	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/sources/file"
)

// keySeparator parts pipeline, source and the source's own key of a checkpoint.
const keySeparator = "\x00"

// openSource makes a source with its saved positions.
func (a *agent) openSource(p *config.Pipeline, s *config.Source) (*file.Source, error) {
	prefix := p.Name + keySeparator + s.Name + keySeparator
	saved, err := a.store.Load(prefix)
	if err != nil {
		return nil, fmt.Errorf("load positions: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	f := s.File
	start := file.Beginning
	if f.StartAt == config.StartAtEnd {
		start = file.End
	}
	source, err := file.New(file.Config{
		Pipeline: p.Name, Name: s.Name, Host: host,
		Include: f.Include, Exclude: f.Exclude, StartAt: start, MaxLine: int(f.MaxLine),
		PollInterval: f.PollInterval, FollowSymlinks: f.FollowSymlinks, SymlinkRoots: f.SymlinkRoots, Once: a.flags.once,
		KeyPrefix: prefix, Saved: saved, Lost: a.store.Lost(),
		Logger: a.log, Metrics: a.metrics, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	a.opened("source "+s.Name, source.Close)
	return source, nil
}
