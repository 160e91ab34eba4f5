package config

import (
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// config reads all files into c and checks what only shows in the whole.
func (d *decoder) config(c *Config, files []parsedFile) {
	c.Agent = defaultAgent()
	s := schema{
		name: "the configuration",
		blocks: map[string]nested{
			"agent":    {once: true, read: func(b block) { d.agent(&c.Agent, b) }},
			"producer": {maxLabels: 1, read: func(b block) { c.Producers = append(c.Producers, d.producer(b)) }},
			"pipeline": {minLabels: 1, maxLabels: 1, labels: "name", read: func(b block) { c.Pipelines = append(c.Pipelines, d.pipeline(b)) }},
		},
	}
	seen := map[string]Place{}
	for _, f := range files {
		d.body(f.body, f.source, Place{f.source, hcl.Range{Filename: f.source.name}}, s, seen)
	}
	d.check(c)
}

func defaultAgent() Agent {
	return Agent{
		DataDir:         "/var/lib/barnabas",
		PluginDir:       "/usr/lib/barnabas/plugins",
		HTTPListen:      "127.0.0.1:9464",
		LogLevel:        slog.LevelInfo,
		LogFormat:       LogAuto,
		ShutdownTimeout: 30 * time.Second,
	}
}

func (d *decoder) agent(a *Agent, b block) {
	a.Places = d.block(b, schema{
		name: "agent",
		key:  "agent",
		attributes: map[string]attribute{
			"data_dir":         into(&a.DataDir, path),
			"plugin_dir":       into(&a.PluginDir, path),
			"http_listen":      into(&a.HTTPListen, listenAddress),
			"log_level":        into(&a.LogLevel, logLevel),
			"log_format":       into(&a.LogFormat, oneOf(LogAuto, LogText, LogJSON)),
			"shutdown_timeout": into(&a.ShutdownTimeout, duration(100*time.Millisecond, time.Hour)),
		},
	})
}

// listenAddress takes host:port, or nothing.
func listenAddress(v value) (string, bool) {
	s, ok := text(v)
	if !ok || s == "" {
		return s, ok
	}
	_, port, err := net.SplitHostPort(s)
	if err != nil || !isPort(port) {
		v.fail(`write "127.0.0.1:9464", or "" to turn it off`, "must be an address with a port, not %s", quote(s))
		return "", false
	}
	return s, true
}

// isPort accepts 0, which lets the system choose.
func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == s
}
