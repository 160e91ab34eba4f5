package producer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/barnabas-agent/barnabas/core/watchdog"
)

// Config is one producer block, checked by its reader.
type Config struct {
	Name             string
	BootstrapServers []string
	Acks             string // "all", "1", "0"
	Idempotence      bool
	Retries          int
	DeliveryTimeout  time.Duration // 0: a record is never given up
	BufferMemory     int64         // bytes that records read and not delivered may cost
	BatchSize        int           // bytes per partition
	Linger           time.Duration
	Compression      string
	MaxRequestSize   int // bytes
	MaxInFlight      int
	ClientID         string
	TLS              *TLS  // nil: plain text
	SASL             *SASL // nil: none
	// Properties are further librdkafka properties; they come last.
	Properties map[string]string
	// Pulse makes the pulse of a loop that delivery can't do without; nil: nobody asks.
	Pulse func(loop string) *watchdog.Pulse
}

// pulse is a new pulse for a loop of this producer.
func (c *Config) pulse(loop string) *watchdog.Pulse {
	if c.Pulse == nil {
		return nil
	}
	return c.Pulse(loop)
}

// TLS names the files of a TLS connection to the brokers. Empty members keep
// the library's own.
type TLS struct {
	CAFile, CertFile, KeyFile, KeyPassword string
}

// SASL authenticates to the brokers.
type SASL struct {
	Mechanism, Username, Password string
}

const (
	// eventsChannel is how many reports wait for the goroutine that takes them.
	// It never waits for anything, so a longer channel would only cost garbage collection.
	eventsChannel = 4096
	// mostMessages is librdkafka's upper bound of batch.num.messages: batch.size closes a batch.
	mostMessages = 1000000
)

// accountsInChunks says whether reports of one partition come in the order of its records.
func (c *Config) accountsInChunks() bool {
	return c.Idempotence && c.Acks == "all" && c.DeliveryTimeout == 0
}

// properties returns what every instance of this producer is created with.
func (c *Config) properties() kafka.ConfigMap {
	// The accumulator bounds what is handed to librdkafka; its own bounds are out of the way.
	kbytes := min(2147483647, max(2*c.BufferMemory/1024, 4*int64(c.MaxRequestSize)/1024, 4096))
	m := kafka.ConfigMap{
		"bootstrap.servers":            strings.Join(c.BootstrapServers, ","),
		"client.id":                    c.ClientID,
		"acks":                         c.Acks,
		"enable.idempotence":           c.Idempotence,
		"retries":                      c.Retries,
		"message.timeout.ms":           int(c.DeliveryTimeout.Milliseconds()),
		"linger.ms":                    strconv.FormatFloat(c.Linger.Seconds()*1000, 'f', -1, 64),
		"compression.type":             c.Compression,
		"batch.size":                   c.BatchSize,
		"batch.num.messages":           mostMessages,
		"message.max.bytes":            c.MaxRequestSize,
		"max.in.flight":                c.MaxInFlight,
		"queue.buffering.max.messages": 2147483647,
		"queue.buffering.max.kbytes":   int(kbytes),
		"socket.keepalive.enable":      true,
		"socket.timeout.ms":            30000,
		"reconnect.backoff.max.ms":     2000,
		"allow.auto.create.topics":     false,
		"go.delivery.reports":          true,
		"go.delivery.report.fields":    "none",
		"go.events.channel.size":       eventsChannel,
		"go.produce.channel.size":      0,
		"go.logs.channel.enable":       true,
	}
	c.security(m)
	for _, name := range slices.Sorted(maps.Keys(c.Properties)) {
		m[name] = c.Properties[name]
	}
	return m
}

// security adds what a connection beyond plain text needs.
func (c *Config) security(m kafka.ConfigMap) {
	protocol := "plaintext"
	switch {
	case c.TLS != nil && c.SASL != nil:
		protocol = "sasl_ssl"
	case c.TLS != nil:
		protocol = "ssl"
	case c.SASL != nil:
		protocol = "sasl_plaintext"
	}
	m["security.protocol"] = protocol
	set := func(name, value string) {
		if value != "" {
			m[name] = value
		}
	}
	if c.TLS != nil {
		set("ssl.ca.location", c.TLS.CAFile)
		set("ssl.certificate.location", c.TLS.CertFile)
		set("ssl.key.location", c.TLS.KeyFile)
		set("ssl.key.password", c.TLS.KeyPassword)
	}
	if c.SASL != nil {
		set("sasl.mechanism", c.SASL.Mechanism)
		set("sasl.username", c.SASL.Username)
		set("sasl.password", c.SASL.Password)
	}
}

// mainProperties are those of the instance that all pipelines but sync ones share.
func (c *Config) mainProperties() kafka.ConfigMap {
	m := c.properties()
	// A batch that fails for good ends the instance and what is behind it in the
	// log's order, so that it can all be produced again without a gap before it.
	m["enable.gapless.guarantee"] = c.Idempotence
	return m
}

// singleProperties are those of the instance whose batches hold one record each.
func (c *Config) singleProperties() kafka.ConfigMap {
	m := c.properties()
	m["batch.num.messages"] = 1
	m["linger.ms"] = 0
	m["max.in.flight"] = 1
	return m
}

// Check creates a client of these settings and closes it, so that what
// librdkafka refuses is known before anything starts. It needs no broker.
func (c *Config) Check() error {
	m := c.mainProperties()
	m["go.logs.channel.enable"] = false
	m["log_level"] = 0
	client, err := kafka.NewProducer(&m)
	if err != nil {
		return fmt.Errorf("producer %q: %w", c.Name, err)
	}
	client.Close()
	return nil
}

// LibraryVersion is the version of the linked librdkafka.
func LibraryVersion() string {
	_, text := kafka.LibraryVersion()
	return text
}

// SupportsSASL says whether the linked librdkafka can authenticate by a mechanism.
func SupportsSASL(mechanism string) bool {
	m := kafka.ConfigMap{"log_level": 0, "bootstrap.servers": "localhost", "security.protocol": "sasl_plaintext", "sasl.mechanism": mechanism}
	client, err := kafka.NewProducer(&m)
	if err != nil {
		return false
	}
	client.Close()
	return true
}

// FindTopic asks the brokers whether they know a topic. It takes at most ten seconds.
func (c *Config) FindTopic(ctx context.Context, topic string) error {
	m := c.mainProperties()
	m["go.logs.channel.enable"] = false
	m["log_level"] = 0
	client, err := kafka.NewProducer(&m)
	if err != nil {
		return err
	}
	defer client.Close()
	timeout := 10 * time.Second
	if deadline, has := ctx.Deadline(); has {
		timeout = min(timeout, time.Until(deadline))
	}
	metadata, err := client.GetMetadata(&topic, false, int(timeout.Milliseconds()))
	if err != nil {
		return err
	}
	found := metadata.Topics[topic]
	if found.Error.Code() != kafka.ErrNoError {
		return found.Error
	}
	if len(found.Partitions) == 0 {
		return errors.New("it has no partitions")
	}
	return nil
}
