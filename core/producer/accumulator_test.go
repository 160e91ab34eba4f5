package producer

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// try reserves without waiting.
func try(c *account, n int64) bool {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	before := c.of.total()
	return c.reserve(ctx, n) == nil && c.of.total() == before+n
}

func TestAccumulatorLendsWhatTheOthersLeave(t *testing.T) {
	now := time.Now()
	a := newAccumulator(100, func() time.Time { return now })
	one, two := a.open(), a.open() // shares of 25, and 50 to lend
	if !try(one, 75) {
		t.Error("one can't have its share and all that is lent")
	}
	if try(one, 1) {
		t.Error("one takes the share of the other")
	}
	if !try(two, 25) {
		t.Error("two does not get its share")
	}
	if try(two, 1) {
		t.Error("more than the limit is given")
	}
	one.adjust(-10)
	if !try(two, 10) {
		t.Error("what one gave back is not lent to two")
	}
}

func TestAccumulatorGivesOneBatchHoweverLarge(t *testing.T) {
	a := newAccumulator(100, time.Now)
	one, two := a.open(), a.open()
	if !try(one, 500) || !try(two, 500) {
		t.Error("a batch that is larger than everything never passes")
	}
	if try(one, 1) {
		t.Error("a second one passes")
	}
}

func TestAStalledPipelineBorrowsNothing(t *testing.T) {
	now := time.Now()
	a := newAccumulator(100, func() time.Time { return now })
	one, two := a.open(), a.open()
	if !try(one, 20) {
		t.Fatal("no share")
	}
	now = now.Add(stalledAfter + 1)
	if try(one, 10) {
		t.Error("a stalled pipeline borrows")
	}
	if !try(one, 5) {
		t.Error("a stalled pipeline does not get its own share")
	}
	one.adjust(-1) // an estimate was too high: that delivers nothing
	if try(one, 10) {
		t.Error("giving back what was never needed counts as progress")
	}
	if !try(two, 20) {
		t.Error("the other does not go on")
	}
	one.progressed()
	if !try(one, 10) {
		t.Error("a pipeline that delivers again borrows nothing")
	}
}

func TestWaitersAreServedInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccumulator(100, time.Now)
		c := a.open()
		if !try(c, 100) {
			t.Fatal("the first does not fit")
		}
		var mu sync.Mutex
		var order []int64
		for _, n := range []int64{60, 5, 30} {
			go func() {
				if err := c.reserve(t.Context(), n); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, n)
				mu.Unlock()
			}()
			synctest.Wait()
		}
		c.adjust(-50)
		synctest.Wait()
		if len(order) != 0 {
			t.Errorf("served out of turn: %v", order)
		}
		c.adjust(-50)
		synctest.Wait()
		if len(order) != 3 || a.total() != 95 {
			t.Errorf("served %v, %d bytes are taken", order, a.total())
		}
	})
}

// What is lent goes to pipelines in turn, not to the first of the configuration.
func TestPipelinesBorrowInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccumulator(120, time.Now)
		one, two, three := a.open(), a.open(), a.open() // shares of 20, and 60 to lend
		if !try(three, 80) || !try(one, 20) || !try(two, 20) {
			t.Fatal("the first do not fit")
		}
		for _, c := range []*account{one, two} {
			for range 6 {
				go func() {
					if err := c.reserve(t.Context(), 10); err != nil {
						t.Error(err)
					}
				}()
			}
		}
		synctest.Wait()
		for range 6 {
			three.adjust(-10)
			synctest.Wait()
			if one.used-two.used > 10 || two.used-one.used > 10 {
				t.Errorf("one has %d bytes, two has %d", one.used, two.used)
			}
		}
		one.adjust(-one.used)
		two.adjust(-two.used)
		synctest.Wait() // who waits on is served, and ends
	})
}

// Who waits behind a large request that is given up must not wait for somebody else's release.
func TestAWaiterThatLeavesMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccumulator(100, time.Now)
		c := a.open()
		if !try(c, 80) {
			t.Fatal("the first does not fit")
		}
		ctx, leave := context.WithCancel(t.Context())
		left, served := make(chan error, 1), make(chan error, 1)
		go func() { left <- c.reserve(ctx, 50) }()
		synctest.Wait()
		go func() { served <- c.reserve(t.Context(), 10) }()
		synctest.Wait()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("the one who left got %v", err)
		}
		synctest.Wait()
		select {
		case err := <-served:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("the one behind it waits on, though its bytes are free")
			c.adjust(-80)
		}
	})
}

// Whatever the pipelines do: the limit holds but for one batch of each, what is
// given back is all there is, and nobody waits for bytes that are free.
func TestAccumulatorAgainstItsRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type request struct {
			n      int64
			cancel context.CancelFunc
			done   chan error
		}
		now := time.Now()
		limit := rapid.Int64Range(10, 1000).Draw(t, "limit")
		a := newAccumulator(limit, func() time.Time { return now })
		count := rapid.IntRange(1, 4).Draw(t, "pipelines")
		var accounts []*account
		for range count {
			accounts = append(accounts, a.open())
		}
		held := make([][]int64, count)
		waiting := make([][]*request, count)
		defer func() {
			for _, all := range waiting {
				for _, r := range all {
					r.cancel()
					<-r.done
				}
			}
		}()
		// settle takes over what was granted; the accounts' queues say who still waits.
		settle := func() {
			for i, c := range accounts {
				a.mu.Lock()
				left := len(c.waiting)
				a.mu.Unlock()
				for len(waiting[i]) > left {
					r := waiting[i][0]
					waiting[i] = waiting[i][1:]
					if err := <-r.done; err != nil {
						t.Fatalf("a request ends with %v", err)
					}
					held[i] = append(held[i], r.n)
				}
			}
		}
		pick := rapid.IntRange(0, count-1)
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				i := pick.Draw(t, "pipeline")
				n := rapid.Int64Range(1, limit).Draw(t, "bytes")
				ctx, cancel := context.WithCancel(context.Background())
				r := &request{n: n, cancel: cancel, done: make(chan error, 1)}
				a.mu.Lock()
				before, used := len(accounts[i].waiting), accounts[i].used
				a.mu.Unlock()
				go func() { r.done <- accounts[i].reserve(ctx, n) }()
				for {
					a.mu.Lock()
					queued, taken := len(accounts[i].waiting) > before, accounts[i].used > used
					a.mu.Unlock()
					if queued {
						waiting[i] = append(waiting[i], r)
						break
					}
					if taken {
						if err := <-r.done; err != nil {
							t.Fatal(err)
						}
						held[i] = append(held[i], n)
						break
					}
				}
			},
			"release": func(t *rapid.T) {
				i := pick.Draw(t, "pipeline")
				if len(held[i]) == 0 {
					t.Skip("nothing is held")
				}
				n := held[i][0]
				held[i] = held[i][1:]
				if rapid.Bool().Draw(t, "delivered") {
					accounts[i].progressed()
				}
				accounts[i].adjust(-n)
			},
			"leave": func(t *rapid.T) {
				i := pick.Draw(t, "pipeline")
				if len(waiting[i]) == 0 {
					t.Skip("nobody waits")
				}
				k := rapid.IntRange(0, len(waiting[i])-1).Draw(t, "who")
				r := waiting[i][k]
				waiting[i] = append(waiting[i][:k:k], waiting[i][k+1:]...)
				r.cancel()
				if err := <-r.done; !errors.Is(err, context.Canceled) {
					t.Fatalf("one who leaves gets %v", err)
				}
			},
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
			},
			"": func(t *rapid.T) {
				settle()
				var total, mostOver int64
				for i, c := range accounts {
					var sum, largest int64
					for _, n := range held[i] {
						sum += n
						largest = max(largest, n)
					}
					a.mu.Lock()
					used, waits := c.used, len(c.waiting)
					fits := waits > 0 && a.fits(c, c.waiting[0].n)
					a.mu.Unlock()
					if used != sum {
						t.Fatalf("pipeline %d holds %d bytes, the accumulator says %d", i, sum, used)
					}
					if fits {
						t.Fatalf("pipeline %d waits for bytes that are free", i)
					}
					if len(held[i]) == 0 && waits > 0 {
						t.Fatalf("pipeline %d holds nothing and waits", i)
					}
					total += sum
					mostOver += largest
				}
				if total > limit+mostOver {
					t.Fatalf("%d bytes are given of %d", total, limit)
				}
			},
		})
	})
}
