package broker

import (
	"bytes"
	"sync"
)

// journalSize bounds how much of a broker's log is kept for error messages.
const journalSize = 64 << 10

// readyMark is what a broker logs once it has joined its cluster and serves.
const readyMark = "Kafka Server started"

// journal is what a broker's process writes: it keeps the end and tells when the
// broker is ready. Write is called by one goroutine, the rest by any.
type journal struct {
	ready chan struct{} // closed by Write

	mu    sync.Mutex
	tail  []byte
	found bool
}

func newJournal() *journal {
	return &journal{ready: make(chan struct{})}
}

// Write never fails.
func (j *journal) Write(text []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	unseen := max(0, len(j.tail)-len(readyMark))
	j.tail = append(j.tail, text...)
	if !j.found && bytes.Contains(j.tail[unseen:], []byte(readyMark)) {
		j.found = true
		close(j.ready)
	}
	if excess := len(j.tail) - journalSize; excess > journalSize {
		j.tail = append(j.tail[:0], j.tail[excess:]...)
	}
	return len(text), nil
}

// lastLines returns at most the last n lines.
func (j *journal) lastLines(n int) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	text := bytes.TrimSuffix(j.tail, []byte("\n"))
	start := len(text)
	for ; n > 0 && start >= 0; n-- {
		start = bytes.LastIndexByte(text[:start], '\n')
	}
	return string(text[start+1:])
}
