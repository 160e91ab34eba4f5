package socket

import "sync"

// mostPortions bounds what an account remembers of what is not durable yet.
const mostPortions = 16

// account is what one connection has sent that was accepted: that the spool has made
// durable. What it has only taken waits.
type account struct {
	mu       sync.Mutex
	accepted portion
	waiting  []portion // by end
}

// portion is a number of records, with the place in the spool where they end.
type portion struct {
	end            int64
	records, bytes int64
}

// add adds what the spool has taken. Portions are joined where there are many: the
// first of them counts when the last is durable.
func (a *account) add(p portion) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.waiting); n == mostPortions {
		last := &a.waiting[n-1]
		p.records, p.bytes = p.records+last.records, p.bytes+last.bytes
		*last = p
		return
	}
	a.waiting = append(a.waiting, p)
}

// settle returns what is accepted when the spool is durable up to a place.
func (a *account) settle(durable int64) portion {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for ; n < len(a.waiting) && a.waiting[n].end <= durable; n++ {
		a.accepted.end = a.waiting[n].end
		a.accepted.records += a.waiting[n].records
		a.accepted.bytes += a.waiting[n].bytes
	}
	if n > 0 {
		a.waiting = append(a.waiting[:0], a.waiting[n:]...)
	}
	return a.accepted
}
