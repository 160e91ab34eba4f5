package config

import (
	"fmt"
	"maps"
	"slices"
)

// minLine is the smallest max_line: shorter pieces cost more than they carry.
const minLine = 16

func (d *decoder) addSource(p *Pipeline, b block) {
	label, place := b.label(0)
	kinds := map[string]func(name string, b block) Source{
		string(SourceFile): d.fileSource, string(SourceSocket): d.socketSource, string(SourceStdin): d.stdinSource,
	}
	read, known := kinds[label]
	switch {
	case len(b.Labels) == 0:
	case !known:
		d.errorAt(place, Suggest(label, slices.Collect(maps.Keys(kinds))), "unknown source %s", quote(label))
	case !d.available("pipeline.source."+label, nil):
		d.errorAt(place, "leave it out", "source %q is not available yet", label)
	default:
		p.Sources = append(p.Sources, read(sourceName(p, label), b))
	}
}

func sourceName(p *Pipeline, kind string) string {
	n := 1
	for _, s := range p.Sources {
		if string(s.Kind) == kind {
			n++
		}
	}
	if n == 1 {
		return kind
	}
	return fmt.Sprintf("%s-%d", kind, n)
}
