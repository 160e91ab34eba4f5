package producer

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/metric"
)

func offlineConfig() Config {
	return Config{
		Name: "main", BootstrapServers: []string{"127.0.0.1:1", "127.0.0.1:2"}, Acks: "all", Idempotence: true, Retries: 2147483647,
		BufferMemory: 32 << 20, BatchSize: 1 << 20, Linger: 5 * time.Millisecond, Compression: "lz4",
		MaxRequestSize: 1 << 20, MaxInFlight: 5, ClientID: "barnabas",
	}
}

// librdkafka takes every setting that we make of a configuration.
func TestSettingsAreTaken(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"defaults":       func(*Config) {},
		"no linger":      func(c *Config) { c.Linger = 0 },
		"half a ms":      func(c *Config) { c.Linger = 500 * time.Microsecond },
		"one in flight":  func(c *Config) { c.MaxInFlight = 1 },
		"tiny buffer":    func(c *Config) { c.BufferMemory = 1 },
		"huge buffer":    func(c *Config) { c.BufferMemory = 1 << 50 },
		"acks 1":         func(c *Config) { c.Acks, c.Idempotence = "1", false },
		"acks 0":         func(c *Config) { c.Acks, c.Idempotence, c.Retries = "0", false, 0 },
		"timeout":        func(c *Config) { c.DeliveryTimeout = 2 * time.Minute },
		"largest record": func(c *Config) { c.MaxRequestSize, c.BatchSize = 1000000000, 2147483647 },
		"sasl":           func(c *Config) { c.SASL = &SASL{Mechanism: "SCRAM-SHA-512", Username: "u", Password: "p"} },
		"tls":            func(c *Config) { c.TLS = &TLS{} },
		"sasl over tls":  func(c *Config) { c.TLS, c.SASL = &TLS{}, &SASL{Mechanism: "PLAIN", Username: "u", Password: "p"} },
		"property":       func(c *Config) { c.Properties = map[string]string{"socket.nagle.disable": "true"} },
	} {
		c := offlineConfig()
		change(&c)
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		p, err := New(c, metric.New(), slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := p.single.current(); err != nil {
			t.Errorf("%s: the client for single records: %v", name, err)
		}
		p.single.close()
		if _, err := p.single.current(); !errors.Is(err, errClosed) {
			t.Errorf("%s: a client is started after the end: %v", name, err)
		}
	}
}

func TestSettingsThatAreRefusedNameTheirProducer(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no such property":    func(c *Config) { c.Properties = map[string]string{"no.such.property": "1"} },
		"no such compression": func(c *Config) { c.Compression = "rar" },
		"no such file":        func(c *Config) { c.TLS = &TLS{CAFile: "/no/such/file"} },
		"too many in flight":  func(c *Config) { c.MaxInFlight = 6 },
	} {
		c := offlineConfig()
		change(&c)
		_, err := New(c, metric.New(), slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err == nil || !strings.Contains(err.Error(), `producer "main"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Reports are accounted for in chunks only where their order is promised.
func TestChunksNeedOrder(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"acks":        func(c *Config) { c.Acks = "1" },
		"idempotence": func(c *Config) { c.Idempotence = false },
		"timeout":     func(c *Config) { c.DeliveryTimeout = time.Second },
	} {
		c := offlineConfig()
		if !c.accountsInChunks() {
			t.Error("the defaults do not account in chunks")
		}
		if change(&c); c.accountsInChunks() {
			t.Errorf("%s", name)
		}
	}
}

// The single client's batches hold one record; the main one stops behind a gap.
func TestPropertiesOfTheTwoClients(t *testing.T) {
	c := offlineConfig()
	c.Properties = map[string]string{"batch.num.messages": "17", "enable.gapless.guarantee": "false"}
	if m := c.singleProperties(); m["batch.num.messages"] != 1 || m["linger.ms"] != 0 {
		t.Errorf("single: %v", m)
	}
	if m := c.mainProperties(); m["enable.gapless.guarantee"] != true || m["message.timeout.ms"] != 0 || m["socket.keepalive.enable"] != true {
		t.Errorf("main: %v", m)
	}
}

func TestTheLibrarysLogIsThinnedOut(t *testing.T) {
	now := time.Now()
	l := newLogLimit(func() time.Time { return now })
	if !l.allow("FAIL") || l.allow("FAIL") || !l.allow("GETPID") {
		t.Error("one line per tag passes at first")
	}
	now = now.Add(10 * time.Second)
	if !l.allow("FAIL") {
		t.Error("none passes after ten seconds")
	}
	for severity, want := range map[int]slog.Level{0: slog.LevelError, 3: slog.LevelWarn, 4: slog.LevelWarn, 5: slog.LevelInfo, 7: slog.LevelDebug} {
		if got := logLevel(severity); got != want {
			t.Errorf("severity %d is %v", severity, got)
		}
	}
}
