package plugintest

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
	"github.com/barnabas-agent/barnabas/plugins/sdk/internal/rows"
)

// Measurement is what a plugin's process costs with batches of one size, over
// one lane with a window of batches in flight, as the agent has it.
type Measurement struct {
	Records int           // per batch
	Bytes   int           // of each value
	Reads   sdk.ColumnSet // the columns that cross to the plugin
	Writes  sdk.ColumnSet // those that may come back
	// Microseconds per record, over all rounds.
	Elapsed   float64 // wall time at full load: the median
	HostCPU   float64 // processor time of this process, for encoding, sending, checking and applying: the mean
	PluginCPU float64 // processor time of the plugin's process: the mean
	// Floor is how far apart the same binary is from itself: the rounds go to two
	// processes in turn, and this is the difference of their medians of Elapsed,
	// relative to the smaller. A difference between two plugins that is smaller says nothing.
	Floor float64
}

// BytesPerSecond is how many bytes of values go through in a second.
func (m *Measurement) BytesPerSecond() float64 {
	return float64(m.Bytes) / m.Elapsed * 1e6
}

// BenchOptions say how much is measured.
type BenchOptions struct {
	Sizes  []int         // records per batch, each at most 4096
	Bytes  int           // of each value
	Rounds int           // per size; even, half of them to each process
	Round  time.Duration // of one round, at least
}

// NewBenchOptions returns what the command measures: batches of 1 to 4096
// records of 200 bytes.
func NewBenchOptions() BenchOptions {
	return BenchOptions{Sizes: []int{1, 16, 256, 1024, record.MaxRows}, Bytes: 200, Rounds: 10, Round: 200 * time.Millisecond}
}

// Bench measures a plugin's binary, and calls report after each size.
// environment and config are as for ProcessCases. It needs Linux's /proc.
func Bench(ctx context.Context, binary string, environment []string, config string, o BenchOptions, report func(Measurement) error, all ...Option) error {
	var pair [2]*subject
	for i := range pair {
		s, err := start(ctx, ofBinary(binary, environment), config, newOptions(all))
		if err != nil {
			return err
		}
		defer s.close()
		pair[i] = s
	}
	for _, size := range o.Sizes {
		m, err := measure(ctx, pair, size, &o)
		if err != nil {
			return fmt.Errorf("batches of %d records: %w", size, err)
		}
		if err := report(m); err != nil {
			return err
		}
	}
	return nil
}

// round is what one round cost, in microseconds per record.
type round struct{ elapsed, host, plugin float64 }

func measure(ctx context.Context, pair [2]*subject, size int, o *BenchOptions) (Measurement, error) {
	records := benchRecords(size, o.Bytes)
	for _, s := range pair { // warm up
		if _, err := s.measureRound(ctx, records, o.Round/4); err != nil {
			return Measurement{}, err
		}
	}
	var of [2][]round
	for n := range max(o.Rounds, 2) {
		r, err := pair[n%2].measureRound(ctx, records, o.Round)
		if err != nil {
			return Measurement{}, err
		}
		of[n%2] = append(of[n%2], r)
	}
	both := slices.Concat(of[0], of[1])
	elapsed := func(r round) float64 { return r.elapsed }
	a, b := median(of[0], elapsed), median(of[1], elapsed)
	return Measurement{
		Records: size, Bytes: o.Bytes, Reads: pair[0].reads, Writes: pair[0].rules.Writes,
		Elapsed: median(both, elapsed),
		HostCPU: mean(both, func(r round) float64 { return r.host }),
		// The kernel counts a process's time in ticks of 10 ms, so single rounds are coarse.
		PluginCPU: mean(both, func(r round) float64 { return r.plugin }),
		Floor:     (max(a, b) - min(a, b)) / min(a, b),
	}, nil
}

func median(all []round, of func(round) float64) float64 {
	sorted := make([]float64, len(all))
	for i, r := range all {
		sorted[i] = of(r)
	}
	slices.Sort(sorted)
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

func mean(all []round, of func(round) float64) float64 {
	sum := 0.0
	for _, r := range all {
		sum += of(r)
	}
	return sum / float64(len(all))
}

// benchRecords are keyed lines of text.
func benchRecords(n, size int) []rows.Row {
	all := plainRecords(n)
	for i := range all {
		line := fmt.Appendf(nil, "2026-01-02T03:04:05Z INFO request %d from 192.0.2.%d took %d ms user=user%d@example.com ", i, i%250, i%1000, i%97)
		for len(line) < size {
			line = append(line, "the quick brown fox jumps over the lazy dog "...)
		}
		all[i].Value = line[:size]
	}
	return all
}

// measureRound keeps a window of batches in flight for at least that long.
func (s *subject) measureRound(ctx context.Context, records []rows.Row, atLeast time.Duration) (round, error) {
	ring := make([]*delivery, window)
	for i := range ring {
		ring[i] = s.newDelivery(records)
	}
	original := snapshot(ring[0].batch)
	hostBefore, pluginBefore, err := s.processorTimes()
	if err != nil {
		return round{}, err
	}
	begun := time.Now()
	for _, d := range ring {
		if err := s.send(d, 0, false); err != nil {
			return round{}, err
		}
	}
	done, flying := 0, window
	for ; flying > 0; done++ {
		d := ring[done%window]
		if err := s.takeReply(d); err != nil {
			return round{}, err
		}
		flying--
		if time.Since(begun) < atLeast && ctx.Err() == nil {
			original.restore(d.batch)
			s.lastID++
			d.batch.ID = s.lastID
			if err := s.send(d, 0, false); err != nil {
				return round{}, err
			}
			flying++
		}
	}
	elapsed := time.Since(begun)
	hostAfter, pluginAfter, err := s.processorTimes()
	if err != nil {
		return round{}, err
	}
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(done*len(records)) }
	return round{elapsed: each(elapsed), host: each(hostAfter - hostBefore), plugin: each(pluginAfter - pluginBefore)}, ctx.Err()
}

// takeReply applies the next reply, as the pipeline's stage does, and gives its memory back.
func (s *subject) takeReply(d *delivery) error {
	if err := s.receiveFrame(d); err != nil {
		return err
	}
	outcome, err := wire.ApplyReply(d.batch, d.rows, &s.frame.Reply, s.rules)
	if err != nil {
		return err
	}
	if outcome.Adopted > 0 {
		var owner record.Batch // nobody reads the batch any more
		s.frame.LendTo(&owner)
		owner.Reset()
	}
	return nil
}

// processorTimes is what this process and the plugin's have used so far.
func (s *subject) processorTimes() (host, plugin time.Duration, err error) {
	if host, err = processorTime(os.Getpid()); err != nil {
		return 0, 0, err
	}
	plugin, err = s.connection.process.run.cpu()
	return host, plugin, err
}

// original is what a batch holds before a stage.
type original struct{ batch record.Batch }

func snapshot(b *record.Batch) *original {
	o := &original{batch: *b}
	copyInto(&o.batch, b)
	return o
}

// restore makes a batch what it was before the stage.
func (o *original) restore(b *record.Batch) { copyInto(b, &o.batch) }

// copyInto copies what a stage changes; the bytes of the fields are shared.
func copyInto(to, from *record.Batch) {
	copyColumn(&to.Value, &from.Value)
	copyColumn(&to.Key, &from.Key)
	to.Headers = copied(to.Headers, from.Headers)
	to.Timestamps = copied(to.Timestamps, from.Timestamps)
	to.Topics = copied(to.Topics, from.Topics)
	to.TopicIndex = copied(to.TopicIndex, from.TopicIndex)
	to.Partitions = copied(to.Partitions, from.Partitions)
	to.Live = copied(to.Live, from.Live)
	to.Dropped, to.Failures = to.Dropped[:0], to.Failures[:0]
}

func copyColumn(to, from *record.Column) {
	to.Blocks, to.Spans = copied(to.Blocks, from.Blocks), copied(to.Spans, from.Spans)
}

// copied returns a copy of from in memory of its own: that of to, unless the two share it.
func copied[T any](to, from []T) []T {
	if from == nil {
		return nil
	}
	if len(to) > 0 && len(from) > 0 && &to[0] == &from[0] {
		to = nil
	}
	return append(to[:0], from...)
}
