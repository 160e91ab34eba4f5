package config

import (
	"fmt"
	"strings"
)

// ownAttributes are the librdkafka properties that have an attribute.
func ownAttributes() map[string]string {
	return map[string]string{
		"bootstrap.servers":                     "bootstrap_servers",
		"metadata.broker.list":                  "bootstrap_servers",
		"acks":                                  "acks",
		"request.required.acks":                 "acks",
		"enable.idempotence":                    "enable_idempotence",
		"retries":                               "retries",
		"message.send.max.retries":              "retries",
		"message.timeout.ms":                    "delivery_timeout",
		"delivery.timeout.ms":                   "delivery_timeout",
		"queue.buffering.max.messages":          "buffer_memory",
		"queue.buffering.max.kbytes":            "buffer_memory",
		"batch.size":                            "batch_size",
		"batch.num.messages":                    "batch_size",
		"linger.ms":                             "linger",
		"queue.buffering.max.ms":                "linger",
		"compression.codec":                     "compression",
		"compression.type":                      "compression",
		"message.max.bytes":                     "max_request_size",
		"max.in.flight":                         "max_in_flight",
		"max.in.flight.requests.per.connection": "max_in_flight",
		"client.id":                             "client_id",
		"ssl.ca.location":                       "ca_file in a tls block",
		"ssl.certificate.location":              "cert_file in a tls block",
		"ssl.key.location":                      "key_file in a tls block",
		"ssl.key.password":                      "key_password in a tls block",
		"security.protocol":                     "a tls block, a sasl block, or both",
		"sasl.mechanism":                        "mechanism in a sasl block",
		"sasl.mechanisms":                       "mechanism in a sasl block",
		"sasl.username":                         "username in a sasl block",
		"sasl.password":                         "password in a sasl block",
		"partitioner":                           "a partitioner block in the pipeline",
	}
}

// brokenPromises are the properties that no value of would keep the agent's
// promises, with the reason.
func brokenPromises() map[string]string {
	return map[string]string{
		"transactional.id":              "the agent makes no Kafka transactions: without one no record would be produced",
		"transaction.timeout.ms":        "the agent makes no Kafka transactions",
		"enable.gapless.guarantee":      "one refused record would stop the producer; the agent finds that record and keeps the order itself",
		"queuing.strategy":              "the order of a file's records inside a partition would be given up",
		"produce.offset.report":         "the agent checks by its offset that a report is in order",
		"delivery.report.only.error":    "a position moves only on the report of a delivered record: it would never move",
		"dr_cb":                         "a position moves only on delivery reports, which the agent receives itself",
		"dr_msg_cb":                     "a position moves only on delivery reports, which the agent receives itself",
		"enabled_events":                "a position moves only on delivery reports, which the agent receives itself",
		"default.topic.config":          "properties of topics are set like all others, by name",
		"plugin.library.paths":          "foreign code inside the agent can break each of its promises; plugins are processes",
		"test.mock.num.brokers":         "records would go to a simulated cluster and be lost",
		"test.mock.broker.rtt":          "records would go to a simulated cluster and be lost",
		"sticky.partitioning.linger.ms": "every record has its partition before librdkafka sees it",
	}
}

// keptProperties may be written with the one value that keeps a promise.
func keptProperties() map[string][2]string {
	return map[string][2]string{
		"socket.keepalive.enable":               {"true", "a broker that is gone would not be noticed"},
		"socket.max.fails":                      {"1", "a request without answer would hold up all behind it"},
		"ssl.endpoint.identification.algorithm": {"https", "another host could pass for the broker"},
		"enable.ssl.certificate.verification":   {"true", "another host could pass for the broker"},
	}
}

// refusedProperty says why a raw property is refused; empty: it is not.
func refusedProperty(name, value string) string {
	if attribute, ok := ownAttributes()[name]; ok {
		return "use " + attribute
	}
	if reason, ok := brokenPromises()[name]; ok {
		return reason
	}
	if kept, ok := keptProperties()[name]; ok && value != kept[0] {
		return fmt.Sprintf("%s; only %q is accepted", kept[1], kept[0])
	}
	switch {
	case strings.HasPrefix(name, "go."):
		return "it belongs to the client library, which the agent sets up for its delivery reports"
	case strings.HasSuffix(name, "_cb"), name == "opaque":
		return "a callback can't be given in a configuration"
	case name == "debug" && strings.Contains(value, "all"):
		return "a log of everything may hold secrets; name the contexts that are needed"
	}
	return ""
}
