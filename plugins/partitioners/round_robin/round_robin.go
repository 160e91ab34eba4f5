// Command round_robin is the partitioner "round_robin": records go to the
// partitions of their topic in turn, whatever their key, those without a leader
// left out while others have one.
//
// It has no configuration:
//
//	partitioner "round_robin" { }
package main

import (
	"context"

	"github.com/barnabas-agent/barnabas/plugins/rotation"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// RoundRobin is the partitioner.
type RoundRobin struct {
	partitions rotation.Rotation
}

// newRoundRobin returns a plugin with the defaults.
func newRoundRobin() sdk.Partitioner { return &RoundRobin{} }

// Columns is the topic alone.
func (*RoundRobin) Columns() sdk.Columns { return sdk.Columns{Reads: sdk.ColumnTopic} }

// OnTopology takes the numbers of partitions.
func (r *RoundRobin) OnTopology(t sdk.Topology) { r.partitions.Observe(t) }

// Partition gives every record the partition whose turn it is.
func (r *RoundRobin) Partition(_ context.Context, b *sdk.Batch) error {
	for i := range b.Len() {
		partition, err := r.partitions.Next(b.Topic(i))
		if err != nil {
			return err
		}
		b.SetPartition(i, partition)
	}
	return nil
}
