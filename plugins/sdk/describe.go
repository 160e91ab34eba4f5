package sdk

import (
	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// describe says what the program is, from a plugin that holds the defaults.
func (p *Program) describe() (*wirev1.Description, error) {
	plugin := p.new()
	schema, err := configSchema(plugin)
	if err != nil {
		return nil, err
	}
	columns := p.columns(plugin, ColumnValue|ColumnKey)
	_, acknowledgements := plugin.(Acknowledger)
	_, topology := plugin.(TopologyObserver)
	return &wirev1.Description{
		Name:                  p.name,
		Kind:                  p.kind,
		Version:               p.version,
		ProtocolVersions:      []uint32{wire.ProtocolVersion},
		Reads:                 columns.Reads.Message(),
		Writes:                columns.Writes.Message(),
		ConfigSchema:          string(schema),
		MayDrop:               p.mayDrop(plugin),
		WantsAcknowledgements: acknowledgements,
		WantsTopology:         topology,
		Deterministic:         isDeterministic(plugin),
		AcceptsObjects:        p.acceptsObjects(plugin),
	}, nil
}

// columns returns what a plugin reads and writes; payload is what a serializer
// may be asked to serialize.
func (p *Program) columns(plugin any, payload ColumnSet) Columns {
	c, declared := Columns{}, false
	if declarer, ok := plugin.(ColumnsDeclarer); ok {
		c, declared = declarer.Columns(), true
	}
	switch p.kind {
	case wirev1.StageKind_STAGE_KIND_SERIALIZER:
		if readsPayload(plugin) {
			c.Reads |= payload
		}
		c.Writes = c.Writes&^(ColumnValue|ColumnKey) | payload
	case wirev1.StageKind_STAGE_KIND_PARTITIONER:
		if !declared {
			c.Reads = ColumnKey | ColumnTopic
		}
		c.Writes = ColumnPartition
	default:
		if !declared {
			c = Columns{Reads: AllColumns, Writes: AllColumns}
		}
	}
	return Columns{Reads: c.Reads & AllColumns, Writes: c.Writes & wire.WritableColumns}
}

// stage returns what a plugin may do once it is configured.
func (p *Program) stage(plugin any, role wirev1.Role) stage {
	s := stage{
		mayDrop:      p.mayDrop(plugin),
		mayObject:    p.kind == wirev1.StageKind_STAGE_KIND_INTERCEPTOR,
		takesObjects: p.acceptsObjects(plugin),
		concurrent:   isConcurrent(plugin),
	}
	payload := ColumnValue
	if role == wirev1.Role_ROLE_KEY {
		s.role, payload = RoleKey, ColumnKey
	}
	s.columns = p.columns(plugin, payload)
	return s
}

func readsPayload(plugin any) bool {
	d, ok := plugin.(PayloadDeclarer)
	return !ok || d.ReadsPayload()
}

func (p *Program) mayDrop(plugin any) bool {
	if p.kind != wirev1.StageKind_STAGE_KIND_INTERCEPTOR {
		return false
	}
	d, ok := plugin.(DropDeclarer)
	return !ok || d.MayDrop()
}

func (p *Program) acceptsObjects(plugin any) bool {
	if p.kind != wirev1.StageKind_STAGE_KIND_SERIALIZER {
		return true
	}
	a, ok := plugin.(ObjectAccepter)
	return ok && a.AcceptsObjects()
}

func isDeterministic(plugin any) bool {
	d, ok := plugin.(DeterminismDeclarer)
	return ok && d.Deterministic()
}

func isConcurrent(plugin any) bool {
	c, ok := plugin.(ConcurrencyDeclarer)
	return ok && c.Concurrent()
}
