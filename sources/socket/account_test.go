package socket

import (
	"testing"

	"pgregory.net/rapid"
)

// Whatever the steps, nothing counts before it is durable, and all of it in the end.
func TestAccount(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var a account
		var end, durable int64
		places := []portion{{}} // sums of what was added, by their ends
		for range rapid.IntRange(0, 100).Draw(rt, "steps") {
			if rapid.Bool().Draw(rt, "add") {
				n := rapid.Int64Range(1, 50).Draw(rt, "records")
				end += n * 10
				last := places[len(places)-1]
				places = append(places, portion{end, last.records + n, last.bytes + 2*n})
				a.add(portion{end, n, 2 * n})
			} else {
				durable = rapid.Int64Range(durable, end).Draw(rt, "durable")
			}
			accepted := a.settle(durable)
			for i := len(places) - 1; i >= 0; i-- {
				if places[i].end <= durable {
					if accepted.records > places[i].records {
						rt.Fatalf("%d records are accepted, %d are durable", accepted.records, places[i].records)
					}
					break
				}
			}
			if len(a.waiting) > mostPortions {
				rt.Fatalf("%d portions wait", len(a.waiting))
			}
		}
		if got := a.settle(end); got != places[len(places)-1] {
			rt.Fatalf("%+v in the end, expected %+v", got, places[len(places)-1])
		}
	})
}
