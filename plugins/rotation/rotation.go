// Package rotation hands out the partitions of topics in turn.
package rotation

import (
	"fmt"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// Rotation knows the partitions of topics and whose turn it is in each. It is for
// one goroutine at a time; the zero Rotation knows no topic.
type Rotation struct {
	topology sdk.Topology
	turns    map[string]uint32 // per topic; kept when its partitions change

	current   string // the topic that count, available and turn are of, when count is not 0
	count     int32
	available []int32
	turn      uint32
}

// Observe takes a new topology.
func (r *Rotation) Observe(t sdk.Topology) {
	r.leave()
	r.topology = t
}

// Count returns how many partitions a topic has. The error, when that is not
// known, asks the agent for the same batch again later.
func (r *Rotation) Count(topic string) (int32, error) {
	if r.count == 0 || topic != r.current {
		if err := r.enter(topic); err != nil {
			return 0, err
		}
	}
	return r.count, nil
}

// Next returns the available partition whose turn it is: one with a leader, or
// any when none has one. Its error is that of Count.
func (r *Rotation) Next(topic string) (int32, error) {
	count, err := r.Count(topic)
	if err != nil {
		return 0, err
	}
	turn := r.turn
	r.turn++
	if n := uint32(len(r.available)); n > 0 {
		return r.available[turn%n], nil
	}
	return int32(turn % uint32(count)), nil
}

// enter makes topic the current one.
func (r *Rotation) enter(topic string) error {
	r.leave()
	count, known := r.topology.Partitions(topic)
	if !known || count <= 0 {
		return sdk.RetryLater(fmt.Errorf("the number of partitions of topic %q is not known", topic))
	}
	r.current, r.count, r.available, r.turn = topic, count, r.topology.Available(topic), r.turns[topic]
	return nil
}

// leave keeps the turn of the current topic.
func (r *Rotation) leave() {
	if r.count == 0 {
		return
	}
	if r.turns == nil {
		r.turns = make(map[string]uint32)
	}
	r.turns[r.current] = r.turn
	r.count = 0
}
