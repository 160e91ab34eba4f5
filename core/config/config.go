// Package config turns the agent's configuration, one HCL file or a folder of
// them, into typed values. It is the only importer of hcl: what other packages
// see of the text is a Place, from which they make a Diagnostic that names
// file, line and column.
//
// Load reports every error of a configuration at once. A value in a Config
// that came with errors may be the default of what could not be read.
package config

import (
	"log/slog"
	"time"
)

// Config is a whole configuration. Producers, pipelines and what is in them
// stand in the order of the files. A Config is not changed after Load and
// UseDevBroker, and may be read concurrently.
type Config struct {
	Path      string   // what was loaded: a file or a folder, as named by the user
	Files     []string // the files that were read
	Agent     Agent
	Producers []Producer
	Pipelines []Pipeline
}

// Producer returns the producer of that name, or nil.
func (c *Config) Producer(name string) *Producer {
	for i := range c.Producers {
		if c.Producers[i].Name == name {
			return &c.Producers[i]
		}
	}
	return nil
}

// UseDevBroker points every producer at a broker for development and all state
// at dataDir. Neither TLS nor SASL is used with it.
func (c *Config) UseDevBroker(bootstrapServers []string, dataDir string) {
	c.Agent.DataDir = dataDir
	for i := range c.Producers {
		c.Producers[i].BootstrapServers = bootstrapServers
		c.Producers[i].TLS = nil
		c.Producers[i].SASL = nil
	}
}

// Agent is the block of that name: what concerns the process as a whole.
type Agent struct {
	DataDir         string // absolute
	PluginDir       string // absolute
	HTTPListen      string // host:port; empty: no HTTP
	LogLevel        slog.Level
	LogFormat       LogFormat
	ShutdownTimeout time.Duration // for delivering what is in flight at a stop
	Places          Places        `json:"-"` // where it is written
}

// LogFormat is how the agent's own log is written.
type LogFormat string

// The log formats.
const (
	LogAuto LogFormat = "auto" // text on a terminal, else JSON
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// DefaultProducer is the name of a producer block without a label, and the
// producer of a pipeline that names none.
const DefaultProducer = "default"

// Producer is one connection to a Kafka cluster.
type Producer struct {
	Name              string
	BootstrapServers  []string // host or host:port
	Acks              Acks
	EnableIdempotence bool
	Retries           int
	DeliveryTimeout   time.Duration // 0: a record is never given up
	BufferMemory      int64         // bytes, over all pipelines of this producer
	BatchSize         int64         // bytes, per partition
	Linger            time.Duration
	Compression       string // none, gzip, snappy, lz4, zstd
	MaxRequestSize    int64  // bytes
	MaxInFlight       int    // requests per broker connection
	ClientID          string
	TLS               *TLS  // nil: plaintext
	SASL              *SASL // nil: no authentication

	// Properties are raw librdkafka properties by name. None of them is one
	// that the agent sets itself.
	Properties map[string]Secret
	Places     Places `json:"-"` // where it is written

	properties members
}

// PropertyDiagnostic is an error at one of the Properties.
func (p *Producer) PropertyDiagnostic(name, message, hint string) Diagnostic {
	return p.properties.at("/"+escapePointer(name), p.Places.At("config")).Error(message, hint)
}

// Acks says which brokers must have a record before it counts as delivered.
type Acks string

// The values of acks.
const (
	AcksAll    Acks = "all"
	AcksLeader Acks = "1"
	AcksNone   Acks = "0"
)

// TLS secures the connection to the brokers. All paths are absolute.
type TLS struct {
	CAFile      string // empty: the system's certificate authorities
	CertFile    string // with KeyFile: authenticates the agent; else both are empty
	KeyFile     string
	KeyPassword Secret
	Places      Places `json:"-"` // where it is written
}

// SASL authenticates the agent to the brokers.
type SASL struct {
	Mechanism string // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI
	Username  Secret
	Password  Secret
	Places    Places `json:"-"` // where it is written
}

// Pipeline carries records from its sources through its stages to a topic.
type Pipeline struct {
	Name            string
	Producer        string        // name of a Producer of the same Config
	Topic           string        // where records go unless an interceptor says otherwise
	AllowTopics     []string      // globs (path.Match) that another topic must match; none: only Topic
	Send            SendMode      //
	Provenance      string        // none, headers
	OnFailure       FailurePolicy // for a record that can never be delivered
	DeadLetterTopic string        // with DeadLetter only
	Sources         []Source      // at least one
	Interceptors    []Stage       // in running order
	KeySerializer   *Stage        // nil: bytes as they are
	ValueSerializer *Stage        // nil: bytes as they are
	Partitioner     *Stage        // nil: the producer's own
	Places          Places        `json:"-"` // where it is written
}

// Stages returns all stages in running order.
func (p *Pipeline) Stages() []*Stage {
	var stages []*Stage
	for i := range p.Interceptors {
		stages = append(stages, &p.Interceptors[i])
	}
	for _, stage := range []*Stage{p.KeySerializer, p.ValueSerializer, p.Partitioner} {
		if stage != nil {
			stages = append(stages, stage)
		}
	}
	return stages
}

// SendMode says when a position passes a record.
type SendMode string

// The send modes.
const (
	SendAsync         SendMode = "async"           // on its delivery report; records are pipelined
	SendSync          SendMode = "sync"            // on its delivery report, awaited before the next record of its source
	SendFireAndForget SendMode = "fire_and_forget" // when the producer takes it: loss is possible
)

// FailurePolicy says what becomes of a record that can never be delivered.
type FailurePolicy string

// The failure policies.
const (
	FailQuarantine FailurePolicy = "quarantine"
	FailDeadLetter FailurePolicy = "dead_letter"
	FailBlock      FailurePolicy = "block"
	FailDrop       FailurePolicy = "drop"
)

// SourceKind is the label of a source block.
type SourceKind string

// The kinds of sources.
const (
	SourceFile   SourceKind = "file"   // tails files
	SourceSocket SourceKind = "socket" // takes what is sent to a socket
	SourceStdin  SourceKind = "stdin"  // reads the agent's standard input
)

// Source is one origin of records.
type Source struct {
	Kind   SourceKind
	Name   string        // unique in its pipeline: the kind, from the second on with a number ("file-2")
	File   *FileSource   `json:",omitempty"` // for SourceFile
	Socket *SocketSource `json:",omitempty"` // for SourceSocket
	Stdin  *StdinSource  `json:",omitempty"` // for SourceStdin
	Places Places        `json:"-"`          // where it is written
}

// MaxRecord is the longest record, in bytes, that the source makes.
func (s *Source) MaxRecord() int64 {
	switch s.Kind {
	case SourceSocket:
		return s.Socket.MaxFrame
	case SourceStdin:
		return s.Stdin.MaxLine
	default:
		return s.File.MaxLine
	}
}
