package config

import (
	"fmt"
	"path/filepath"
)

// Charges and reserves that memory limits are checked against.
const (
	// recordOverhead is the room that key and headers of a record have beside a
	// line of max_line in a request of max_request_size.
	recordOverhead = 16 << 10

	// minReserve is the least share of buffer_memory that a pipeline works
	// with: a batch of 4,096 short records, each charged 256 bytes.
	minReserve = 1 << 20
)

// check checks what only shows in the whole configuration, and completes what
// depends on other blocks.
func (d *decoder) check(c *Config) {
	for i := range c.Pipelines {
		for _, stage := range c.Pipelines[i].Stages() {
			if stage.Path == "" {
				stage.Path = filepath.Join(c.Agent.PluginDir, "barnabas-"+stage.Kind.PluginKind()+"-"+stage.Plugin)
			}
		}
	}
	d.checkNames(c)
	if len(c.Pipelines) == 0 {
		d.missingAt(wholeFile(c.Files[0]), `write pipeline "NAME" { … }`, "there is no pipeline")
	}
	d.checkInputs(c)
	for i := range c.Producers {
		d.checkMemory(&c.Producers[i], c)
	}
}

// checkInputs refuses what two sources can't share.
func (d *decoder) checkInputs(c *Config) {
	first := map[string]Place{}
	for i := range c.Pipelines {
		for _, s := range c.Pipelines[i].Sources {
			switch {
			case s.Kind == SourceStdin:
				d.once(first, "source", string(s.Kind), s.Places.Block())
			case s.Kind == SourceSocket && s.Socket.Listen.Network != "" && !s.Socket.Listen.anyPort():
				d.once(first, "source that listens on", s.Socket.Listen.String(), s.Places.At("listen"))
			}
		}
	}
}

func (d *decoder) checkNames(c *Config) {
	var producers []string
	first := map[string]Place{}
	for i := range c.Producers {
		p := &c.Producers[i]
		d.once(first, "producer", p.Name, p.Places.Block())
		producers = append(producers, p.Name)
	}
	first = map[string]Place{}
	for i := range c.Pipelines {
		p := &c.Pipelines[i]
		d.once(first, "pipeline", p.Name, p.Places.Block())
		if c.Producer(p.Producer) == nil {
			hint := `write producer { bootstrap_servers = ["…"] }`
			if len(producers) > 0 {
				hint = Suggest(p.Producer, producers)
			}
			d.missingAt(p.Places.At("producer"), hint, "there is no producer %s", quote(p.Producer))
		}
	}
}

// once refuses a second block of the same name.
func (d *decoder) once(first map[string]Place, kind, name string, at Place) {
	if before, again := first[name]; again && name != "" {
		d.errorAt(at, fmt.Sprintf("the first one is at %s:%d", before.at.Filename, before.at.Start.Line), "a second %s %s", kind, quote(name))
		return
	}
	first[name] = at
}

// checkMemory checks that the longest line fits a request, and that a
// pipeline's share of buffer_memory holds the largest record: charged once in
// the agent and once in librdkafka. A record above its pipeline's share could
// wait for ever.
func (d *decoder) checkMemory(p *Producer, c *Config) {
	pipelines := int64(0)
	for i := range c.Pipelines {
		if c.Pipelines[i].Producer != p.Name {
			continue
		}
		pipelines++
		for _, s := range c.Pipelines[i].Sources {
			longest := "max_line"
			switch s.Kind {
			case SourceStdin: // which has no attribute to lower
				s.Stdin.MaxLine = max(minLine, min(s.Stdin.MaxLine, p.MaxRequestSize-recordOverhead))
			case SourceSocket:
				longest = "max_frame"
			}
			if s.MaxRecord()+recordOverhead > p.MaxRequestSize {
				d.errorAt(s.Places.At(longest), fmt.Sprintf("max_request_size of producer %s is %s", quote(p.Name), FormatSize(p.MaxRequestSize)),
					"%s = %s with %s for key and headers does not fit max_request_size", longest, FormatSize(s.MaxRecord()), FormatSize(recordOverhead))
			}
		}
	}
	least := pipelines * max(minReserve, 2*p.MaxRequestSize)
	if p.BufferMemory < least {
		d.errorAt(p.Places.At("buffer_memory"),
			fmt.Sprintf("each pipeline needs twice max_request_size in reserve, and at least %s", FormatSize(minReserve)),
			"buffer_memory must be at least %s for %d pipelines, not %s", FormatSize(least), pipelines, FormatSize(p.BufferMemory))
	}
}
