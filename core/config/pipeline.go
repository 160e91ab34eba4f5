package config

import (
	"fmt"
	"math"
	pathpkg "path"
	"regexp"
	"strings"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

func (d *decoder) pipeline(b block) Pipeline {
	p := Pipeline{
		Name:       d.name("a pipeline", b),
		Producer:   DefaultProducer,
		Send:       SendAsync,
		Provenance: "none",
		OnFailure:  FailQuarantine,
	}
	stages := func(kind StageKind, once bool) nested {
		return nested{minLabels: 1, maxLabels: 1, labels: "name", once: once, read: func(b block) { d.addStage(&p, kind, b) }}
	}
	p.Places = d.block(b, schema{
		name: "pipeline",
		key:  "pipeline",
		attributes: map[string]attribute{
			"producer":          into(&p.Producer, nonEmpty),
			"topic":             into(&p.Topic, topicName),
			"allow_topics":      into(&p.AllowTopics, listOf(topicGlob)),
			"send":              into(&p.Send, oneOf(SendAsync, SendSync, SendFireAndForget)),
			"provenance":        into(&p.Provenance, oneOf("none", "headers")),
			"on_failure":        into(&p.OnFailure, oneOf(FailQuarantine, FailDeadLetter, FailBlock, FailDrop)),
			"dead_letter_topic": into(&p.DeadLetterTopic, topicName),
		},
		blocks: map[string]nested{
			"source":                {minLabels: 1, maxLabels: 1, labels: "kind", read: func(b block) { d.addSource(&p, b) }},
			string(Interceptor):     stages(Interceptor, false),
			string(KeySerializer):   stages(KeySerializer, true),
			string(ValueSerializer): stages(ValueSerializer, true),
			string(Partitioner):     stages(Partitioner, true),
		},
	})
	d.checkPipeline(&p, b)
	nameStages(&p)
	return p
}

// checkPipeline checks what concerns this pipeline alone.
func (d *decoder) checkPipeline(p *Pipeline, b block) {
	if !p.Places.Has("topic") {
		d.missingAt(p.Places.Block(), `write topic = "…"`, "pipeline %s has no topic", quote(p.Name))
	}
	hasSource := false
	for _, inner := range b.Body.Blocks {
		hasSource = hasSource || inner.Type == "source"
	}
	if !hasSource {
		d.missingAt(p.Places.Block(), `write source "file" { include = ["…"] }`, "pipeline %s has no source", quote(p.Name))
	}
	deadLetter, topic := p.OnFailure == FailDeadLetter, p.Places.Has("dead_letter_topic")
	switch {
	case deadLetter && !topic:
		d.missingAt(p.Places.At("on_failure"), `write dead_letter_topic = "…"`, `on_failure = "dead_letter" needs dead_letter_topic`)
	case topic && !deadLetter:
		d.errorAt(p.Places.At("dead_letter_topic"), "", `dead_letter_topic needs on_failure = "dead_letter"`)
	}
	if p.Send == SendFireAndForget {
		d.warnAt(p.Places.At("send"), "",
			`send = "fire_and_forget" gives up at least once: records are lost where a crash or a broker's refusal comes between the producer and the broker`)
		for _, s := range p.Sources {
			if s.File != nil && s.File.DeleteAfterDelivery {
				d.errorAt(s.Places.At("delete_after_delivery"), `use send = "async", or leave the deletion to what rotates the files`,
					`delete_after_delivery needs to know what is delivered, and send = "fire_and_forget" does not: a lost record could not be read again`)
			}
		}
	}
}

// nameStages gives every stage a name of its own: the label, and a number where
// the label is taken.
func nameStages(p *Pipeline) {
	taken := map[string]bool{"producer": true, "source": true} // name the refusals of broker and source
	for _, stage := range p.Stages() {
		name := stage.Plugin
		for n := 2; taken[name]; n++ {
			name = fmt.Sprintf("%s-%d", stage.Plugin, n)
		}
		taken[name] = true
		stage.Name = name
	}
}

func (d *decoder) addStage(p *Pipeline, kind StageKind, b block) {
	s := d.stage(kind, b)
	switch kind {
	case KeySerializer:
		p.KeySerializer = &s
	case ValueSerializer:
		p.ValueSerializer = &s
	case Partitioner:
		p.Partitioner = &s
	default:
		p.Interceptors = append(p.Interceptors, s)
	}
}

func (d *decoder) stage(kind StageKind, b block) Stage {
	s := Stage{
		Kind:      kind,
		Plugin:    d.name("a plugin", b),
		OnError:   ErrorQuarantine,
		Timeout:   10 * time.Second,
		Instances: 1,
	}
	_, s.label = b.label(0)
	s.Places = d.block(b, schema{
		name: string(kind),
		key:  "stage",
		attributes: map[string]attribute{
			"config":     intoSecret(&s.Config, pluginConfig),
			"on_error":   into(&s.OnError, oneOf(ErrorQuarantine, ErrorDrop, ErrorPass, ErrorBlock)),
			"timeout":    into(&s.Timeout, duration(10*time.Millisecond, time.Hour)),
			"instances":  into(&s.Instances, integer(1, 64)),
			"checksum":   into(&s.Checksum, checksum),
			"path":       into(&s.Path, path),
			"env":        intoSecret(&s.Env, environment),
			"memory_max": into(&s.MemoryMax, size(128<<20, math.MaxInt64)),
		},
	})
	if !s.Places.Has("path") {
		s.Places.attributes["path"] = s.label
	}
	return s
}

// checksum takes the SHA-256 of a plugin's file.
func checksum(v value) (string, bool) {
	s, ok := text(v)
	if ok && s != "" && !regexp.MustCompile(`^sha256:[0-9a-f]{64}$`).MatchString(s) {
		v.fail("sha256sum FILE prints the digits", `must be "sha256:" and 64 hexadecimal digits, not %s`, quote(s))
		return "", false
	}
	return s, ok
}

// environment takes a plugin's environment.
func environment(v value) (map[string]Secret, bool) {
	places := v.membersOf()
	env, ok := stringsByName(v, places)
	for name, s := range env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(s.Reveal(), 0) {
			v.decoder.errorAt(places.at("/"+escapePointer(name), v.place), "", "%s can't be an environment variable", quote(name))
			ok = false
		}
	}
	return env, ok
}

// topicName takes a topic's name by Kafka's own rule.
func topicName(v value) (string, bool) {
	s, ok := text(v)
	if !ok {
		return "", false
	}
	if !record.ValidTopic(s) {
		v.fail("1 to 249 letters, digits, '.', '_' and '-', and not \".\" or \"..\"", "must be the name of a topic, not %s", quote(s))
		return "", false
	}
	return s, true
}

// topicGlob takes a glob of topics that begins with something literal, so that
// a record's content can't choose any topic there is.
func topicGlob(v value) (string, bool) {
	s, ok := text(v)
	if !ok {
		return "", false
	}
	if _, err := pathpkg.Match(s, ""); err != nil || !regexp.MustCompile(`^[a-zA-Z0-9._*?\[\]^-]{1,249}$`).MatchString(s) {
		v.fail(`a glob is a topic's name with *, ? and […]: "access.*"`, "must be a glob of topics, not %s", quote(s))
		return "", false
	}
	if strings.IndexAny(s, "*?[") == 0 {
		v.fail(`a record's content could choose any topic; write "access.*"`, "must begin with a part without wildcard, not %s", quote(s))
		return "", false
	}
	return s, true
}
