package main

import (
	"slices"

	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/core/spool"
)

// tellForgotten tells the log of spools that hold records of sources that are
// not configured any more.
func (a *agent) tellForgotten() {
	dir := a.config.Agent.DataDir
	owners, err := spool.Owners(dir)
	if err != nil {
		a.log.Warn("it is not known whether spools of former sources hold records", "error", err)
	}
	for _, o := range owners {
		if hasSpool(a.config, o) {
			continue
		}
		key, path := keyPrefix(o.Pipeline, o.Source), spool.Dir(dir, o.Pipeline, o.Source)
		saved, err := a.store.Load(key)
		var waiting int64
		if err == nil {
			waiting, err = spool.Waiting(path, key, saved)
		}
		if err != nil || waiting > 0 {
			a.log.Warn("a spool is of no source in the configuration: what it holds is not delivered", "dir", path,
				"pipeline", o.Pipeline, "source", o.Source, "bytes", waiting, "error", err)
		}
	}
}

// hasSpool says whether a source of the configuration has the spool.
func hasSpool(c *config.Config, o spool.Owner) bool {
	return slices.ContainsFunc(c.Pipelines, func(p config.Pipeline) bool {
		return p.Name == o.Pipeline && slices.ContainsFunc(p.Sources, func(s config.Source) bool {
			return s.Name == o.Source && s.Kind != config.SourceFile
		})
	})
}
