package main

import (
	"context"

	"github.com/barnabas-agent/barnabas/core/checkpoint"
	"github.com/barnabas-agent/barnabas/core/config"
)

// tellState says what is unusual about the data directory, once nothing is wrong with the rest.
func (a *agent) tellState(context.Context) error {
	dir := a.config.Agent.DataDir
	reason, err := checkpoint.Caution(dir)
	if err != nil {
		return err
	}
	if reason != "" && !a.flags.dev {
		a.log.Warn("data_dir is on a file system that is not made for it", "data_dir", dir, "reason", reason)
	}
	if !a.store.First() {
		return nil
	}
	const text = "data_dir holds no positions: this is taken for the first start"
	if skipping := skippingAtFirst(a.config); len(skipping) > 0 {
		a.log.Warn(text+`, and files that exist now are skipped, as start_at = "end" says; if it is not the first, end the agent and name the old folder in data_dir`,
			"data_dir", dir, "pipelines", skipping)
		return nil
	}
	a.log.Info(text, "data_dir", dir)
	return nil
}

// skippingAtFirst names the pipelines that skip what files hold at a first start.
func skippingAtFirst(c *config.Config) (names []string) {
	for i := range c.Pipelines {
		p := &c.Pipelines[i]
		for n := range p.Sources {
			if f := p.Sources[n].File; f != nil && f.StartAt == config.StartAtEnd {
				names = append(names, p.Name)
				break
			}
		}
	}
	return names
}
