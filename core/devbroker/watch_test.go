package devbroker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// watch begins a watch on the broker.
func watch(t *testing.T, b *Broker) *Watch {
	t.Helper()
	w, err := b.NewWatch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func TestWatchShowsWhatIsProducedAfterIt(t *testing.T) {
	b := start(t, Config{Dir: t.TempDir() + "/broker", Topics: []string{"known"}})
	produce(t, b, "known", "before")
	w := watch(t, b)
	produce(t, b, "known", "between")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	produce(t, b, "new", "one", "two")
	var shown []string
	err := w.Run(ctx, func(r Record) error {
		shown = append(shown, fmt.Sprintf("%s %s", r.Topic, r.Value))
		if len(shown) == 3 {
			cancel()
		}
		return nil
	})
	slices.Sort(shown)
	if want := []string{"known between", "new one", "new two"}; err != nil || !slices.Equal(shown, want) {
		t.Errorf("shown: %q, %v", shown, err)
	}
}

// What is produced before the end is shown, to topics that nobody knew of as well.
func TestWatchThatEndsShowsWhatIsLeft(t *testing.T) {
	b := start(t, Config{Dir: t.TempDir() + "/broker", Topics: []string{"known"}})
	w := watch(t, b)
	produce(t, b, "known", "one")
	produce(t, b, "new", "two")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var shown []string
	err := w.Run(ctx, func(r Record) error {
		shown = append(shown, string(r.Value))
		return nil
	})
	slices.Sort(shown)
	if err != nil || !slices.Equal(shown, []string{"one", "two"}) {
		t.Errorf("shown: %q, %v", shown, err)
	}
}

func TestWatchEndsWithTheErrorOfWhoeverShows(t *testing.T) {
	b := start(t, Config{Dir: t.TempDir() + "/broker", Topics: []string{"known"}})
	w := watch(t, b)
	produce(t, b, "known", "one", "two")
	full := errors.New("the paper is used up")
	calls := 0
	err := w.Run(t.Context(), func(Record) error { calls++; return full })
	if !errors.Is(err, full) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
