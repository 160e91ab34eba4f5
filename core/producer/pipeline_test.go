package producer

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/pipeline"
	"github.com/barnabas-agent/barnabas/core/record"
)

var _ pipeline.Producer = (*Client)(nil)

// lines is a source of numbered lines, one stream per lane.
type lines struct {
	name    string
	perLane int
	streams []*positionOf
}

// positionOf keeps a stream's position.
type positionOf struct{ at atomic.Int64 }

func (*positionOf) Origin() record.Origin                             { return record.Origin{Kind: "file"} }
func (p *positionOf) Delivered(to int64)                              { p.at.Store(to) }
func (*lines) Checkpoint(dst []record.Checkpoint) []record.Checkpoint { return dst }

func (l *lines) Run(ctx context.Context, lanes []record.Lane) error {
	var all sync.WaitGroup
	errs := make(chan error, len(lanes))
	for n, lane := range lanes {
		all.Go(func() { errs <- l.fill(ctx, lane, n) })
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *lines) fill(ctx context.Context, lane record.Lane, n int) error {
	const size = 32 << 10
	for i := 0; i < l.perLane; {
		b, err := lane.NewBatch(ctx, size)
		if err != nil {
			return err
		}
		for i < l.perLane && len(b.Value.Blocks[0]) < size-100 {
			block := b.Value.Blocks[0]
			at := len(block)
			block = fmt.Appendf(block, "%s%d-%07d", l.name, n, i)
			b.Value.Blocks[0] = block
			span := record.Span{Offset: uint32(at), Length: uint32(len(block) - at)}
			b.Append(l.streams[n], span, time.Now().UnixMilli(), int64(i), int64(i+1))
			i++
		}
		if err := lane.Submit(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// Two pipelines of two lanes share little memory with a broker that comes and
// goes: memory stays bounded, all of it is given back, nothing gets stuck.
func TestPipelinesShareLittleMemory(t *testing.T) {
	const perLane, lanes = 5000, 2
	b := startBroker(t, kfake.SeedTopics(1, "t"))
	config := testConfig(b)
	config.BufferMemory = 2 << 20
	sources := []*lines{{name: "a", perLane: perLane}, {name: "b", perLane: perLane}}
	var clients []*Client
	p := startProducer(t, config, func(p *Producer) {
		for _, s := range sources {
			clients = append(clients, p.Client(s.name, Async))
		}
	})
	done := make(chan error, len(sources))
	for n, s := range sources {
		for range lanes {
			s.streams = append(s.streams, &positionOf{})
		}
		one := pipeline.New(pipeline.Config{Name: s.name, Topic: "t", Lanes: lanes, MaxBlock: 1 << 20, OnFailure: pipeline.QuarantineRecord},
			[]pipeline.Source{s}, nil, clients[n], nil, metric.New(), slog.New(slog.NewTextHandler(io.Discard, nil)))
		go func() { done <- one.Run(t.Context(), t.Context()) }()
	}
	// A batch of short lines costs many times its bytes, which each lane learns from its first.
	const learning = 2 * lanes * record.MaxRows * (256 + 20)
	var most int64
	limit := time.NewTimer(patience)
	defer limit.Stop()
	turn := time.NewTicker(200 * time.Millisecond)
	defer turn.Stop()
	for ended, shut := 0, false; ended < len(sources); {
		most = max(most, p.Status().BufferUsed)
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			ended++
		case <-turn.C:
			shut = !shut
			b.gate.set(shut)
		case <-limit.C:
			t.Fatalf("stuck with %d bytes in use; %q", p.Status().BufferUsed, p.Status().Problems)
		}
	}
	b.gate.set(false)
	if most > config.BufferMemory+learning {
		t.Errorf("%d bytes were in use, the limit is %d", most, config.BufferMemory)
	}
	if used := p.Status().BufferUsed; used != 0 {
		t.Errorf("%d bytes are charged for nothing", used)
	}
	got := values(consume(t, b, "t")[0])
	for _, s := range sources {
		for n, stream := range s.streams {
			if stream.at.Load() != perLane {
				t.Errorf("pipeline %s, lane %d is at %d", s.name, n, stream.at.Load())
			}
			var mine, want []string
			for _, v := range got {
				if v[:2] == fmt.Sprintf("%s%d", s.name, n) {
					mine = append(mine, v)
				}
			}
			for i := range perLane {
				want = append(want, fmt.Sprintf("%s%d-%07d", s.name, n, i))
			}
			wantValues(t, fmt.Sprintf("pipeline %s, lane %d", s.name, n), mine, want)
		}
	}
	t.Logf("at most %d bytes in use", most)
}
