package pluginhost

import (
	"encoding/json"
	"path/filepath"
	"time"

	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// Kind is the place of a stage in its pipeline.
type Kind string

// The kinds of stage, as the configuration names their blocks.
const (
	Interceptor     Kind = "interceptor"
	KeySerializer   Kind = "key_serializer"
	ValueSerializer Kind = "value_serializer"
	Partitioner     Kind = "partitioner"
)

// fileKind is the kind in the name of a plugin's file.
func (k Kind) fileKind() string {
	if k == KeySerializer || k == ValueSerializer {
		return "serializer"
	}
	return string(k)
}

// wire is the kind that the plugin's description must have.
func (k Kind) wire() wirev1.StageKind {
	switch k {
	case Interceptor:
		return wirev1.StageKind_STAGE_KIND_INTERCEPTOR
	case KeySerializer, ValueSerializer:
		return wirev1.StageKind_STAGE_KIND_SERIALIZER
	case Partitioner:
		return wirev1.StageKind_STAGE_KIND_PARTITIONER
	default:
		return wirev1.StageKind_STAGE_KIND_UNSPECIFIED
	}
}

// kindName names a described kind as file names do.
func kindName(k wirev1.StageKind) string {
	switch k {
	case wirev1.StageKind_STAGE_KIND_INTERCEPTOR:
		return "interceptor"
	case wirev1.StageKind_STAGE_KIND_SERIALIZER:
		return "serializer"
	case wirev1.StageKind_STAGE_KIND_PARTITIONER:
		return "partitioner"
	default:
		return "plugin of an unknown kind"
	}
}

// OnError says what becomes of a record that the plugin rejects.
type OnError string

// The policies, as the configuration names them.
const (
	Quarantine OnError = "quarantine" // the record leaves the pipeline with its failure
	DropRecord OnError = "drop"       // the record leaves the pipeline, counted
	Pass       OnError = "pass"       // the record goes on as it was
	Block      OnError = "block"      // the batch is tried again until the plugin takes it
)

// DefaultTimeout is how long a plugin may take for one batch when the
// configuration does not say.
const DefaultTimeout = 10 * time.Second

// Spec is one configured stage.
type Spec struct {
	Pipeline string // label of the pipeline
	Stage    string // unique in its pipeline; labels metrics, logs and failures
	Kind     Kind
	Plugin   string // the plugin's name, as in its file's name
	Path     string // the plugin's file; empty: Dir/barnabas-<kind>-<Plugin>
	Dir      string // plugin_dir

	Config  json.RawMessage   // a JSON object; nil: {}
	OnError OnError           // empty: Quarantine
	Timeout time.Duration     // per batch; 0: DefaultTimeout
	Env     map[string]string // added to the fixed minimum environment

	// Instances is how many processes share the stage's lanes; 0: 1. A lane
	// belongs to one of them, so a stage needs as many lanes to use them all.
	Instances int
	// Attach is the unix socket of a plugin that already runs, under a debugger
	// say, and is used instead of processes of the host's own: it is never
	// killed and has no deadlines. Empty: the host starts the plugin.
	Attach string

	Checksum  string // "sha256:" and 64 hexadecimal digits that the file must have at every start; empty: any
	MemoryMax int64  // most bytes of memory of a process, at least MinMemory; 0: no limit

	// AllowTopic says whether an interceptor may send records to a topic; nil: to none but their own.
	AllowTopic func(topic string) bool
	// Topology is asked for partition counts; needed for plugins that want them.
	Topology Topology
	// MaxRecordSize bounds key, value and headers of a record, in bytes; 0: no bound but the frame's.
	MaxRecordSize int
}

// binary is the file that the stage runs.
func (s *Spec) binary() string {
	if s.Path != "" {
		return s.Path
	}
	return filepath.Join(s.Dir, "barnabas-"+s.Kind.fileKind()+"-"+s.Plugin)
}

// withDefaults fills what the configuration left out.
func (s Spec) withDefaults() Spec {
	if len(s.Config) == 0 || string(s.Config) == "null" {
		s.Config = json.RawMessage("{}")
	}
	if s.OnError == "" {
		s.OnError = Quarantine
	}
	if s.Timeout <= 0 {
		s.Timeout = DefaultTimeout
	}
	s.Instances = max(s.Instances, 1)
	if s.Attach != "" {
		s.Instances, s.Timeout = 1, 0
	}
	return s
}
