package main

import (
	"os"
	"time"

	"github.com/barnabas-agent/barnabas/core/admin"
	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/stdin"
)

// stdinSource is source "stdin".
type stdinSource struct {
	*stdin.Source
	spool *spool.Spool
}

func (a *agent) openStdin(o origin, s *config.StdinSource) (source, error) {
	kept, err := a.openSpool(o, config.SourceStdin, s.Spool, int(s.MaxLine), false)
	if err != nil {
		return nil, err
	}
	a.opened("spool of "+o.name, kept.Close)
	return stdinSource{stdin.New(stdin.Config{
		Input: os.Stdin, MaxLine: int(s.MaxLine), Spool: kept, Logger: a.log, Now: time.Now,
	}), kept}, nil
}

func (s stdinSource) describe(to *admin.Source) {
	kept := s.spool.Status()
	to.LagBytes += kept.Lag
	to.Spool = &admin.Spool{Used: kept.Used, Limit: kept.Limit}
}

func (s stdinSource) problem() string { return s.Problem() }
