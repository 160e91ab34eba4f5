package main

import (
	"github.com/barnabas-agent/barnabas/core/pluginhost"
	"github.com/barnabas-agent/barnabas/core/producer"
)

var _ producer.Observer = curious(nil)

// curious are the stages of a pipeline whose plugins want to know what became of records.
type curious []*pluginhost.Stage

// Delivered tells each of them.
func (c curious) Delivered(topic string, partition int32, first int64, count int) {
	for _, s := range c {
		s.Delivered(topic, partition, first, count)
	}
}

// Refused tells each of them.
func (c curious) Refused(topic string, partition int32, reason string) {
	for _, s := range c {
		s.Refused(topic, partition, reason)
	}
}

// tellCurious has each producer tell the pipelines that have curious stages. All stages have been started.
func (a *agent) tellCurious() {
	for _, l := range a.lines {
		var to curious
		for _, s := range l.stages {
			if s.WantsAcknowledgements() {
				to = append(to, s)
			}
		}
		if len(to) > 0 {
			l.client.Observe(to)
		}
	}
}
