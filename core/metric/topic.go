package metric

import (
	"sync"

	"github.com/barnabas-agent/barnabas/core/record"
)

// maxTopicLabels is how many topics of one pipeline are label values.
const maxTopicLabels = 100

// otherTopics is the label value of all further topics.
const otherTopics = "other"

// topicLabels remembers which topics of each pipeline have become labels.
type topicLabels struct {
	mu    sync.RWMutex
	known map[string]map[string]struct{} // pipeline → topics
}

// TopicLabel returns the value of the label `topic` for a pipeline's topic: the
// topic itself for the first 100 of the pipeline, "other" for the rest and for
// what is no legal topic name. A topic's answer never changes. It is safe for
// concurrent use and takes a read lock for topics it knows.
func (t *Table) TopicLabel(pipeline, topic string) string {
	return t.topics.label(pipeline, topic)
}

func (l *topicLabels) label(pipeline, topic string) string {
	l.mu.RLock()
	_, ok := l.known[pipeline][topic]
	full := len(l.known[pipeline]) >= maxTopicLabels
	l.mu.RUnlock()
	switch {
	case ok:
		return topic
	case full || !record.ValidTopic(topic): // so that no path becomes a label
		return otherTopics
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	topics := l.known[pipeline]
	if topics == nil {
		topics = map[string]struct{}{}
		l.known[pipeline] = topics
	}
	if _, ok := topics[topic]; !ok && len(topics) >= maxTopicLabels {
		return otherTopics
	}
	topics[topic] = struct{}{}
	return topic
}
