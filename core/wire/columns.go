package wire

import (
	"strings"

	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// ColumnSet is a set of columns of a batch.
type ColumnSet uint8

// The columns that a plugin can declare. Where a record comes from is never written.
const (
	ColumnValue ColumnSet = 1 << iota
	ColumnKey
	ColumnHeaders
	ColumnTimestamp
	ColumnTopic
	ColumnPartition
	ColumnSource

	// AllColumns is every column there is; WritableColumns every one that a reply may change.
	AllColumns      = ColumnSource<<1 - 1
	WritableColumns = AllColumns &^ ColumnSource
)

// columnNames are the names in the order of the bits.
const columnNames = "value key headers timestamp topic partition source"

// Has reports whether every column of other is in the set.
func (c ColumnSet) Has(other ColumnSet) bool { return c&other == other }

// String lists the columns by name, e.g. "value|topic"; "none" for the empty set.
func (c ColumnSet) String() string {
	var names []string
	for i, name := range strings.Fields(columnNames) {
		if c.Has(1 << i) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "|")
}

// Message returns the set as the protocol carries it.
func (c ColumnSet) Message() *wirev1.ColumnSet {
	return &wirev1.ColumnSet{
		Value:     c.Has(ColumnValue),
		Key:       c.Has(ColumnKey),
		Headers:   c.Has(ColumnHeaders),
		Timestamp: c.Has(ColumnTimestamp),
		Topic:     c.Has(ColumnTopic),
		Partition: c.Has(ColumnPartition),
		Source:    c.Has(ColumnSource),
	}
}

// ColumnsOf reads a set from a message; nil is the empty set.
func ColumnsOf(m *wirev1.ColumnSet) ColumnSet {
	var c ColumnSet
	for i, in := range []bool{
		m.GetValue(), m.GetKey(), m.GetHeaders(), m.GetTimestamp(),
		m.GetTopic(), m.GetPartition(), m.GetSource(),
	} {
		if in {
			c |= 1 << i
		}
	}
	return c
}
