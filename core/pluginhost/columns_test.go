package pluginhost

import (
	"testing"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// A serializer gets its payload unless it has said that this configuration reads none.
func TestColumnsOfASerializer(t *testing.T) {
	for _, c := range []struct {
		kind          Kind
		configured    *wirev1.ColumnSet
		reads, writes wire.ColumnSet
	}{
		{ValueSerializer, nil, wire.ColumnValue | wire.ColumnTopic, wire.ColumnValue},
		{KeySerializer, nil, wire.ColumnKey | wire.ColumnTopic, wire.ColumnKey},
		{ValueSerializer, &wirev1.ColumnSet{}, 0, wire.ColumnValue},
		{KeySerializer, &wirev1.ColumnSet{Topic: true}, wire.ColumnTopic, wire.ColumnKey},
		{Partitioner, nil, wire.ColumnTopic, wire.ColumnPartition},
	} {
		i := &instance{reads: columns(&wirev1.ColumnSet{Topic: true}, c.configured), writes: wire.ColumnValue}
		i.restrict(c.kind, c.configured != nil)
		if i.reads != c.reads || i.writes != c.writes {
			t.Errorf("%s, configured %v: reads %s, writes %s, want %s and %s", c.kind, c.configured, i.reads, i.writes, c.reads, c.writes)
		}
	}
}
