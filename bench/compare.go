package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// result is what the rounds of one comparison gave.
type result struct {
	comparison
	baseline, again, variant []*sample // one of each per round
}

// compare runs baseline, variant and baseline in every round, backwards in every
// other, so that a machine that gets slower favours nobody.
func (b *bench) compare(ctx context.Context, c comparison) (*result, error) {
	r := &result{comparison: c}
	for round := range b.rounds {
		order := []struct {
			contender
			samples *[]*sample
		}{{c.baseline, &r.baseline}, {c.variant, &r.variant}, {c.baseline, &r.again}}
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, turn := range order {
			s, err := b.sample(ctx, turn.contender)
			if err != nil {
				return nil, err
			}
			*turn.samples = append(*turn.samples, s)
			fmt.Fprintf(b.progress, "%s, round %d: %s: %.0f records/s\n", c.name, round+1, turn.title, s.rate)
		}
	}
	return r, nil
}

// print writes the comparison as a Markdown table and one of its memory.
func (r *result) print(out io.Writer) {
	fmt.Fprintf(out, "### %s against %s\n\n", r.comparison.variant.title, r.comparison.baseline.title)
	fmt.Fprintln(out, "| what (medians) | records/s | µs of processor per record | of the broker | first record after |")
	fmt.Fprintln(out, "|---|---:|---:|---:|---:|")
	printRow(out, r.comparison.baseline.title, r.baseline)
	printRow(out, r.comparison.baseline.title+" (again)", r.again)
	printRow(out, r.comparison.variant.title, r.variant)
	both := slices.Concat(r.baseline, r.again)
	fmt.Fprintf(out, "\n- rate, A/A: %s\n", ratios(r.again, r.baseline, rate))
	fmt.Fprintf(out, "- rate, A/B: %s; of the medians of all runs: %.2f\n", ratios(r.variant, r.mean(), rate), median(r.variant, rate)/median(both, rate))
	fmt.Fprintf(out, "- processor time, A/A: %s\n", ratios(r.again, r.baseline, cpu))
	fmt.Fprintf(out, "- processor time, A/B: %s\n", ratios(r.variant, r.mean(), cpu))
	fmt.Fprintf(out, "- resident memory at most: %s\n\n", strings.Join(slices.Concat(peaks(both), peaks(r.variant)), ", "))
}

// mean joins the two baseline runs of each round into one.
func (r *result) mean() []*sample {
	joined := make([]*sample, len(r.baseline))
	for i, a := range r.baseline {
		b := r.again[i]
		joined[i] = &sample{rate: (a.rate + b.rate) / 2, cpu: (a.cpu + b.cpu) / 2}
	}
	return joined
}

func rate(s *sample) float64      { return s.rate }
func cpu(s *sample) float64       { return float64(s.cpu) / float64(time.Microsecond) }
func brokerCPU(s *sample) float64 { return float64(s.broker) / float64(time.Microsecond) }
func start(s *sample) float64     { return s.start.Seconds() }

func printRow(out io.Writer, title string, samples []*sample) {
	fmt.Fprintf(out, "| %s | %.0f | %.2f | %.2f | %.2f s |\n", title,
		median(samples, rate), median(samples, cpu), median(samples, brokerCPU), median(samples, start))
}

// ratios describes the quotients of the rounds.
func ratios(of, to []*sample, value func(*sample) float64) string {
	quotients := make([]float64, len(of))
	for i := range of {
		quotients[i] = value(of[i]) / value(to[i])
	}
	slices.Sort(quotients)
	return fmt.Sprintf("%.2f (%.2f to %.2f)", middle(quotients), quotients[0], quotients[len(quotients)-1])
}

func median(samples []*sample, value func(*sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = value(s)
	}
	slices.Sort(values)
	return middle(values)
}

// middle is the median of sorted values.
func middle(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// peaks names the programs with the most that a process of theirs had resident
// in any run.
func peaks(samples []*sample) []string {
	most := make(map[string]int64)
	for _, s := range samples {
		for _, used := range s.peaks {
			most[used.name] = max(most[used.name], used.peak)
		}
	}
	names := slices.SortedFunc(maps.Keys(most), func(a, b string) int { return cmp.Compare(most[b], most[a]) })
	described := make([]string, len(names))
	for i, name := range names {
		described[i] = fmt.Sprintf("%s %d MiB", name, most[name]>>20)
	}
	return described
}
