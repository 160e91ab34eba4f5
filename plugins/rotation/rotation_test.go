package rotation

import (
	"slices"
	"testing"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

func next(t *testing.T, r *Rotation, topic string, n int) []int32 {
	t.Helper()
	var got []int32
	for range n {
		p, err := r.Next(topic)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p)
	}
	return got
}

func TestEachTopicHasItsOwnTurn(t *testing.T) {
	var r Rotation
	r.Observe(sdk.NewTopology(
		sdk.TopicPartitions{Topic: "a", Partitions: 3},
		sdk.TopicPartitions{Topic: "b", Partitions: 2}))
	for _, c := range []struct {
		topic string
		n     int
		want  []int32
	}{
		{"a", 4, []int32{0, 1, 2, 0}}, {"b", 1, []int32{0}}, {"a", 1, []int32{1}}, {"b", 2, []int32{1, 0}},
	} {
		if got := next(t, &r, c.topic, c.n); !slices.Equal(got, c.want) {
			t.Errorf("topic %s: got %v, want %v", c.topic, got, c.want)
		}
	}
}

func TestPartitionsWithoutLeaderAreLeftOut(t *testing.T) {
	var r Rotation
	r.Observe(sdk.NewTopology(sdk.TopicPartitions{Topic: "a", Partitions: 4, Unavailable: []int32{0, 2}}))
	if got := next(t, &r, "a", 3); !slices.Equal(got, []int32{1, 3, 1}) {
		t.Errorf("got %v", got)
	}
	if count, err := r.Count("a"); count != 4 || err != nil {
		t.Errorf("count %d, %v; a partition without leader is still one", count, err)
	}
	r.Observe(sdk.NewTopology(sdk.TopicPartitions{Topic: "a", Partitions: 2, Unavailable: []int32{0, 1}}))
	if got := next(t, &r, "a", 2); !slices.Equal(got, []int32{1, 0}) {
		t.Errorf("with no leader at all: got %v; the turn goes on over all partitions", got)
	}
}

func TestUnknownTopicsWait(t *testing.T) {
	var r Rotation
	if _, err := r.Next("a"); err == nil {
		t.Error("a partition was guessed")
	}
	r.Observe(sdk.NewTopology(sdk.TopicPartitions{Topic: "a", Partitions: 1}))
	next(t, &r, "a", 1)
	r.Observe(sdk.NewTopology(sdk.TopicPartitions{Topic: "a", Partitions: 0}))
	if _, err := r.Count("a"); err == nil {
		t.Error("a topic without partitions has a count")
	}
}
