package pluginhost

import (
	"context"
	"fmt"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

// codeObject is the code of an object that reaches a serializer which takes none.
const codeObject = "object_not_accepted"

// prepare makes a piece of a batch: it refuses what the plugin can't take, picks
// the rows that the plugin gets, and waits for the partition counts that it needs.
func (s *Stage) prepare(ctx context.Context, b *record.Batch) (*piece, error) {
	d := s.describedAs()
	if (s.spec.Kind == KeySerializer || s.spec.Kind == ValueSerializer) && !d.GetAcceptsObjects() {
		if err := s.refuseObjects(ctx, b); err != nil {
			return nil, err
		}
	}
	p := &piece{batch: b, rows: b.Live, last: true}
	if s.spec.Kind == Partitioner && b.Partitions != nil {
		p.rows = unassigned(b)
	}
	if !d.GetWantsTopology() || len(p.rows) == 0 {
		return p, nil
	}
	var err error
	p.counts, err = counts(ctx, s.spec.Topology, b, p.rows)
	return p, err
}

// unassigned lists the live rows that have no partition yet.
func unassigned(b *record.Batch) []uint32 {
	var rows []uint32
	for _, row := range b.Live {
		if b.Partition(int(row)) == record.PartitionAny {
			rows = append(rows, row)
		}
	}
	return rows
}

// refuseObjects rejects the live rows whose payload is an object. With on_error
// = "block" it waits for ever: no plugin that takes objects will appear.
func (s *Stage) refuseObjects(ctx context.Context, b *record.Batch) error {
	column := &b.Value
	if s.spec.Kind == KeySerializer {
		column = &b.Key
	}
	var objects []uint32
	for _, row := range b.Live {
		if column.Kind(int(row)) == record.Object {
			objects = append(objects, row)
		}
	}
	if len(objects) == 0 {
		return nil
	}
	if s.spec.OnError == Block {
		return s.blockForEver(ctx, len(objects))
	}
	s.reject(b, objects, codeObject, fmt.Sprintf("plugin %q takes no objects; serialize with one that does, e.g. json", s.spec.Plugin))
	return nil
}

// blockReminder is how often a stage that blocks for good says so.
const blockReminder = 30 * time.Second

// blockForEver waits for ctx's end and says why now and then.
func (s *Stage) blockForEver(ctx context.Context, objects int) error {
	for {
		s.logger.Error("the pipeline is blocked: the serializer takes no objects (on_error = \"block\")", "records", objects)
		if !pause(ctx, blockReminder) {
			return ctx.Err()
		}
	}
}

// reject fails live rows (ascending) without asking the plugin, as on_error says.
func (s *Stage) reject(b *record.Batch, rows []uint32, code, message string) {
	s.metrics.failed.Add(float64(len(rows)))
	if s.spec.OnError == Pass {
		return
	}
	for _, row := range rows {
		if s.spec.OnError == DropRecord {
			b.Dropped = append(b.Dropped, row)
			continue
		}
		b.Failures = append(b.Failures, record.Failure{Row: row, Stage: s.spec.Stage, Code: code, Message: message})
	}
	kept, next := b.Live[:0], 0
	for _, row := range b.Live {
		if next < len(rows) && rows[next] == row {
			next++
			continue
		}
		kept = append(kept, row)
	}
	b.Live = kept
}
